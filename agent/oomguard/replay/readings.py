"""What the guard reads at every sample of a run, all at once: forecasts, levels, time to limit, pressure.

Each function gives, to the bit, what its readable counterpart gives sample by sample: `level_of`,
`time_to_limit_s`, `Window.share_of_time`, and which samples `Window.push` takes. tests/replay hold them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oomguard.decide.view import View
from oomguard.forecast import HORIZON_STEP_S, Forecast
from oomguard.guard import PRESSURE_SPAN_S
from oomguard.profile import Profile
from oomguard.replay.recording import Column, RecordedRun
from oomguard.ring import MAX_BLOCKS
from oomguard.scorer import NEVER, Model
from oomguard.series import forecasts_of_run, kept, release_times_s, series_rows

Levels = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Readings:
    """What each sample came to, parallel to the run's samples."""

    run: RecordedRun
    is_taken: NDArray[np.bool_]         # False: the window refused the sample, so nothing was decided on it
    forecasts: Column                   # float64[n, 5]: p60 … p300, NaN rows where there is none
    levels: Levels                      # as kept; -1 where the sample was refused
    times_to_limit_s: Column            # NaN where there is none
    psi_some_ratios: Column
    psi_full_ratios: Column

    def forecast(self, at: int) -> Forecast | None:
        """Return the forecast at a sample, None where there is none."""
        row = self.forecasts[at].tolist()
        return None if row[0] != row[0] else Forecast(*row)

    def time_to_limit_s(self, at: int) -> float | None:
        """Return the time to limit at a sample."""
        seconds = float(self.times_to_limit_s[at])
        return None if seconds != seconds else seconds

    def view(self, at: int) -> View:
        """Return what the rules saw at a sample."""
        columns = self.run.columns

        def number(name: str) -> float:
            return columns[name].item(at) if name in columns else np.nan

        return View(number("t_s"), int(self.levels[at]), self.forecast(at), self.time_to_limit_s(at),
                    number("limit_bytes"), number("used_bytes"), number("charged_bytes"), number("headroom_bytes"),
                    number("available_bytes"), self.psi_some_ratios.item(at), self.psi_full_ratios.item(at),
                    self.run.phases[at])


def read(run: RecordedRun, model: Model | None, profile: Profile, plain_ratios: Sequence[float],
         *, needs_pressure: bool = True) -> Readings:
    """Return the readings of a run.

    Args:
        run: the recorded samples and actions: a release is known to the window from the moment it was asked for.
        model: who forecasts; None: nobody, and the plain levels hold.
        profile: the static facts that the features join.
        plain_ratios: the plan's `plain_headroom_ratios`.
        needs_pressure: whether any rule looks at pressure; otherwise it stays unknown.
    """
    columns, n = run.columns, len(run.t_s)
    is_taken = taken(columns["t_s"], columns["limit_bytes"], columns["headroom_bytes"])
    forecasts = np.full((n, 5), np.nan)
    if model is not None and n:
        forecasts = forecasts_of_run(rows_of(run, model.phases), profile, model.forest)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        headroom_ratios = columns["headroom_bytes"] / columns["limit_bytes"]
    levels = np.full(n, -1, np.int8)
    own = levels_of(forecasts[is_taken], NEVER if model is None else model.thresholds, headroom_ratios[is_taken],
                    plain_ratios)
    levels[is_taken] = kept(own.astype(np.float64), columns["t_s"][is_taken], headroom_ratios[is_taken], floor=0.0)
    unknown = np.full(n, np.nan)
    some, full = (shares_of_time(columns["t_s"], columns[name], is_taken) if needs_pressure and name in columns
                  else unknown for name in ("psi_some_us", "psi_full_us"))
    return Readings(run, is_taken, forecasts, levels, times_to_limit(forecasts), some, full)


def rows_of(run: RecordedRun, phases: dict[str, int]) -> Column:
    """Return the run as the kernel reads it; a phase that the model does not know is unknown."""
    ids = None
    if phases:
        ids = np.array([float(phases.get(phase, np.nan)) if phase is not None else np.nan for phase in run.phases])
    releases_s = release_times_s([action.t_s for action in run.actions], [action.duration_s for action in run.actions])
    return series_rows(run.columns, run.constraints, ids, releases_s)


def taken(t_s: Column, limits: Column, headrooms: Column) -> NDArray[np.bool_]:
    """Return which samples the window takes: newer than the last one taken, with a limit and a finite headroom."""
    is_sound = (t_s >= 0) & (t_s < 1e12) & (limits > 0) & (limits < 1e30) & (np.abs(headrooms) < 1e30)
    newest = np.maximum.accumulate(np.where(is_sound, t_s, -np.inf))
    return is_sound & (t_s > np.concatenate([[-np.inf], newest[:-1]])[:len(t_s)])


def levels_of(forecasts: Column, thresholds: Sequence[float], headroom_ratios: Column,
              plain_ratios: Sequence[float]) -> Levels:
    """Return `decide.levels.level_of` for each row: int8[n]."""
    is_below = headroom_ratios[:, None] <= np.asarray(plain_ratios)
    plain = np.logical_and.accumulate(is_below, axis=1).sum(axis=1)
    p60, p120, p180, p240, p300 = forecasts.T
    together = p60 + p120 + p180 + p240 + p300
    learned = np.select([p60 >= thresholds[4], p120 >= thresholds[3], p180 >= thresholds[2], p240 >= thresholds[1],
                         p300 >= thresholds[0]], [5, 4, 3, 2, 1], 0)
    return np.where(together == together, learned, plain).astype(np.int8)


def times_to_limit(forecasts: Column) -> Column:
    """Return `forecast.time_to_limit_s` for each row: float64[n], NaN where it is None."""
    out = np.full(len(forecasts), np.nan)
    is_open = np.ones(len(forecasts), bool)
    before = np.zeros(len(forecasts))
    for step, p in enumerate(forecasts.T):
        is_open &= p == p
        at = np.flatnonzero(is_open & (p >= 0.5))
        out[at] = step * HORIZON_STEP_S + HORIZON_STEP_S * (0.5 - before[at]) / (p[at] - before[at])
        is_open[at] = False
        before = p
    return out


def shares_of_time(t_s: Column, counter: Column, is_taken: NDArray[np.bool_]) -> Column:
    """Return `Window.share_of_time` over 10 s at each sample: float64[n], NaN where unknown or refused.

    The window looks back over blocks: the last sample of each second. The newest block is the sample itself.
    """
    out = np.full(len(t_s), np.nan)
    at = np.flatnonzero(is_taken)
    if not len(at):
        return out
    now, seconds = t_s[at], np.floor(t_s[at])
    block = np.concatenate([[0], np.cumsum(seconds[1:] != seconds[:-1])])        # which block each sample is in
    last = at[np.concatenate([np.flatnonzero(np.diff(block)), [len(at) - 1]])]   # the last sample of each block
    blocks_s = t_s[last]
    edge = np.minimum(np.searchsorted(blocks_s, now - PRESSURE_SPAN_S), block)
    edge = np.maximum(edge, block - (MAX_BLOCKS - 1))
    while True:     # the window subtracts and then compares: a rounding may move the edge by one
        step = ((edge < block) & (now - blocks_s[edge] > PRESSURE_SPAN_S)).astype(np.intp)
        back = np.maximum(edge - 1, 0)
        step -= (step == 0) & (edge > 0) & (edge > block - (MAX_BLOCKS - 1)) & (now - blocks_s[back] <= PRESSURE_SPAN_S)
        if not step.any():
            break
        edge = edge + step
    oldest = np.where(edge == block, at, last[edge])
    elapsed_s = now - t_s[oldest]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (counter[at] - counter[oldest]) / elapsed_s / 1e6
    out[at] = np.where(elapsed_s > 0, shares, np.nan)
    return out
