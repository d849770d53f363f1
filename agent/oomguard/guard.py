"""The guard of one target. One tick: sense, record, window, score, decide, act."""

from __future__ import annotations

from oomguard.clock import now_s
from oomguard.decide.decide import Decision
from oomguard.decide.levels import kept_level, level_of
from oomguard.decide.view import View
from oomguard.errors import OomguardError
from oomguard.forecast import Forecast, time_to_limit_s
from oomguard.sense.sample import NAN, Sample, made
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.act.hooks import Outcome
    from oomguard.act.releases import Releases
    from oomguard.decide.decide import Decider
    from oomguard.decide.plan import Action, Condition, Plan
    from oomguard.net_scorer import NetScorer
    from oomguard.notes import Notes
    from oomguard.record.recorder import RunRecorder
    from oomguard.record.silence import Silence
    from oomguard.scorer import Scorer
    from oomguard.sense.machine import Machine, MachineReading
    from oomguard.sense.portable import PortableMachine, PortableSensor
    from oomguard.sense.sensor import Sensor
    from oomguard.window import Window

PRESSURE_SPAN_S = 10.0      # what a rule's pressure_above looks back on
FORESIGHT = ("level_at_least", "probability_above", "time_to_limit_below")      # by a forecast, minutes ahead
OPERATOR = "operator"       # what log and journal call the rule of a release that somebody asked for
OPERATOR_LASTS_S = 30.0     # for so long it has to last, as a rule's cooldown is by default


class Reading(NamedTuple):
    """What a tick came to."""

    sample: Sample
    forecast: Forecast | None   # None: no model, or it abstains
    level: int


class TargetGuard:
    """Guards one target."""

    __slots__ = ("_cooldowns_s", "_decider", "_foresees", "_machine", "_needs_pressure", "_needs_time",
                 "_plain_ratios", "_start_s", "_state", "name", "notes", "phase", "reading", "recorder", "releases",
                 "scorer", "sensor", "window")

    def __init__(
        self, name: str, machine: Machine | PortableMachine, sensor: Sensor | PortableSensor, window: Window,
        scorer: Scorer | NetScorer, decider: Decider, releases: Releases, notes: Notes, recorder: RunRecorder | Silence,
        plan: Plan,
    ) -> None:
        self.name, self._machine, self.sensor, self.window = name, machine, sensor, window
        self.scorer, self._decider, self.releases, self.notes = scorer, decider, releases, notes
        self.recorder = recorder
        self._start_s, self._state = window.start_s, window.state
        self._plain_ratios = plan.plain_headroom_ratios
        self._cooldowns_s = tuple(rule.cooldown_s for rule in plan.rules)
        self._needs_pressure = any(_asks_for("pressure_above", rule.when) for rule in plan.rules)
        self._needs_time = any(_asks_for("time_to_limit_below", rule.when) for rule in plan.rules)
        self._foresees = tuple(any(_asks_for(test, rule.when) for test in FORESIGHT) for rule in plan.rules)
        self.reading: Reading | None = None
        self.phase: str | None = None

    def tick(self, machine: MachineReading, at_s: float, late_s: float) -> None:
        """Do one tick.

        Args:
            machine: the machine at this tick, shared by all targets.
            at_s: now, CLOCK_BOOTTIME.
            late_s: how late the tick is.

        Raises:
            TargetGoneError: the target has ended.
        """
        sample = self._sense(machine, at_s, late_s)
        self.recorder.sample(sample)
        if not self.window.push(sample):
            self.notes.blind(self.sensor.trouble or
                             f"headroom {sample.headroom_bytes:.0f} of {sample.limit_bytes:.0f} bytes cannot be used")
            return
        forecast = self.scorer.score(self.window)
        headroom_ratio = sample.headroom_bytes / sample.limit_bytes
        level = kept_level(level_of(forecast, self.scorer.thresholds, headroom_ratio, self._plain_ratios), sample.t_s,
                           headroom_ratio, self._state)
        self.reading = reading = made(Reading, (sample, forecast, level))
        self.notes.read(reading, self)
        self.releases.see(sample, level)
        decision = self._decider.decide(self._view(reading), self._state, is_busy=self.releases.is_busy)
        if decision is not None:
            self._act(decision, reading)
        else:
            self.releases.tend(sample)

    def _sense(self, machine: MachineReading, at_s: float, late_s: float) -> Sample:
        evictable_bytes = self.releases.evictable_bytes()
        return self.sensor.read(at_s - self._start_s, late_s, machine, evictable_bytes, self.phase)

    def _view(self, reading: Reading) -> View:
        sample, forecast, level = reading
        time_left_s = None              # where no rule asks for it
        if self._needs_time and forecast is not None:
            time_left_s = time_to_limit_s(forecast)
        some = full = NAN
        if self._needs_pressure:
            some = self.window.share_of_time("psi_some_us", PRESSURE_SPAN_S)
            full = self.window.share_of_time("psi_full_us", PRESSURE_SPAN_S)
        return made(View, (
            sample.t_s, level, forecast, time_left_s, sample.limit_bytes, sample.used_bytes, sample.charged_bytes,
            sample.headroom_bytes, sample.available_bytes, some, full, sample.phase))

    def _act(self, decision: Decision, reading: Reading) -> None:
        self.notes.decided(decision, reading)
        cooldown_s = self._cooldowns_s[decision.rule_index]
        may_wait = reading.forecast is not None and self._foresees[decision.rule_index]
        self.releases.begin(decision, cooldown_s, reading.sample, reading.level, self._look, may_wait=may_wait)

    def release(self, action: Action, because: str) -> str:
        """Ask for memory on somebody's word, within the rules' bounds; return why not, or "" when it is under way."""
        if self.reading is None:
            return "it has not been read yet"
        if self.releases.is_busy:
            return "a hook is at work"
        if not self._decider.claim(1, now_s() - self.window.start_s, self._state):
            return "the bounds on actions are reached"
        reading = self.reading
        decision = Decision(OPERATOR, -1, (action,), because)
        self.notes.decided(decision, reading)
        self.releases.begin(decision, OPERATOR_LASTS_S, reading.sample, reading.level, self._look)
        return "" if self.releases.is_busy else "no such hook, it is on hold, or no memory is needed now"

    def _look(self) -> Sample:
        """Read the target once more, just before a hook; the last sample serves where it cannot be read."""
        try:
            return self._sense(self._machine.read(), now_s(), 0.0)
        except (OomguardError, OSError):        # it went this very moment: the next tick says so
            if self.reading is None:
                raise
            return self.reading.sample

    def finished(self, outcome: Outcome) -> bool:
        """Take in a hook's outcome; return False if it is another target's."""
        return self.releases.finished(outcome, now_s() - self.window.start_s, self._look)

    def give_up(self) -> Window:
        """Let go of the target, but for its window: another guard goes on with it."""
        self.releases.close()
        self.sensor.close()
        self.scorer.release()
        self._state.release()
        return self.window

    def close(self) -> None:
        """Let go of the target; the window's file stays."""
        self.give_up().close()


def _asks_for(test: str, condition: Condition) -> bool:
    return condition.test == test or any(_asks_for(test, part) for part in condition.parts)
