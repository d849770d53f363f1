"""Calibrate each horizon's cumulated probability: isotonic regression thinned to at most 16 monotone knots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.isotonic import IsotonicRegression

from oomguard.forest import CLASSES, HORIZONS_S, MAX_KNOTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.forest import Knots

FLOOR = 0.001     # no finite sample shows that a kill is impossible, or certain


def fit_knots(raw: NDArray[np.float64], happened: NDArray[np.bool_], weight: NDArray[np.float64]) -> Knots:
    """Return the thinned isotonic map from raw to observed probability.

    The isotonic steps are summarised at quantiles of the raw score, so that the straight pieces between knots
    follow where the predictions are. Fewer than two outcomes give the identity.
    """
    if happened.all() or not happened.any():
        return ((0.0, 0.0), (1.0, 1.0))
    fitted = IsotonicRegression(y_min=FLOOR, y_max=1.0 - FLOOR, out_of_bounds="clip")
    fitted.fit(raw, happened, sample_weight=weight)
    inner = np.unique(np.quantile(raw, np.linspace(0.0, 1.0, 4 * MAX_KNOTS), method="nearest"))
    grid = np.unique(np.concatenate([[0.0], inner, [1.0]]))
    points = np.column_stack([grid, _smooth(fitted, grid, raw)])
    return tuple((float(x), float(y)) for x, y in _thin(points))


def apply_knots(knots: Knots, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the calibrated probabilities: straight lines between knots, flat outside them."""
    xs, ys = np.array(knots).T
    return np.asarray(np.interp(raw, xs, ys), np.float64)


def calibrate_all(raw: NDArray[np.float64], labels: NDArray[np.int8], weight: NDArray[np.float64]) -> list[Knots]:
    """Return knots for the horizons 60…300 s from float[n, 5] cumulated out-of-fold predictions."""
    return [fit_knots(raw[:, at], labels >= CLASSES - 1 - at, weight) for at in range(len(HORIZONS_S))]


def calibrated(all_knots: list[Knots], raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float[n, 5] calibrated p60…p300, never falling with the horizon: forest.cumulated for many rows."""
    columns = np.column_stack([apply_knots(knots, raw[:, at]) for at, knots in enumerate(all_knots)])
    return np.asarray(np.maximum.accumulate(columns, axis=1), np.float64)


def _smooth(fitted: IsotonicRegression, grid: NDArray[np.float64], raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the step function over the scores nearest to each grid point, so that a knot is no accident."""
    edges = np.concatenate([[-np.inf], (grid[1:] + grid[:-1]) / 2.0, [np.inf]])
    steps = fitted.predict(raw)
    owner = np.searchsorted(edges, raw, side="right") - 1
    sums = np.bincount(owner, steps, len(grid))
    counts = np.bincount(owner, minlength=len(grid))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), fitted.predict(grid))
    return np.maximum.accumulate(means)


def _thin(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop, one at a time, the inner point whose loss changes the curve least, until MAX_KNOTS are left."""
    kept = list(range(len(points)))
    while len(kept) > MAX_KNOTS:
        errors = [_error_without(points, kept, at) for at in range(1, len(kept) - 1)]
        del kept[1 + int(np.argmin(errors))]
    return points[kept]


def _error_without(points: NDArray[np.float64], kept: list[int], at: int) -> float:
    (x0, y0), (x1, y1), (x2, y2) = points[[kept[at - 1], kept[at], kept[at + 1]]]
    return float(abs(y0 + (y2 - y0) * (x1 - x0) / (x2 - x0) - y1))


