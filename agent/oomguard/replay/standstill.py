"""Where a Decider's answer and state provably cannot change, so that a replay need not ask it.

A Decider is a function of its state, the time, and of what its thresholds say of the view: unknown, reached, still
held. A *stretch* is a run of ticks in which no threshold of any rule changes its word and no gap resets the holds.
Within a stretch

1. latches are what they are after its first tick, unless a threshold is reached and not held at once (`until` on
   the wrong side flips at every tick: such a stretch is never skipped);
2. holds are what they are once `settle_s` has passed: as long as the longest chain of nested `for`, each link of
   which may wait one more tick, at most a gap long, for the one inside;
3. after both, the truth of every rule is constant. Where none is true, nothing can act before the stretch ends;
   where all that are true cool down, nothing can act before the first of them has;
4. asking in between would change one slot of the state: the time of the last tick. That one is set.

tests/replay/test_standstill.py holds this against asking at every tick, for random rules on random runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oomguard.decide.conditions import State
from oomguard.decide.decide import LAST_TICK, Decider, Standing
from oomguard.decide.plan import HORIZONS_S, Condition, Rule
from oomguard.replay.readings import Readings
from oomguard.replay.recording import Column

MARGIN_S = 0.01         # times may be as large as 1e12 s, where float64 counts in tenths of a millisecond
WORTH_TICKS = 6         # asking how every rule stands costs about as much as so many ticks

Codes = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Stretches:
    """The stretches of a run, parallel to the samples that the window took."""

    t_s: Column
    first: NDArray[np.intp]             # first tick of the stretch that each tick is in
    end: NDArray[np.intp]               # the tick after its last
    is_steady: NDArray[np.bool_]        # False: a threshold flips at every tick

    def skip_from(self, at: int, standings: tuple[Standing, ...]) -> int:
        """Return the next tick that must be asked, given how the rules stand at tick `at` of a settled stretch."""
        end = int(self.end[at])
        true = [standing for standing in standings if standing.truth]
        if not true:
            return end
        if any(standing.cooling_s <= 0 for standing in true):
            return at + 1
        until_s = float(self.t_s[at]) + min(standing.cooling_s for standing in true) - MARGIN_S
        return min(max(int(np.searchsorted(self.t_s, until_s)), at + 1), end)


def stretches_of(readings: Readings, at: NDArray[np.intp], rules: tuple[Rule, ...], ram_bytes: float,
                 max_gap_s: float) -> Stretches:
    """Cut a run into stretches.

    Args:
        readings: of the run.
        at: the samples that count as ticks.
        rules: all that may be asked; more only cut finer.
        ram_bytes: what shares of RAM are of, as the Decider's.
        max_gap_s: a longer distance between two ticks restarts the Decider's holds.
    """
    t_s = readings.run.t_s[at]
    is_new, is_steady = np.ones(len(t_s), bool), np.ones(len(t_s), bool)
    if len(t_s):
        is_new[1:] = t_s[1:] > t_s[:-1] + max_gap_s
    for leaf in {leaf for rule in rules for leaf in _leaves(rule.when)}:
        codes = _codes(leaf, readings, at, ram_bytes)
        is_new[1:] |= codes[1:] != codes[:-1]
        if leaf.until is not None:
            is_steady &= codes != REACHED
    starts = np.flatnonzero(is_new)
    ends = np.append(starts[1:], len(t_s))[:len(starts)]
    lengths = ends - starts
    return Stretches(t_s, np.repeat(starts, lengths), np.repeat(ends, lengths), is_steady)


def settle_s(rules: tuple[Rule, ...], max_gap_s: float) -> float:
    """Return after how long all holds of a stretch are what they will stay."""
    return max((_chain_s(rule.when, max_gap_s, is_outermost=True) for rule in rules), default=0.0)


def max_gap_s(decider: Decider) -> float:
    """Return the gap that restarts a Decider's holds."""
    return decider._max_gap_s


def set_last_tick(state: State, t_s: float) -> None:
    """Do to the state what the skipped ticks would have done."""
    state[LAST_TICK] = t_s


def _chain_s(condition: Condition, gap_s: float, *, is_outermost: bool) -> float:
    own_s = condition.for_s + (0.0 if is_outermost else gap_s) if condition.for_s > 0 else 0.0
    return own_s + max((_chain_s(part, gap_s, is_outermost=is_outermost and condition.for_s <= 0)
                        for part in condition.parts), default=0.0)


def _leaves(condition: Condition) -> list[Condition]:
    if not condition.parts:
        return [condition]
    return [leaf for part in condition.parts for leaf in _leaves(part)]


UNKNOWN, NEITHER, REACHED, HELD, BOTH = range(5)        # what a threshold says of a reading


def _codes(leaf: Condition, readings: Readings, at: NDArray[np.intp], ram_bytes: float) -> Codes:
    if leaf.test == "phase":
        return np.array([UNKNOWN if readings.run.phases[i] is None
                         else BOTH if readings.run.phases[i] == leaf.word else NEITHER for i in at.tolist()], np.int8)
    reading = _reading(leaf, readings, ram_bytes)[at]
    is_below = leaf.test.endswith("_below")
    with np.errstate(invalid="ignore"):
        is_reached = (reading < leaf.value if is_below else reading >= leaf.value if leaf.test == "level_at_least"
                      else reading > leaf.value)
        until = leaf.value if leaf.until is None else leaf.until
        is_held = is_reached if leaf.until is None else reading < until if is_below else reading > until
    codes = np.where(is_reached, np.where(is_held, BOTH, REACHED), np.where(is_held, HELD, NEITHER))
    return np.where(reading == reading, codes, UNKNOWN).astype(np.int8)


def _reading(leaf: Condition, readings: Readings, ram_bytes: float) -> Column:
    """Return what `decide.conditions.reader` takes from the view, for all samples: float64[n]."""
    n = len(readings.levels)

    def column(name: str) -> Column:
        return readings.run.columns.get(name, np.full(n, np.nan))

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if leaf.test == "level_at_least":
            return readings.levels.astype(np.float64)
        if leaf.test in ("used_above", "charged_above"):
            return column(leaf.test.removesuffix("_above") + "_bytes") / column("limit_bytes")
        if leaf.test == "headroom_below":
            return column("headroom_bytes") / column("limit_bytes")
        if leaf.test == "available_below":
            if leaf.word != "ram":
                return column("available_bytes")
            return column("available_bytes") / ram_bytes if ram_bytes > 0 else np.full(n, np.nan)
    if leaf.test == "time_to_limit_below":
        is_never = np.isnan(readings.times_to_limit_s) & ~np.isnan(readings.forecasts[:, 0])
        return np.where(is_never, np.inf, readings.times_to_limit_s)
    if leaf.test == "probability_above":
        return readings.forecasts[:, HORIZONS_S.index(leaf.within_s)]
    return readings.psi_some_ratios if leaf.word == "some" else readings.psi_full_ratios
