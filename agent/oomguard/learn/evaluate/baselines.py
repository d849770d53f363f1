"""What oomguard must be better than: thresholds, straight lines, pressure, earlyoom's rule, always and never.

Each baseline gives a score per sample from the recorded numbers alone and owns a grid of thresholds; which of them
it runs at is fitted on the training folds with the very cost that fits the model's. Fixed rules have a grid of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oomguard.series import kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

FITS_S = (30, 60, 120, 300)
KEPT_FITS_S = (120, 300)
TIME_GRID_S = (30.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0)
LEVEL_GRID = tuple(round(0.5 + 0.02 * step, 2) for step in range(25))
EMA_TIME_CONSTANT_S = 30.0
EMA_BLOCK_S = 3000.0       # exp(100) within a block: far from overflow
PSI_SPAN_S, PSI_RATIO = 2.0, 0.1       # systemd's DefaultMemoryPressureThresholdSec=200ms in a window of 2 s
EARLYOOM_RATIO = 0.10                  # earlyoom's default: available memory and free swap both at 10 % or less


@dataclass(frozen=True, slots=True)
class Baseline:
    """A name, a score per sample (greater = nearer to a kill, NaN = silent), and the thresholds to choose from."""

    name: str
    score: Callable[[Run], NDArray[np.float64]]
    thresholds: tuple[float, ...]
    is_per_type: bool = False
    is_kept: bool = False       # beyond DESIGN 5: a line whose alarms are kept as the device keeps levels


def all_baselines() -> tuple[Baseline, ...]:
    """Return every baseline of DESIGN 5, and two straight lines with kept alarms: what keeping alone is worth."""
    seconds = tuple(-s for s in TIME_GRID_S)
    return (
        Baseline("level threshold", used_ratio, LEVEL_GRID),
        Baseline("level 0.80", used_ratio, (0.80,)),
        Baseline("level 0.90", used_ratio, (0.90,)),
        Baseline("per-type threshold", used_ratio, LEVEL_GRID, is_per_type=True),
        *(Baseline(f"linear {span} s", _line(span), seconds) for span in FITS_S),
        *(Baseline(f"linear {span} s, kept", _kept(_line(span)), seconds, is_kept=True) for span in KEPT_FITS_S),
        Baseline("EMA slope", ema_score, seconds),
        Baseline("PSI rule", psi_share, (PSI_RATIO,)),
        Baseline("earlyoom's rule", earlyoom_score, (-EARLYOOM_RATIO,)),
        Baseline("constant", lambda run: np.ones(len(run.t_s)), (0.5,)),
        Baseline("never", lambda run: np.zeros(len(run.t_s)), (0.5,)),
    )


def used_ratio(run: Run) -> NDArray[np.float64]:
    """Return 1 − headroom/limit: used over limit where there is no swap, and no lie where there is."""
    return np.asarray(1.0 - run.columns["headroom_bytes"] / run.columns["limit_bytes"], np.float64)


def slope_per_s(t_s: NDArray[np.float64], values: NDArray[np.float64], span_s: float) -> NDArray[np.float64]:
    """Return the least-squares slope over the last `span_s` at each sample; NaN under three samples or 5 s.

    Prefix sums, centred on the run's mean time and value against cancellation.
    """
    x, y = t_s - t_s.mean(), values - values.mean()
    sums = [np.concatenate([[0.0], np.cumsum(part)]) for part in (x, y, x * x, x * y)]
    low = np.searchsorted(t_s, t_s - span_s - 1e-9, side="left")
    high = np.arange(1, len(t_s) + 1)
    n = (high - low).astype(np.float64)
    sx, sy, sxx, sxy = (part[high] - part[low] for part in sums)
    spread = n * sxx - sx * sx
    is_known = (n >= 3) & (t_s - t_s[low] >= 5.0) & (spread > 0)
    return np.where(is_known, (n * sxy - sx * sy) / np.where(spread > 0, spread, 1.0), np.nan)


def _minus_seconds_to_limit(run: Run, slope: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return −(headroom / −slope); −inf, which is never an alarm, where headroom does not fall."""
    headroom = np.maximum(run.columns["headroom_bytes"], 0.0)
    is_falling = slope < 0
    return np.where(is_falling, -headroom / np.where(is_falling, -slope, 1.0), -math.inf)


def _line(span_s: int) -> Callable[[Run], NDArray[np.float64]]:
    def score(run: Run) -> NDArray[np.float64]:
        return _minus_seconds_to_limit(run, slope_per_s(run.t_s, run.columns["headroom_bytes"], float(span_s)))

    return score


def _kept(score_of: Callable[[Run], NDArray[np.float64]]) -> Callable[[Run], NDArray[np.float64]]:
    def score(run: Run) -> NDArray[np.float64]:
        own = score_of(run)
        return kept(np.where(np.isnan(own), -math.inf, own), run.t_s, 1.0 - used_ratio(run))

    return score


def ema_score(run: Run) -> NDArray[np.float64]:
    """Return minus the seconds to the limit at an exponentially averaged slope (time constant 30 s)."""
    return _minus_seconds_to_limit(run, ema_slope_per_s(run.t_s, run.columns["headroom_bytes"]))


def ema_slope_per_s(t_s: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the exponentially averaged slope at each sample, 0 at the first: m += share x (slope - m).

    In blocks, as a weighted running sum: a sample's weight grows with exp(t / 30 s) instead of the older ones' fading.
    """
    step_s = np.diff(t_s)
    share = -np.expm1(-step_s / EMA_TIME_CONSTANT_S)
    push, slope = share * np.diff(values) / step_s, np.zeros(len(t_s))
    low = 0
    while low < len(push):
        high = max(int(np.searchsorted(t_s, t_s[low] + EMA_BLOCK_S, side="right")) - 1, low + 1)
        ago = np.minimum(t_s[low + 1:high + 1] - t_s[low], EMA_BLOCK_S) / EMA_TIME_CONSTANT_S
        grown = np.exp(ago)         # one long gap alone may reach the cap: what was before it is forgotten by then
        slope[low + 1:high + 1] = (slope[low] + np.cumsum(push[low:high] * grown)) / grown
        low = high
    return slope


def psi_share(run: Run) -> NDArray[np.float64]:
    """Return the share of the last 2 s in which some task stalled on memory; NaN where PSI is unknown."""
    t_s, some_us = run.t_s, run.columns["psi_some_us"]
    low = np.maximum(np.searchsorted(t_s, t_s - PSI_SPAN_S - 1e-9, side="left"), 0)
    low = np.minimum(low, np.maximum(np.arange(len(t_s)) - 1, 0))      # at slow cadences: since the tick before
    elapsed_s = t_s - t_s[low]
    return np.where(elapsed_s > 0, (some_us - some_us[low]) / np.where(elapsed_s > 0, elapsed_s, 1.0) / 1e6, np.nan)


def earlyoom_score(run: Run) -> NDArray[np.float64]:
    """Return minus the greater of the shares of memory available and of swap free: it acts when both are low.

    earlyoom looks at the machine; here it is given the binding constraint, where the kills happen.
    """
    swap_limit = run.columns["swap_limit_bytes"]
    has_swap = swap_limit > 0
    swap_ratio = np.where(has_swap, run.columns["swap_free_bytes"] / np.where(has_swap, swap_limit, 1.0), 0.0)
    # With swap, headroom also counts it: memory available is what is left of the limit itself.
    memory_ratio = 1.0 - run.columns["used_bytes"] / run.columns["limit_bytes"]
    return np.asarray(-np.fmax(memory_ratio, swap_ratio), np.float64)
