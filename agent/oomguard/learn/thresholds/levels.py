"""Choose the level thresholds: least cost of missed kills and false alarms, at a prevalence stated for the field.

Cost per guarded hour, in false alarms: kills per hour in the field × what a miss costs × share missed + false
alarms per hour. A lab kills far more often than any field, so the prevalence is a stated number, not a count. A false
alarm costs as much more as the level is high.

A device type's own thresholds are the global ones moved together in logits, to where its cost is least. Its counts
are blended with the fleet's, by empirical Bayes (pooling.py): at each move its share missed is the beta-binomial's
(missed + m x the fleet's share) / (kills + m), its false alarms per hour the gamma-Poisson's, with weights m that the
fleet itself suggests: large where types are alike, small where they differ. Too few kills or hours: the global ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from oomguard.forest import HORIZONS_S
from oomguard.learn.protocol.events import LEADS_S, Tally, tally, total, track_of
from oomguard.learn.protocol.sweep import summed, sweep
from oomguard.learn.thresholds.pooling import rate_strength, share_strength
from oomguard.series import kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run
    from oomguard.learn.protocol.events import Track

GRID = tuple(round(float(1 / (1 + np.exp(-x))), 4) for x in np.linspace(-3.6, 4.6, 42))     # 0.027 … 0.99
TYPE_SHIFTS = tuple(np.linspace(-2.0, 2.0, 17).tolist())  # of one type's against the global ones
LEAST_KILLS, LEAST_QUIET_S = 10, 3600.0                   # fewer: the type has the global thresholds
LEAST, MOST = 0.01, 0.999
HELD = 1000.0                                             # a margin that no shift reaches
SILENT_MARGIN = -10.0            # where the model abstains and no plain level stands
PLAIN_HEADROOM_RATIO = 0.30      # level 1 without a forecast (DESIGN 2, decide/plan.py)


@dataclass(frozen=True, slots=True)
class Cost:
    """What is minimised."""

    miss_to_false_alarm: float = 20.0
    field_kills_per_h: float = 1.0

    def of(self, counts: Tally, leads_s: Sequence[int] = LEADS_S) -> float:
        """Return the cost per guarded hour; misses are averaged over the leads, equally."""
        shares = [1.0 - counts.caught[at] / counts.eligible[at]
                  for at, lead_s in enumerate(LEADS_S) if lead_s in leads_s and counts.eligible[at] > 0]
        missed = float(np.mean(shares)) if shares else 0.0
        false_per_h = counts.false / (counts.quiet_s / 3600.0) if counts.quiet_s > 0 else 0.0
        return self.field_kills_per_h * self.miss_to_false_alarm * missed + false_per_h


@dataclass(frozen=True, slots=True)
class TypeThresholds:
    """The alarm thresholds of one device type, and what they rest on."""

    thresholds: tuple[float, ...]       # p60…p300
    shift: float                        # in logits, against the global ones; 0: these are they
    kills: int
    quiet_h: float

    @property
    def is_own(self) -> bool:
        """Whether they differ from the global ones."""
        return self.shift != 0.0


def cheapest(tracks: Sequence[Track], candidates: Iterable[float], cost: Cost,
             leads_s: Sequence[int] = LEADS_S) -> float:
    """Return the candidate of least cost; of equals, what catches most at any lead, then the highest."""
    asked = list(candidates)
    whole = summed(sweep(track, asked) for track in tracks)
    return -min((cost.of(whole.at(at), leads_s), -float(whole.caught[at].sum()), -threshold)
                for at, threshold in enumerate(asked))[2]


def fit_thresholds(runs: Sequence[Run], forecasts: Sequence[NDArray[np.float64]], cost: Cost) -> tuple[float, ...]:
    """Return the thresholds of p60…p300 from out-of-fold forecasts of training runs.

    Each level has its own: the cheapest one where a false alarm costs as much more as the level is high, for rules
    give more back at each, and where a miss is judged at the leads that the level's horizon can give.

    Args:
        runs: the runs.
        forecasts: per run float[n, 5] calibrated p60…p300, NaN where the model abstains.
        cost: what is minimised.
    """
    chosen = []
    for at, horizon_s in enumerate(HORIZONS_S):
        level = len(HORIZONS_S) - at
        own = replace(cost, miss_to_false_alarm=cost.miss_to_false_alarm / level)
        tracks = [track_of(run, kept_in(run, np.nan_to_num(forecast[:, at])))
                  for run, forecast in zip(runs, forecasts, strict=True)]
        chosen.append(cheapest(tracks, (*GRID, MOST), own, [lead_s for lead_s in LEADS_S if lead_s < horizon_s]))
    return tuple(chosen)


def fit_by_type(runs: Sequence[Run], forecasts: Sequence[NDArray[np.float64]], cost: Cost,
                whole: tuple[float, ...]) -> dict[str, TypeThresholds]:
    """Return the thresholds of every device type in the runs.

    Args:
        runs: the runs.
        forecasts: per run float[n, 5] calibrated p60…p300, out of fold, NaN where the model abstains.
        cost: what is minimised.
        whole: the global thresholds, of p60…p300.
    """
    tracks: dict[str, list[Track]] = {}
    for run, forecast in zip(runs, forecasts, strict=True):
        margin = own_margin_of(run, forecast, whole)
        is_plain = np.isnan(forecast).any(axis=1) & (margin >= 0)       # no threshold of ours moves a plain level
        kept_margin = kept_in(run, np.where(is_plain, HELD, margin))
        tracks.setdefault(run.device_type, []).append(track_of(run, kept_margin))
    counts = {name: [total(tally(track, shift) for track in tracks[name]) for shift in TYPE_SHIFTS]
              for name in sorted(tracks)}
    fleet = [total(row[at] for row in counts.values()) for at in range(len(TYPE_SHIFTS))]
    weights = _fleet_weights([row[TYPE_SHIFTS.index(0.0)] for row in counts.values()])
    return {name: _type_thresholds(row, fleet, weights, cost, whole) for name, row in counts.items()}


def _type_thresholds(counts: list[Tally], fleet: list[Tally], weights: tuple[float, float], cost: Cost,
                     whole: tuple[float, ...]) -> TypeThresholds:
    """Return the move of least cost; of equals, the smallest, then the one that alarms least."""
    kills, quiet_s = int(counts[0].kills), counts[0].quiet_s
    if kills < LEAST_KILLS or quiet_s < LEAST_QUIET_S:
        return TypeThresholds(whole, 0.0, kills, quiet_s / 3600.0)
    priced = [(round(cost.of(_blended(own, all_, *weights)), 9), abs(shift), -shift)
              for own, all_, shift in zip(counts, fleet, TYPE_SHIFTS, strict=True)]
    shift = -min(priced)[2]
    return TypeThresholds(_shifted(whole, shift) if shift else whole, shift, kills, quiet_s / 3600.0)


def _fleet_weights(counts: list[Tally]) -> tuple[float, float]:
    """Return how many kills, and quiet hours, the fleet's word weighs in a type's, at the global thresholds."""
    eligible = np.array([row.eligible.sum() for row in counts])
    caught = np.array([row.caught.sum() for row in counts])
    leads = len(LEADS_S)                                        # of one kill: not independent, so counted as one trial
    return (share_strength((eligible - caught) / leads, eligible / leads),
            rate_strength([row.false for row in counts], [row.quiet_s / 3600.0 for row in counts]))


def _blended(own: Tally, fleet: Tally, kills_weight: float, hours_weight: float) -> Tally:
    """Return a type's counts with so many kills and quiet hours of the fleet's kind added."""
    is_there = (fleet.eligible > 0).astype(np.float64)
    share = fleet.caught / np.maximum(fleet.eligible, 1.0)
    per_s = fleet.false / max(fleet.quiet_s, 1.0)
    return replace(own, eligible=own.eligible + kills_weight * is_there,
                   caught=own.caught + kills_weight * share * is_there,
                   false=own.false + 3600.0 * hours_weight * per_s, quiet_s=own.quiet_s + 3600.0 * hours_weight)


def _shifted(thresholds: tuple[float, ...], shift: float) -> tuple[float, ...]:
    return tuple(round(float(np.clip(_expit(_logit(np.array(t)) + shift), LEAST, MOST)), 4) for t in thresholds)


def margin_of(run: Run, forecast: NDArray[np.float64], thresholds: tuple[float, ...]) -> NDArray[np.float64]:
    """Return by how much, in logits, the forecasts that stand pass their thresholds: ≥ 0 is level ≥ 1, kept ones too.

    Where the model abstains the plain level decides, as it does on the device: ≥ 0 at 30 % headroom and less.
    """
    return kept_in(run, own_margin_of(run, forecast, thresholds))


def own_margin_of(run: Run, forecast: NDArray[np.float64], thresholds: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the margin of each reading by itself: the best of its five forecasts'."""
    with np.errstate(invalid="ignore"):
        by_model = (_logit(forecast) - _logit(np.array(thresholds))).max(axis=1)
    plain = PLAIN_HEADROOM_RATIO - _headroom_ratios(run)
    return np.where(np.isnan(by_model), np.where(plain >= 0, plain, SILENT_MARGIN), by_model)


def kept_in(run: Run, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores of a run as its levels are kept on the device."""
    return kept(scores, run.t_s, _headroom_ratios(run), floor=SILENT_MARGIN)


def _headroom_ratios(run: Run) -> NDArray[np.float64]:
    return np.asarray(run.columns["headroom_bytes"] / run.columns["limit_bytes"], np.float64)


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(bounded / (1 - bounded)), np.float64)


def _expit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), np.float64)
