"""Whether a forecast means what it says: calibration of its probabilities, error of its time to limit.

One row per second of a run, so that fast recordings count no more; programs weigh the same, and within a program its
runs, as they do when the calibration is fitted. Rows whose outcome nobody knows are left out.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard.forecast import HORIZON_STEP_S
from oomguard.forest import CLASSES, HORIZONS_S
from oomguard.learn.label.labels import UNLABELLED, labels_of, seconds_to_next

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

    Reals = NDArray[np.float64]

BINS = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0])
TRUE_EDGES_S = (0, 30, 60, 120, 180, 240, 300)
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def calibration_of(runs: Sequence[Run], forecasts: Sequence[Reals]) -> dict[str, Any]:
    """Return, per horizon, reliability bins, Brier score (beside that of the bare base rate) and ECE.

    Args:
        runs: recorded runs.
        forecasts: per run float[n, 5] p60…p300, NaN where there is none.
    """
    said, labels, weight = _rows(runs, forecasts)
    return {str(horizon_s): _reliability(said[:, at], labels >= CLASSES - 1 - at, weight)
            for at, horizon_s in enumerate(HORIZONS_S)}


def time_to_limit_error(runs: Sequence[Run], times: Sequence[Reals]) -> list[dict[str, Any]]:
    """Return the error, forecast minus truth in seconds, by how far away the kill truly was.

    Args:
        runs: recorded runs.
        times: per run float[n] forecast seconds, NaN where the system gives none.
    """
    truth, given = [], []
    for run, said in zip(runs, times, strict=True):
        kept = _once_a_second(run)
        truth.append(seconds_to_next(run.t_s[kept], run.kills_s))
        given.append(said[kept])
    to_kill, forecast = np.concatenate(truth), np.concatenate(given)
    rows = [_errors(to_kill, forecast, low, high) for low, high in pairwise(TRUE_EDGES_S)]
    is_far = to_kill > TRUE_EDGES_S[-1]
    return [*rows, {"from_s": TRUE_EDGES_S[-1], "to_s": None, "samples": int(is_far.sum()),
                    "given_ratio": float(np.isfinite(forecast[is_far]).mean()) if is_far.any() else None,
                    "error_s": None, "median_absolute_s": None}]


def times_to_limit(forecast: Reals) -> Reals:
    """Return float[n]: forecast.time_to_limit_s of float[n, 5], NaN for its None."""
    before = np.column_stack([np.zeros(len(forecast)), forecast[:, :-1]])
    with np.errstate(all="ignore"):        # a step of 0, which no crossing lies on
        crossing = (np.arange(len(HORIZONS_S)) + (0.5 - before) / (forecast - before)) * HORIZON_STEP_S
        reaches = forecast >= 0.5
    is_known = np.logical_and.accumulate(~np.isnan(forecast), axis=1)
    reaches &= is_known
    first = reaches.argmax(axis=1)
    return np.where(reaches.any(axis=1), crossing[np.arange(len(forecast)), first], np.nan)


def _once_a_second(run: Run) -> NDArray[np.intp]:
    """Return the last sample of each second."""
    second = np.floor(run.t_s)
    return np.flatnonzero(np.append(second[1:] != second[:-1], True))


def _rows(runs: Sequence[Run], forecasts: Sequence[Reals]) -> tuple[Reals, NDArray[np.int8], Reals]:
    said, labels, owner = [], [], []
    for index, (run, forecast) in enumerate(zip(runs, forecasts, strict=True)):
        graded = labels_of(run)
        kept = _once_a_second(run)
        kept = kept[(graded[kept] != UNLABELLED) & np.isfinite(forecast[kept, 0])]
        said.append(forecast[kept])
        labels.append(graded[kept])
        owner.append(np.full(len(kept), index))
    run_of_row = np.concatenate(owner)
    rows = np.bincount(run_of_row, minlength=len(runs))
    counted = [run.app for run, count in zip(runs, rows, strict=True) if count]
    weight = np.array([1.0 / (count * counted.count(run.app)) if count else 0.0
                       for run, count in zip(runs, rows, strict=True)])[run_of_row]
    return np.concatenate(said), np.concatenate(labels), weight / max(float(weight.sum()), 1e-300)


def _reliability(said: Reals, happened: NDArray[np.bool_], weight: Reals) -> dict[str, Any]:
    if not len(said):
        return {"bins": [], "brier": None, "brier_of_base_rate": None, "ece": None, "base_rate": None, "samples": 0}
    which = np.clip(np.searchsorted(BINS, said, side="right") - 1, 0, len(BINS) - 2)
    share = np.bincount(which, weight, len(BINS) - 1)
    forecast = np.bincount(which, weight * said, len(BINS) - 1)
    observed = np.bincount(which, weight * happened, len(BINS) - 1)
    bins = [{"from": float(BINS[at]), "to": float(BINS[at + 1]), "share": float(share[at]),
             "forecast": float(forecast[at] / share[at]), "observed": float(observed[at] / share[at])}
            for at in range(len(share)) if share[at] > 0]
    base = float((weight * happened).sum())
    return {"bins": bins, "brier": float((weight * (said - happened) ** 2).sum()),
            "brier_of_base_rate": base * (1 - base), "ece": float(np.abs(forecast - observed).sum()),
            "base_rate": base, "samples": len(said)}


def _errors(to_kill: Reals, forecast: Reals, low_s: int, high_s: int) -> dict[str, Any]:
    inside = (to_kill > low_s) & (to_kill <= high_s)
    error = (forecast - to_kill)[inside & np.isfinite(forecast)]
    return {"from_s": low_s, "to_s": high_s, "samples": int(inside.sum()),
            "given_ratio": float(len(error) / inside.sum()) if inside.any() else None,
            "error_s": {f"q{100 * q:.0f}": float(np.quantile(error, q)) for q in QUANTILES} if len(error) else None,
            "median_absolute_s": float(np.median(np.abs(error))) if len(error) else None}
