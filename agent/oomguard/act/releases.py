"""The releases of one target: from a decision to hooks, one at a time, to what they really gave."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from oomguard.act.hooks import LIE_BELOW_RATIO, Hook, Outcome, Request
from oomguard.act.measure import Measurement
from oomguard.act.release import (
    LastRelease,
    choose,
    helped,
    horizon_s,
    latency_s,
    left_to_ask_bytes,
    look_again,
    needed_bytes,
    spared_bytes,
)
from oomguard.act.runner import Runner
from oomguard.clock import now_s
from oomguard.decide.decide import Decision
from oomguard.decide.plan import Release
from oomguard.sense.constraints import PROFILE
from oomguard.sense.sample import NAN, Sample
from oomguard.typed import TYPE_CHECKING, NamedTuple
from oomguard.window import Window

if TYPE_CHECKING:
    from oomguard.record.recorder import RunRecorder
    from oomguard.record.silence import Silence

REMEMBERED = 64             # releases whose yield is taken out of the rise of demand
# What may wait begins so long before it must have given: memory comes back over 3 s after a hook has ended
# (act/measure.py), and a burst of which the window's q80 says little is seen a tick or two late.
DUE_S = 5.0

Tell = Callable[..., None]  # (event, severity, **fields)
Facts = Callable[[], tuple[str, tuple[int, ...], str]]      # the target's name, its processes, its cgroup


class Asked:
    """One request to one hook, under way or being measured."""

    __slots__ = ("bytes", "constraint", "decision", "hook", "level", "measurement", "outcome", "over_s", "record",
                 "release", "t_s", "ticket")

    def __init__(
        self, hook: Hook, bytes_: int, release: Release, decision: Decision, level: int, constraint: str,
    ) -> None:
        self.hook, self.bytes, self.release, self.decision, self.level = hook, bytes_, release, decision, level
        self.constraint = constraint            # under which it is to make room
        self.ticket, self.record = 0, 0
        self.t_s = self.over_s = 0.0        # when it began and, as the loop saw it, ended
        self.measurement: Measurement | None = None
        self.outcome: Outcome | None = None

    def coming_bytes(self) -> float:
        """Return what it should give yet: by what its hook gave before, else by what it was asked for."""
        if self.outcome is not None and not self.outcome.ok:
            return 0.0
        known = self.hook.expected_bytes(self.bytes)
        expected = known if known == known else float(self.bytes)
        return expected if self.measurement is None else self.measurement.missing_bytes(expected)

    @property
    def is_all(self) -> bool:
        """Whether everything is asked for, needed or not."""
        return self.release.kind == "all"

    def request(self, facts: Facts) -> Request:
        """Return what the hook is told."""
        ratio = self.release.amount if self.release.kind == "ratio" else NAN
        return Request(self.level, self.bytes, self.is_all, self.hook.deadline_s,
                       f"{self.decision.rule}: {self.decision.because}", *facts(), ratio=ratio)


class Waiting(NamedTuple):
    """A decision whose release is not due yet."""

    decision: Decision
    cooldown_s: float
    level: int
    look: Callable[[], Sample]
    until_t_s: float            # from then on its rule may decide anew


class Releases:
    """What is under way for one target. At most one hook of it works at a time."""

    __slots__ = ("_asked", "_critical_ratio", "_facts", "_is_dry_run", "_last", "_measured", "_others", "_queue",
                 "_recorder", "_released", "_runner", "_tell", "_waiting", "_window", "bytes_total", "count",
                 "hooks", "last_freed_bytes")

    def __init__(
        self, hooks: Sequence[Hook], runner: Runner, window: Window, tell: Tell, critical_ratio: float, facts: Facts,
        recorder: RunRecorder | Silence, *, is_dry_run: bool = False,
        others: Callable[[], Iterable[Releases]] = tuple,
    ) -> None:
        """Take what it works with.

        Args: others: tells the releases of the other targets, which may make room under the same limit.
        """
        self.hooks, self._others = list(hooks), others
        self._runner, self._window, self._tell, self._facts = runner, window, tell, facts
        self._critical_ratio, self._recorder, self._is_dry_run = critical_ratio, recorder, is_dry_run
        self._queue: deque[Asked] = deque()
        self._asked: Asked | None = None        # whose hook works now
        self._measured: Asked | None = None     # whose yield the samples still show
        self._waiting: Waiting | None = None
        self._last: LastRelease | None = None
        self._released: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self.count, self.bytes_total, self.last_freed_bytes = 0, 0.0, NAN

    def evictable_bytes(self) -> float:
        """Return what the hooks say they could give back, all together; NaN where none says."""
        known = [hook.evictable_bytes for hook in self.hooks if hook.evictable_bytes == hook.evictable_bytes]
        return sum(known) // 1.0 if known else NAN         # whole bytes: recordings hold integers

    @property
    def is_busy(self) -> bool:
        """Whether a hook works, or waits for its turn."""
        return self._asked is not None or bool(self._queue)

    def begin(
        self, decision: Decision, cooldown_s: float, sample: Sample, level: int, look: Callable[[], Sample],
        *, may_wait: bool = False,
    ) -> None:
        """Carry a decision out.

        Args:
            decision: its actions, in order.
            cooldown_s: of its rule; a release has to last until the rule may act again.
            sample: what was decided on.
            level: 1…5, or 0 where the rule does not go by levels.
            look: reads the target anew, just before each hook.
            may_wait: a kill was foreseen: what is needed alone is released as soon as that is due, in the cooldown.
        """
        waiting = Waiting(decision, cooldown_s, level, look, sample.t_s + cooldown_s)
        if may_wait and not self._is_due(decision, sample):
            self._waiting = waiting
            self._tell("release-waits", rule=decision.rule, level=level, headroom_bytes=sample.headroom_bytes,
                       because="there is room for longer than the hooks take")
        else:
            self._carry_out(waiting, sample)

    def _is_due(self, decision: Decision, sample: Sample) -> bool:
        """Return whether to begin now: what an app gives up too early it has to fetch again."""
        if any(action.release.kind != "needed" for action in decision.actions):
            return True
        hooks = [hook for hook in self.hooks for action in decision.actions if hook.answers_to(action.hook)]
        ahead_s = DUE_S + max((latency_s(hook) for hook in hooks), default=0.0)
        return not hooks or self._needed_bytes(hooks, ahead_s, sample, self._window.headroom_history()) > 0

    def _carry_out(self, waiting: Waiting, sample: Sample) -> None:
        decision, cooldown_s, level, look, _until_t_s = waiting
        self._waiting = None
        history, is_wanted = self._window.headroom_history(), False
        for action in decision.actions:
            hooks = [hook for hook in self.hooks if hook.answers_to(action.hook)]
            ahead_s = max((horizon_s(hook, cooldown_s) for hook in hooks), default=cooldown_s)
            needed = self._needed_bytes(hooks, ahead_s, sample, history)
            if needed or action.release.kind != "needed":
                is_wanted = True
                self._queue.extend(Asked(hook, bytes_, action.release, decision, level, sample.constraint)
                                   for hook, bytes_ in choose(hooks, action.release, needed, now_s(), self._last))
        if not is_wanted:
            self._tell("nothing-needed", rule=decision.rule, level=level, headroom_bytes=sample.headroom_bytes,
                       because="there is room until the rule may act again, or others were asked to make it")
        elif not self._queue:
            self._tell("nobody-to-ask", "warning", rule=decision.rule, level=level,
                       because="no hook of this name is there, or all are on hold")
        self._start_next(sample, look)

    def _needed_bytes(
        self, hooks: list[Hook], ahead_s: float, sample: Sample, history: list[tuple[float, float]],
    ) -> int:
        """Return how much these hooks have to give for what comes in so long; 0 for nothing."""
        least_bytes = min((hook.minimum_bytes for hook in hooks), default=0)
        needed = needed_bytes(history, sample.headroom_bytes, sample.limit_bytes, ahead_s, least_bytes,
                              self._critical_ratio, self._released)
        return left_to_ask_bytes(needed, self._others_coming_bytes(sample.constraint), least_bytes) if needed else 0

    def _others_coming_bytes(self, constraint: str) -> float:
        """Return what other targets' hooks should give yet under a limit: one need is asked for once.

        An app's own limit, which no cgroup has, bears the same name for every app and is shared with none.
        """
        if constraint == PROFILE:
            return 0.0
        return sum(other.coming_bytes(constraint) for other in self._others() if other is not self)

    def coming_bytes(self, constraint: str) -> float:
        """Return what the hooks that were asked should give yet under a limit."""
        if self._asked is self._measured is None:
            return 0.0
        return sum(asked.coming_bytes() for asked in (self._asked, self._measured, *self._queue)
                   if asked is not None and asked.constraint == constraint)

    def _start_next(self, sample: Sample, look: Callable[[], Sample]) -> None:
        while self._queue and self._asked is None:
            asked = self._queue.popleft()
            now = look()
            is_wish = asked.is_all or asked.decision.rule_index < 0      # everything, or what somebody asked for
            if not is_wish and not look_again(sample.headroom_bytes, now.headroom_bytes, asked.bytes):
                self._tell("release-dropped", hook=asked.hook.name, rule=asked.decision.rule,
                           because="the memory came back by itself")
                continue
            self._end_measurement()
            asked.measurement = Measurement(now.constraint, now.headroom_bytes)
            asked.t_s, self._asked = now.t_s, asked
            if not self._is_dry_run:            # nothing is released in a dry run: no feature may think so
                self._window.released(now.t_s)
                asked.record = self._recorder.action(now.t_s, asked.decision.rule, asked.hook.name, asked.level,
                                                     asked.bytes)
            asked.ticket = self._runner.start(asked.hook, asked.request(self._facts))

    def finished(self, outcome: Outcome, t_s: float, look: Callable[[], Sample]) -> bool:
        """Take in an outcome; return False if it is another target's."""
        asked = self._asked
        if asked is None or asked.ticket != outcome.ticket or asked.measurement is None:
            return False
        asked.outcome, asked.over_s = outcome, t_s
        asked.measurement.ended(t_s)
        if not self._is_dry_run:
            self._window.released(asked.t_s + (t_s - asked.t_s))    # to the bit as replay adds it up
        self._asked, self._measured = None, asked
        if not outcome.ok:
            self._tell("hook-failed", "warning", hook=outcome.hook, because=outcome.why,
                       failures=asked.hook.failures_in_a_row)
        if self._queue:
            self._start_next(look(), look)
        return True

    def see(self, sample: Sample, level: int) -> None:
        """Take in a tick's sample: it shows what a release gave."""
        for asked in (self._asked, self._measured):
            if asked is not None and asked.measurement is not None:
                is_over = asked.measurement.see(sample.t_s, sample.constraint, sample.headroom_bytes)
                if is_over and asked is self._measured:
                    self._end_measurement()
        if level == 0 and not self.is_busy and self._measured is None:
            self._last = None

    def tend(self, sample: Sample) -> None:
        """Begin what waits, if it is due now; after the tick's decision, which goes before it (so does a replay)."""
        if self._waiting is None or self.is_busy:
            return
        if sample.t_s >= self._waiting.until_t_s:
            self._waiting = None
        elif self._is_due(self._waiting.decision, sample):
            self._carry_out(self._waiting, sample)

    def _end_measurement(self) -> None:
        asked, self._measured = self._measured, None
        if asked is None or asked.outcome is None or asked.measurement is None:
            return
        freed_bytes = NAN if self._is_dry_run else asked.measurement.freed_bytes()
        lie, given_bytes, shown_bytes = self._judge(asked, asked.outcome, freed_bytes)
        self._last = LastRelease(asked.hook.name, helped(asked.bytes, shown_bytes, asked.outcome.ok))
        if freed_bytes == freed_bytes:
            self._released.append((asked.t_s, given_bytes))
            self.bytes_total += freed_bytes
        if not self._is_dry_run:
            self._recorder.acted(asked.record, freed_bytes, asked.over_s - asked.t_s)
        self.count += 1
        self.last_freed_bytes = freed_bytes
        self._tell("release", "warning" if lie else "notice", t_s=asked.t_s, rule=asked.decision.rule,
                   hook=asked.hook.name, level=asked.level,
                   requested_bytes="all" if asked.is_all else asked.bytes, freed_bytes=freed_bytes,
                   claimed_bytes=asked.outcome.freed_bytes, duration_s=asked.outcome.duration_s, ok=asked.outcome.ok,
                   why=lie or asked.outcome.why or None)

    def _judge(self, asked: Asked, outcome: Outcome, freed_bytes: float) -> tuple[str, float, float]:
        """Tell the hook what it gave; return what is wrong with its claim, what it gave, and what it did.

        Where growth stopped instead, it was freed inside the app, and the samples do not contradict the claim. What
        then grows into it is demand that takes no headroom: so the claim counts as given, as if it had come back.
        """
        claimed_bytes = outcome.freed_bytes
        if not outcome.ok or self._is_dry_run:
            return "", freed_bytes, freed_bytes
        shown_bytes = max(freed_bytes, spared_bytes(self._window.headroom_history(), asked.t_s, self._released))
        is_inside = freed_bytes < LIE_BELOW_RATIO * claimed_bytes <= shown_bytes
        lie = asked.hook.measured(asked.bytes, NAN if is_inside else claimed_bytes, freed_bytes, now_s())
        return lie, claimed_bytes if is_inside else freed_bytes, shown_bytes

    def close(self) -> None:
        """Report what is still being measured."""
        self._end_measurement()
