"""A hook gives memory back: what is asked of it, what came of it, and what has been learned about it."""

from __future__ import annotations

import math
from collections.abc import Callable

from oomguard.decide.plan import HookPlan
from oomguard.typed import NamedTuple

NAN = float("nan")
EXECUTORS = ("thread", "helper", "inline", "remote")

FAILURES_BEFORE_HOLD = 3
FIRST_HOLD_S = 60.0
LONGEST_HOLD_S = 900.0
LIE_OVER_BYTES = 1 << 20    # smaller claims drown in what the rest of the target does meanwhile
LIE_BELOW_RATIO = 0.1       # measured over claimed
SATISFIED_RATIO = 0.9       # measured over asked: it gave what was asked, so it may well hold more
NEW_SHARE = 0.3             # weight of the newest value in every moving average here
COSTLIEST_RATIO = 100.0     # a hook that lies is at most so much dearer than it says


class Request(NamedTuple):
    """What a hook is asked for. A hook that can measure frees about `needed_bytes`, then stops."""

    level: int                          # 0…5
    needed_bytes: int                   # > 0
    release_all: bool = False           # give back whatever can be given; needed_bytes is then a lower bound
    deadline_s: float = 5.0             # from the moment the hook is entered
    reason: str = ""                    # for people: the rule and why it fired
    target: str = ""
    pids: tuple[int, ...] = ()          # the target's processes, for signal and command hooks
    cgroup: str = ""                    # the target's cgroup below the memory hierarchy, for reclaim hooks
    ratio: float = NAN                  # 0…1 where a rule asked for a share of what the hook holds
    pid_starts: tuple[int, ...] = ()    # start times of `pids`, clock ticks; empty: read when it starts


class Outcome(NamedTuple):
    """What came of one request."""

    hook: str
    ok: bool
    freed_bytes: float      # what the hook says it freed; NaN where it did not say
    duration_s: float
    why: str = ""           # why it failed, or a remark
    ticket: int = 0         # what Runner.start returned for it


Call = Callable[[Request], "float | None"]
Send = Callable[[int, Request], bool]       # ticket, request → whether somebody is there to hear it
ANY = "any"                                 # in a rule: every hook of the target


class Hook:
    """One hook with its live statistics. Unknown statistics are NaN.

    Args of the constructor are facts that somebody declared; everything else is learned: the runner records
    each outcome, the guard tells by `measured` what the samples then showed.
    """

    __slots__ = (
        "_given_bytes", "_hold_s", "_is_satisfied", "call", "calls", "cost", "deadline_s",
        "evictable_bytes", "executor", "failures", "failures_in_a_row", "last_latency_s", "last_why",
        "latency_s", "minimum_bytes", "name", "on_hold_until_s", "plan", "send", "targets", "word", "yield_bytes",
    )

    def __init__(
        self, name: str, executor: str, *, call: Call | None = None, plan: HookPlan | None = None,
        cost: float = 1.0, deadline_s: float = 5.0, minimum_bytes: int = 1 << 20,
        targets: tuple[str, ...] = (),
    ) -> None:
        if executor not in EXECUTORS:
            raise ValueError(f"executor {executor!r} is not one of {', '.join(EXECUTORS)}")
        if not (cost >= 0 and 0 < deadline_s < math.inf and minimum_bytes >= 0):
            raise ValueError(f"hook {name}: cost, deadline_s and minimum_bytes must be finite, not negative")
        self.name, self.executor, self.call, self.plan = name, executor, call, plan
        self.cost, self.deadline_s = cost, deadline_s
        self.minimum_bytes, self.targets = minimum_bytes, targets
        self.send: Send | None = None       # remote hooks
        self.word = name                    # what rules call it: two workers of one app share the word
        self.calls = self.failures = self.failures_in_a_row = 0
        self.evictable_bytes = NAN          # what it says it could give back; whoever knows sets it
        self.yield_bytes = NAN              # measured per release, moving average
        self.latency_s = NAN                # moving average
        self.last_latency_s = NAN
        self.last_why = ""
        self.on_hold_until_s = 0.0
        self._hold_s = FIRST_HOLD_S
        self._given_bytes = NAN             # claimed per release, moving average
        self._is_satisfied = False          # the last release gave what was asked

    @classmethod
    def from_call(
        cls, name: str, call: Call, *, cost: float = 1.0, deadline_s: float = 5.0,
        minimum_bytes: int = 1 << 20, targets: tuple[str, ...] = (), is_inline: bool = False,
    ) -> Hook:
        """Return a hook that calls `call(request)`, on the worker thread or, if it never blocks, at once."""
        return cls(name, "inline" if is_inline else "thread", call=call, cost=cost, deadline_s=deadline_s,
                   minimum_bytes=minimum_bytes, targets=targets)

    @classmethod
    def from_plan(cls, plan: HookPlan) -> Hook:
        """Return the hook that a rule file declares; the helper process carries it out."""
        return cls(plan.name, "helper", plan=plan, cost=plan.cost, deadline_s=plan.deadline_s,
                   minimum_bytes=plan.minimum_bytes, targets=plan.targets)

    @classmethod
    def from_remote(
        cls, name: str, send: Send, *, word: str, cost: float, deadline_s: float, minimum_bytes: int, target: str,
    ) -> Hook:
        """Return a hook that a client of the control socket registered; it is asked by `send` and answers later."""
        made = cls(name, "remote", cost=cost, deadline_s=deadline_s, minimum_bytes=minimum_bytes, targets=(target,))
        made.send, made.word = send, word
        return made

    def answers_to(self, word: str) -> bool:
        """Return whether a rule's hook of this name is this one."""
        return word in (ANY, self.word)

    def serves(self, target: str) -> bool:
        """Return whether the hook is for this target."""
        return not self.targets or target in self.targets

    def is_on_hold(self, now_s: float) -> bool:
        """Return whether repeated failure keeps the hook from being asked now."""
        return now_s < self.on_hold_until_s

    @property
    def is_measured(self) -> bool:
        """Whether samples have shown at least once what this hook gives."""
        return self.yield_bytes == self.yield_bytes

    @property
    def measured_cost(self) -> float:
        """Declared cost times claimed over measured bytes, 1…100 times; NaN before a claim was measured.

        The app gives up what it claims; the device gets what was measured.
        """
        if self._given_bytes != self._given_bytes:
            return NAN
        dearer = self._given_bytes / self.yield_bytes if self.yield_bytes > 0 else COSTLIEST_RATIO
        return self.cost * min(max(dearer, 1.0), COSTLIEST_RATIO)

    @property
    def cost_now(self) -> float:
        """Cost per byte to sort by: the measured one where known, else the declared one."""
        measured = self.measured_cost
        return self.cost if measured != measured else measured

    def holds_bytes(self) -> float:
        """Return what the hook could give: its own word, else what it gave on average, else NaN."""
        told = self.evictable_bytes
        return told if told == told else self.yield_bytes

    def expected_bytes(self, asked_bytes: float) -> float:
        """Return what asking for so much should give; NaN while nothing has been measured.

        A hook that gave what it was last asked for is trusted for any amount, up to what it says it holds.
        """
        if not self.is_measured:
            return NAN
        known = asked_bytes if self._is_satisfied else min(asked_bytes, self.yield_bytes)
        return min(known, self.evictable_bytes) if self.evictable_bytes == self.evictable_bytes else known

    def record(self, outcome: Outcome, now_s: float) -> None:
        """Take in an outcome: latency, and failures in a row.

        A claim large enough to be checked neither resets nor counts here: `measured` is its judge.
        """
        self.calls += 1
        self.last_latency_s, self.last_why = outcome.duration_s, outcome.why
        self.latency_s = _average(self.latency_s, outcome.duration_s)
        if not outcome.ok:
            self._fail(now_s)
        elif not outcome.freed_bytes > LIE_OVER_BYTES:
            self._succeed()

    def measured(self, asked_bytes: float, claimed_bytes: float, freed_bytes: float, now_s: float) -> str:
        """Take in what the samples showed after a release; return what is wrong with its claim, or "".

        Args: claimed_bytes: Outcome.freed_bytes. freed_bytes: Measurement.freed_bytes(); NaN changes nothing.
        """
        if freed_bytes != freed_bytes:
            return ""
        freed_bytes = max(freed_bytes, 0.0)
        self.yield_bytes = _average(self.yield_bytes, freed_bytes)
        self._is_satisfied = freed_bytes >= SATISFIED_RATIO * asked_bytes
        if claimed_bytes != claimed_bytes:
            return ""
        self._given_bytes = _average(self._given_bytes, claimed_bytes)
        if claimed_bytes <= LIE_OVER_BYTES:
            return ""
        if freed_bytes >= LIE_BELOW_RATIO * claimed_bytes:
            self._succeed()
            return ""
        self.last_why = f"claimed {claimed_bytes:.0f} bytes, the samples show {freed_bytes:.0f}"
        self._fail(now_s)
        return self.last_why

    def _fail(self, now_s: float) -> None:
        self.failures += 1
        self.failures_in_a_row += 1
        if self.failures_in_a_row >= FAILURES_BEFORE_HOLD:  # after a hold, one more failure is enough
            self.on_hold_until_s = now_s + self._hold_s
            self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)

    def _succeed(self) -> None:
        self.failures_in_a_row, self.on_hold_until_s, self._hold_s = 0, 0.0, FIRST_HOLD_S


def _average(old: float, new: float) -> float:
    return new if old != old else old + NEW_SHARE * (new - old)
