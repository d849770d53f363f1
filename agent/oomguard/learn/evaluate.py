"""Compare oomguard with every baseline under one protocol, on runs that nothing was fitted to.

The main split leaves one program out; another splits by run. Within a split every system's parameters (thresholds,
calibration, trees) come from the other folds, chosen by the same cost, and the model is scored as on the device:
by its compiled forest, plain levels where it abstains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score

from oomguard.forest import HORIZONS_S
from oomguard.learn.baselines import all_baselines
from oomguard.learn.examples import rows_of
from oomguard.learn.figures import figures_of, intervals_of, recall_at_budgets
from oomguard.learn.labels import UNLABELLED, labels_of
from oomguard.learn.protocol import SILENT, tally, total, track_of
from oomguard.learn.thresholds import Cost, cheapest, margin_of
from oomguard.profile import Profile
from oomguard.series import forecasts_of_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from oomguard.learn.baselines import Baseline
    from oomguard.learn.crossval import Fitted
    from oomguard.learn.dataset import Run
    from oomguard.learn.protocol import Tally, Track

PROTOCOL = {
    "debounce": "2 of the last 3 s on a 1 s grid that holds the last score for 1.5 cadences; "
                "at cadences above 1 s, 2 ticks in a row",
    "alarm": "debounced level >= 1 and none counted in the last 300 s of the run",
    "caught": "debounced level >= 1 at kill - L; recall at L over kills in runs older than L + 10 s",
    "false": "no kill within 300 s after the alarm; early: of those, a kill within 300-900 s",
    "quiet": "all time more than 300 s before a run's end; alarms outside it count nowhere",
    "median_lead_s": "over all kills: since when, within the last 300 s, an alarm had stood; 0 where missed",
    "intervals": "95 %, bootstrap over programs, the same resamples for every system",
    "recall_at_budget": "best recall of any one threshold within the budget, chosen in hindsight for every system "
                        "alike; null where quiet hours x budget < 3",
    "pr_auc": "per labelled sample, a kill within 300 s; secondary",
}


@dataclass(frozen=True, slots=True)
class System:
    """One system's answer on every real run: a score, and in alarm where it is >= its run's threshold."""

    name: str
    operating_point: dict[str, Any]
    scores: list[NDArray[np.float64]]
    tracks: list[Track]
    thresholds: list[float]         # one per run: its fold's


def oomguard_system(name: str, runs: list[Run], folds: list[int], fitted: list[Fitted], *, hides_facts: bool = False,
                    ) -> System:
    """Score each run with the model of the fold that left it out."""
    scores, spoken = [], 0.0
    for run, fold in zip(runs, folds, strict=True):
        forecast = forecasts_of(run, fitted[fold], hides_facts=hides_facts)
        spoken += float(np.isfinite(forecast[:, 0]).mean()) / len(runs)
        scores.append(margin_of(run, forecast, fitted[fold].thresholds))
    used = sorted(set(folds))
    point = {"thresholds": [dict(zip((f"p{h}" for h in HORIZONS_S), fitted[k].thresholds, strict=True)) for k in used],
             "forecast_time_ratio": spoken}
    return System(name, point, scores, [track_of(run, score) for run, score in zip(runs, scores, strict=True)],
                  [0.0] * len(runs))


def forecasts_of(run: Run, fitted: Fitted, *, hides_facts: bool = False) -> NDArray[np.float64]:
    """Return float[n, 5] p60…p300 as the device computes them, NaN where it abstains."""
    profile = Profile() if hides_facts else run.profile
    return forecasts_of_run(rows_of(run), profile, fitted.model.forest(fitted.calibration))


def baseline_system(baseline: Baseline, runs: list[Run], folds: list[int], cost: Cost) -> System:
    """Fit a baseline's threshold on the other folds, for each fold; per device type where it wants that."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = [baseline.score(run) for run in runs]
    tracks = [track_of(run, score) for run, score in zip(runs, scores, strict=True)]
    chosen: dict[tuple[int, str], float] = {}
    for at, run in enumerate(runs):
        key = (folds[at], run.device_type if baseline.is_per_type else "")
        if key not in chosen:
            others = [i for i in range(len(runs)) if folds[i] != folds[at]]
            same = [i for i in others if not key[1] or runs[i].device_type == key[1]]
            fit_on = same if any(len(runs[i].kills_s) for i in same) else others
            chosen[key] = cheapest([tracks[i] for i in fit_on], baseline.thresholds, cost)
    thresholds = [chosen[folds[at], run.device_type if baseline.is_per_type else ""] for at, run in enumerate(runs)]
    point = {"thresholds": sorted({abs(value) for value in thresholds}), "is_fitted": len(baseline.thresholds) > 1}
    return System(baseline.name, point, scores, tracks, thresholds)


def compare(runs: list[Run], folds: list[int], fitted: list[Fitted], cost: Cost, seed: int) -> dict[str, Any]:
    """Return {system name: figures} for one split, all systems in one table."""
    systems = [oomguard_system("oomguard", runs, folds, fitted),
               oomguard_system("oomguard, static facts removed", runs, folds, fitted, hides_facts=True),
               *(baseline_system(baseline, runs, folds, cost) for baseline in all_baselines())]
    reference = _by_program(runs, systems[0])
    return {system.name: describe(runs, system, reference if system is not systems[0] else None, seed)
            for system in systems}


def describe(runs: list[Run], system: System, reference: dict[str, Tally] | None, seed: int) -> dict[str, Any]:
    """Return one row of the table: the keys of DESIGN 5."""
    by_program = _by_program(runs, system)
    return {"operating_point": system.operating_point, **figures_of(total(by_program.values())),
            "recall_at_budget": recall_at_budgets(system.tracks), "pr_auc": pr_auc(runs, system.scores),
            "intervals": intervals_of(by_program, reference, seed),
            "by_program": {name: figures_of(counts) for name, counts in by_program.items()}}


def pr_auc(runs: Iterable[Run], scores: list[NDArray[np.float64]]) -> dict[str, float | None]:
    """Return the area under precision and recall per labelled sample, with the prevalence it must be read against."""
    labels = [labels_of(run) for run in runs]
    known = np.concatenate(labels) != UNLABELLED
    truth = np.concatenate(labels)[known] > 0
    said = np.concatenate(scores)[known]
    if not truth.any() or truth.all():
        return {"value": None, "prevalence": float(truth.mean()) if len(truth) else None}
    finite = np.where(np.isnan(said) | (said <= SILENT), -1e18, np.minimum(said, 1e18))
    return {"value": float(average_precision_score(truth, finite)), "prevalence": float(truth.mean())}


def data_of(runs: list[Run]) -> dict[str, Any]:
    """Return how much there is to learn from and to be wrong about."""
    counts = total(tally(track_of(run, np.zeros(len(run.t_s))), math.inf) for run in runs)
    return {"runs": len(runs), "kills": int(counts.kills), "quiet_hours": counts.quiet_s / 3600.0,
            "programs": sorted({run.app for run in runs}), "device_types": sorted({run.device_type for run in runs})}


def _by_program(runs: list[Run], system: System) -> dict[str, Tally]:
    parts: dict[str, list[Tally]] = {}
    for run, track, threshold in zip(runs, system.tracks, system.thresholds, strict=True):
        parts.setdefault(run.app, []).append(tally(track, threshold))
    return {name: total(tallies) for name, tallies in sorted(parts.items())}
