"""Choose the level thresholds: least cost of missed kills and false alarms, at a prevalence stated for the field.

Cost per guarded hour, in false alarms: kills per hour in the field × what a miss costs × share missed + false
alarms per hour. A lab kills far more often than any field, so the prevalence is a stated number, not a count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oomguard.forest import HORIZONS_S
from oomguard.learn.protocol import LEADS_S, Tally, tally, total, track_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run
    from oomguard.learn.protocol import Track

GRID = tuple(round(float(1 / (1 + np.exp(-x))), 4) for x in np.linspace(-3.6, 4.6, 42))     # 0.027 … 0.99
SHIFTS = tuple(np.linspace(-1.0, 3.0, 17).tolist())       # of all thresholds together, in logits
LEAST, MOST = 0.01, 0.999
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


def cheapest(tracks: Sequence[Track], candidates: Iterable[float], cost: Cost,
             leads_s: Sequence[int] = LEADS_S) -> float:
    """Return the candidate of least cost; of equals, the highest, which alarms least."""
    priced = [(cost.of(total(tally(track, threshold) for track in tracks), leads_s), -threshold)
              for threshold in candidates]
    return -min(priced)[1]


def fit_thresholds(runs: Sequence[Run], forecasts: Sequence[NDArray[np.float64]], cost: Cost) -> tuple[float, ...]:
    """Return the thresholds of p60…p300 from out-of-fold forecasts of training runs.

    First each horizon by itself, its misses judged at the leads shorter than it; then all are shifted together, since
    an alarm is any of the five.

    Args:
        runs: the runs.
        forecasts: per run float[n, 5] calibrated p60…p300, NaN where the model abstains.
        cost: what is minimised.
    """
    alone = []
    for at, horizon_s in enumerate(HORIZONS_S):
        tracks = [track_of(run, forecast[:, at]) for run, forecast in zip(runs, forecasts, strict=True)]
        alone.append(cheapest(tracks, GRID, cost, [lead_s for lead_s in LEADS_S if lead_s < horizon_s]))
    tracks = [track_of(run, margin_of(run, forecast, tuple(alone)))
              for run, forecast in zip(runs, forecasts, strict=True)]
    shift = cheapest(tracks, SHIFTS, cost)
    return tuple(round(float(np.clip(_expit(_logit(np.array(t)) + shift), LEAST, MOST)), 4) for t in alone)


def margin_of(run: Run, forecast: NDArray[np.float64], thresholds: tuple[float, ...]) -> NDArray[np.float64]:
    """Return by how much, in logits, the best of the five forecasts passes its threshold: ≥ 0 is level ≥ 1.

    Where the model abstains the plain level decides, as it does on the device: ≥ 0 at 30 % headroom and less.
    """
    with np.errstate(invalid="ignore"):
        by_model = (_logit(forecast) - _logit(np.array(thresholds))).max(axis=1)
    plain = PLAIN_HEADROOM_RATIO - run.columns["headroom_bytes"] / run.columns["limit_bytes"]
    return np.where(np.isnan(by_model), np.where(plain >= 0, plain, -10.0), by_model)


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(bounded / (1 - bounded)), np.float64)


def _expit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), np.float64)
