"""Conditions: each node of a rule's `when` becomes one small function of a view and the persisted state.

A condition is true, false or unknown (None), by Kleene's logic: a NaN reading is unknown, `not` of unknown is
unknown, `all` is false as soon as one part is false and `any` true as soon as one is true, whatever else is
unknown. Only true acts.

Two things are remembered, in slots of the flat state (NaN = nothing is remembered there):

- *hold* (`for`): since when the condition has been true at every tick. False or unknown ends it.
- *latch* (`until`): that it became true and has not been seen back at `until`. An unknown reading leaves it.

Calling a test twice with the same view and state gives the same answer, so that a decision can be put into
words after it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import ge, gt, lt

from oomguard.decide.plan import HORIZONS_S, Condition
from oomguard.decide.view import View
from oomguard.profile import NAN
from oomguard.typed import NamedTuple, Protocol

INFINITE = float("inf")
LATCHED = 1.0

Truth = bool | None
Call = Callable[[View, "State"], Truth]
Read = Callable[[View], float]


class State(Protocol):
    """The flat float64 state: a list, an array("d") or a memoryview cast to "d" over a file."""

    def __getitem__(self, slot: int, /) -> float: ...
    def __setitem__(self, slot: int, value: float, /) -> None: ...


class Test(NamedTuple):
    """A condition that can be asked."""

    condition: Condition
    call: Call
    parts: tuple[Test, ...] = ()


class Slots:
    """Hands out the slots of the flat state, in file order."""

    __slots__ = ("first", "holds", "next")

    def __init__(self, first: int) -> None:
        self.first = self.next = first
        self.holds: list[int] = []          # these restart after a gap or when the clock went back

    def take(self) -> int:
        """Return the next free slot."""
        self.next += 1
        return self.next - 1

    def take_hold(self) -> int:
        """Return the next free slot, for a hold."""
        self.holds.append(self.take())
        return self.holds[-1]


def compile_condition(condition: Condition, slots: Slots, cadence_s: float, ram_bytes: float) -> Test:
    """Return the test of a condition; `ram_bytes` is what a share of RAM is taken of (NaN: unknown)."""
    parts = tuple(compile_condition(part, slots, cadence_s, ram_bytes) for part in condition.parts)
    if parts:
        call = GROUPS[condition.test](tuple(part.call for part in parts))
    elif condition.test == "phase":
        call = _phase(condition.word)
    else:
        call = _threshold(condition, slots, ram_bytes)
    if condition.for_s > 0:
        # Ticks come on an absolute schedule, some microseconds late: without slack `for: 3s` at 1 Hz would be
        # three ticks or four by chance. At least two samples are needed always.
        need_s = max(condition.for_s - cadence_s / 10, condition.for_s / 2)
        call = _held(call, need_s, slots.take_hold())
    return Test(condition, call, parts)


def reader(condition: Condition, ram_bytes: float) -> Read:
    """Return the function that takes a threshold's reading from a view: a level, ratio, bytes or seconds."""
    if condition.test == "probability_above":
        return _read_probability(HORIZONS_S.index(condition.within_s))
    if condition.test == "pressure_above":
        return READERS["pressure_" + condition.word]
    if condition.test == "available_below" and condition.word == "ram":
        return _read_available_ratio(ram_bytes)
    return READERS[condition.test]


def _threshold(condition: Condition, slots: Slots, ram_bytes: float) -> Call:
    read, value = reader(condition, ram_bytes), condition.value
    is_below = condition.test.endswith("_below")
    starts = lt if is_below else ge if condition.test == "level_at_least" else gt
    if condition.until is not None:
        return _latched(read, starts, value, lt if is_below else gt, condition.until, slots.take())

    def test(view: View, _state: State) -> Truth:
        reading = read(view)
        return None if reading != reading else starts(reading, value)

    return test


Compare = Callable[[float, float], bool]


def _latched(read: Read, starts: Compare, value: float, stays: Compare, until: float, slot: int) -> Call:
    def test(view: View, state: State) -> Truth:
        reading = read(view)
        if reading != reading:
            return None
        was_true = state[slot] == LATCHED
        is_true = stays(reading, until) if was_true else starts(reading, value)
        if is_true != was_true:
            state[slot] = LATCHED if is_true else NAN
        return is_true

    return test


def _held(call: Call, need_s: float, slot: int) -> Call:
    def test(view: View, state: State) -> Truth:
        truth = call(view, state)
        if not truth:
            state[slot] = NAN
            return truth
        since_s = state[slot]
        if not since_s <= view.t_s:         # NaN: it begins now; the future: a damaged state
            state[slot] = since_s = view.t_s
        return view.t_s - since_s >= need_s

    return test


def _phase(name: str) -> Call:
    def test(view: View, _state: State) -> Truth:
        return None if view.phase is None else view.phase == name

    return test


def _any(calls: tuple[Call, ...]) -> Call:
    def test(view: View, state: State) -> Truth:
        answer: Truth = False
        for call in calls:              # every part is asked each time: holds must go on
            truth = call(view, state)
            if truth:
                answer = True
            elif truth is None and not answer:
                answer = None
        return answer

    return test


def _all(calls: tuple[Call, ...]) -> Call:
    def test(view: View, state: State) -> Truth:
        answer: Truth = True
        for call in calls:
            truth = call(view, state)
            if truth is None:
                answer = answer and None
            elif not truth:
                answer = False
        return answer

    return test


def _not(calls: tuple[Call, ...]) -> Call:
    (call,) = calls

    def test(view: View, state: State) -> Truth:
        truth = call(view, state)
        return None if truth is None else not truth

    return test


GROUPS: dict[str, Callable[[tuple[Call, ...]], Call]] = {"any": _any, "all": _all, "not": _not}


def _read_level(view: View) -> float:
    return view.level


def _read_used(view: View) -> float:
    limit_bytes = view.limit_bytes
    return view.used_bytes / limit_bytes if limit_bytes > 0 else NAN


def _read_charged(view: View) -> float:
    limit_bytes = view.limit_bytes
    return view.charged_bytes / limit_bytes if limit_bytes > 0 else NAN


def _read_headroom(view: View) -> float:
    limit_bytes = view.limit_bytes
    return view.headroom_bytes / limit_bytes if limit_bytes > 0 else NAN


def _read_available(view: View) -> float:
    return view.available_bytes


def _read_available_ratio(ram_bytes: float) -> Read:
    def read(view: View) -> float:
        return view.available_bytes / ram_bytes if ram_bytes > 0 else NAN

    return read


def _read_time_to_limit(view: View) -> float:
    if view.time_to_limit_s is not None:
        return view.time_to_limit_s
    return NAN if view.forecast is None else INFINITE


def _read_probability(horizon: int) -> Read:
    def read(view: View) -> float:
        return NAN if view.forecast is None else view.forecast[horizon]

    return read


def _read_some(view: View) -> float:
    return view.psi_some_ratio


def _read_full(view: View) -> float:
    return view.psi_full_ratio


READERS: dict[str, Read] = {
    "level_at_least": _read_level, "used_above": _read_used, "charged_above": _read_charged,
    "headroom_below": _read_headroom, "available_below": _read_available,
    "time_to_limit_below": _read_time_to_limit,
    "pressure_some": _read_some, "pressure_full": _read_full,
}
