"""A system's answers on every real run: the model's by its compiled forest, each baseline's by its own rule.

A baseline is scored and counted once; which of its thresholds it stands at is fitted for each split on the other
folds, from those counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard.forest import HORIZONS_S
from oomguard.learn.label.examples import rows_of
from oomguard.learn.protocol.events import total, track_of
from oomguard.learn.protocol.sweep import summed, sweep
from oomguard.learn.thresholds.levels import margin_of
from oomguard.profile import Profile
from oomguard.series import forecasts_of_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run
    from oomguard.learn.evaluate.baselines import Baseline
    from oomguard.learn.protocol.events import Tally, Track
    from oomguard.learn.protocol.sweep import Sweep
    from oomguard.learn.thresholds.levels import Cost
    from oomguard.learn.train.crossval import Fitted

    Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class System:
    """One system's answer on every real run: a score, and in alarm where it is >= its run's threshold."""

    name: str
    operating_point: dict[str, Any]
    scores: list[Reals]
    tracks: list[Track]
    thresholds: list[float]                 # one per run: its fold's
    forecasts: list[Reals] | None = None    # float[n, 5] each, of a system that forecasts
    levels: list[tuple[float, ...]] | None = None       # p60…p300 thresholds of each run's fold

    @property
    def operating_tracks(self) -> list[Track]:
        """The tracks to sweep: less each run's own threshold where types have their own, so that all shift together."""
        if "shifts_together" not in self.operating_point:
            return self.tracks
        return [track.less(threshold) for track, threshold in zip(self.tracks, self.thresholds, strict=True)]


@dataclass(frozen=True, slots=True)
class Answers:
    """A baseline's scores and what each of its thresholds would count, run by run: the same in every split."""

    baseline: Baseline
    scores: list[Reals]
    tracks: list[Track]
    swept: list[Sweep]


def answers_of(baseline: Baseline, runs: Sequence[Run]) -> Answers:
    """Score every run once, and count at every threshold of the baseline's grid."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = [baseline.score(run) for run in runs]
    tracks = [track_of(run, score) for run, score in zip(runs, scores, strict=True)]
    return Answers(baseline, scores, tracks, [sweep(track, baseline.thresholds) for track in tracks])


def oomguard_system(name: str, runs: list[Run], folds: list[int], fitted: list[Fitted], *, hides_facts: bool = False,
                    ) -> System:
    """Score each run with the model of the fold that left it out."""
    forecasts = [forecasts_of(run, fitted[fold], hides_facts=hides_facts)
                 for run, fold in zip(runs, folds, strict=True)]
    used = sorted(set(folds))
    point = {"thresholds": [dict(zip((f"p{h}" for h in HORIZONS_S), fitted[k].thresholds, strict=True)) for k in used]}
    levels = [fitted[fold].thresholds_for(run.device_type) for run, fold in zip(runs, folds, strict=True)]
    return forecast_system(name, runs, forecasts, levels, point)


def forecast_system(name: str, runs: Sequence[Run], forecasts: list[Reals], levels: list[tuple[float, ...]],
                    operating_point: dict[str, Any]) -> System:
    """Return a system that forecasts, whatever made the forecasts.

    Args:
        name: what it is called in tables.
        runs: the runs.
        forecasts: per run float[n, 5] p60…p300, NaN where it abstains and the plain levels hold.
        levels: per run the thresholds of p60…p300.
        operating_point: what to say of them.
    """
    spoken = float(np.mean([np.isfinite(forecast[:, 0]).mean() for forecast in forecasts])) if forecasts else 0.0
    scores = [margin_of(run, forecast, each) for run, forecast, each in zip(runs, forecasts, levels, strict=True)]
    return System(name, {**operating_point, "forecast_time_ratio": spoken}, scores,
                  [track_of(run, score) for run, score in zip(runs, scores, strict=True)], [0.0] * len(runs),
                  forecasts, levels)


def forecasts_of(run: Run, fitted: Fitted, *, hides_facts: bool = False) -> Reals:
    """Return float[n, 5] p60…p300 as the device computes them, NaN where it abstains."""
    profile = Profile() if hides_facts else run.profile
    return forecasts_of_run(rows_of(run, hides_phase=hides_facts), profile, fitted.model.forest(fitted.calibration))


def baseline_system(answers: Answers, runs: Sequence[Run], folds: list[int], cost: Cost) -> System:
    """Fit a baseline's threshold on the other folds, for each fold; per device type where it wants that."""
    grid = answers.baseline.thresholds
    chosen = _cheapest_for(answers, runs, folds, cost) if len(grid) > 1 else lambda _fold, _type: 0
    thresholds = [grid[chosen(fold, run.device_type)] for fold, run in zip(folds, runs, strict=True)]
    point: dict[str, Any] = {"thresholds": sorted({abs(value) for value in thresholds}), "is_fitted": len(grid) > 1}
    if answers.baseline.is_per_type:
        point["shifts_together"] = True
    return System(answers.baseline.name, point, answers.scores, answers.tracks, thresholds)


def counts_by_program(runs: Sequence[Run], system: System) -> dict[str, Tally]:
    """Return each program's counts with every run at its own threshold."""
    parts: dict[str, list[Tally]] = {}
    for run, track, threshold in zip(runs, system.tracks, system.thresholds, strict=True):
        parts.setdefault(run.app, []).append(sweep(track, (threshold,)).at(0))
    return {name: total(tallies) for name, tallies in sorted(parts.items())}


def _cheapest_for(answers: Answers, runs: Sequence[Run], folds: list[int], cost: Cost) -> Callable[[int, str], int]:
    """Return a function of fold and device type: which of the grid costs least on the others."""
    is_per_type, grid = answers.baseline.is_per_type, answers.baseline.thresholds
    groups: dict[tuple[int, str], list[Sweep]] = {}
    for run, fold, swept in zip(runs, folds, answers.swept, strict=True):
        groups.setdefault((fold, run.device_type if is_per_type else ""), []).append(swept)
    sums = {key: summed(parts) for key, parts in groups.items()}
    found: dict[tuple[int, str], int] = {}

    def choose(fold: int, device_type: str) -> int:
        key = (fold, device_type if is_per_type else "")
        if key not in found:
            others = [part for (of_fold, _type), part in sums.items() if of_fold != fold]
            same = [part for (of_fold, of_type), part in sums.items() if of_fold != fold and of_type == key[1]]
            whole = summed(same if any(part.kills for part in same) else others)
            # of equals the highest, which alarms least
            found[key] = min(range(len(grid)), key=lambda at: (cost.of(whole.at(at)), -grid[at]))
        return found[key]

    return choose
