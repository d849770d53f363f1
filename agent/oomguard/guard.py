"""The guard of one target. One tick: sense, window, score, decide, act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from oomguard.act.releases import Releases
from oomguard.decide.decide import Decider
from oomguard.decide.levels import level_of
from oomguard.decide.view import View
from oomguard.forecast import Forecast, time_to_limit_s
from oomguard.sense.sample import NAN, Sample

if TYPE_CHECKING:
    from oomguard.act.hooks import Outcome
    from oomguard.decide.plan import Plan
    from oomguard.scorer import Scorer
    from oomguard.sense.machine import MachineReading
    from oomguard.sense.sensor import Sensor
    from oomguard.window import Window

BLIND_AFTER = 5             # failed readings in a row before the guard says that it is blind
Tell = Callable[..., None]


class Reading(NamedTuple):
    """What the last tick came to."""

    sample: Sample
    forecast: Forecast | None
    level: int


class TargetGuard:
    """Guards one target: owns its sensor, window and the state of its rules."""

    __slots__ = ("_abstention", "_blind_ticks", "_constraint", "_decider", "_kills", "_look", "_needs_pressure", "_plain_ratios",
                 "_scorer", "_state", "_tell", "cooldowns_s", "last", "name", "phase", "releases", "sensor", "window")

    def __init__(self, name: str, sensor: Sensor, window: Window, scorer: Scorer, decider: Decider, releases: Releases,
                 plan: Plan, tell: Tell) -> None:
        self.name, self.sensor, self.window, self.releases = name, sensor, window, releases
        self._scorer, self._decider, self._tell = scorer, decider, tell
        self._plain_ratios = plan.plain_headroom_ratios
        self._needs_pressure = any(_asks_pressure(rule.when) for rule in plan.rules)
        self._state = window.state(plan.digest)
        self.cooldowns_s = tuple(rule.cooldown_s for rule in plan.rules)
        self.last: Reading | None = None
        self.phase: str | None = None
        self._kills = sensor.kills()
        self._blind_ticks = 0
        self._abstention = self._constraint = ""

    def tick(self, machine: MachineReading, now_s: float, late_s: float, read_machine: Callable[[], MachineReading]) -> None:
        """Do one tick.

        Args:
            machine: the machine at this tick, shared by all targets.
            now_s: CLOCK_BOOTTIME.
            late_s: how late the tick is.
            read_machine: reads the machine anew, for the look just before acting.

        Raises:
            TargetGoneError: the target has ended.
        """
        sample = self._sense(machine, now_s, late_s)
        if not self.window.push(sample):
            self._note_blindness(sample)
            return
        forecast = self._scorer.score(self.window)
        level = level_of(forecast, self._scorer.thresholds, sample.headroom_bytes / sample.limit_bytes, self._plain_ratios)
        self._note(Reading(sample, forecast, level))
        self.releases.see(sample, level)
        decision = self._decider.decide(self._view(sample, forecast, level), self._state, is_busy=self.releases.is_busy)
        if decision is not None:
            self._tell("decision", "notice", rule=decision.rule, because=decision.because, **self._figures())
            self.releases.begin(decision, self.cooldowns_s[decision.rule_index], sample, level, self._looker(read_machine))

    def finished(self, outcome: Outcome, now_s: float, read_machine: Callable[[], MachineReading]) -> bool:
        """Take in a hook's outcome; return False if it is another target's."""
        return self.releases.finished(outcome, now_s - self.window.start_s, self._looker(read_machine))

    def _sense(self, machine: MachineReading, now_s: float, late_s: float) -> Sample:
        evictable_bytes = NAN
        for hook in self.releases.hooks:
            if hook.evictable_bytes == hook.evictable_bytes:
                evictable_bytes = hook.evictable_bytes + (evictable_bytes if evictable_bytes == evictable_bytes else 0.0)
        return self.sensor.read(now_s - self.window.start_s, late_s, machine, evictable_bytes, self.phase)

    def _looker(self, read_machine: Callable[[], MachineReading]) -> Callable[[], Sample]:
        """Return what reads the target anew; the last sample serves where it cannot be read."""
        def look() -> Sample:
            from oomguard.clock import now_s
            from oomguard.errors import OomguardError

            try:
                return self._sense(read_machine(), now_s(), 0.0)
            except (OomguardError, OSError):    # gone this very moment: the next tick says so
                assert self.last is not None  # noqa: S101  a decision follows a reading
                return self.last.sample
        return look

    def _view(self, sample: Sample, forecast: Forecast | None, level: int) -> View:
        some = full = NAN
        if self._needs_pressure:
            some, full = self.window.share_of_time("psi_some_us", 10.0), self.window.share_of_time("psi_full_us", 10.0)
        return View(sample.t_s, level, forecast, None if forecast is None else time_to_limit_s(forecast), sample.limit_bytes,
                    sample.used_bytes, sample.charged_bytes, sample.headroom_bytes, sample.available_bytes, some, full, sample.phase)

    def _note(self, reading: Reading) -> None:
        """Tell what changed: level, binding constraint, why the model is silent, kills."""
        before, self.last = self.last, reading
        self._blind_ticks = 0
        if reading.sample.constraint != self._constraint:
            if self._constraint:
                self._tell("constraint", was=self._constraint, constraint=reading.sample.constraint, limit_bytes=reading.sample.limit_bytes)
            self._constraint = reading.sample.constraint
        if reading.level != (0 if before is None else before.level):
            self._tell("level", "notice", was=0 if before is None else before.level, **self._figures())
        if reading.forecast is None and (before is None or before.forecast is not None):
            self._note_abstention(self._scorer.abstains_because(self.window))
        kills = self.sensor.kills()
        if kills > self._kills >= 0:
            self._tell("kill", "error", killer="kernel", kills=kills - self._kills, **self._figures())
        self._kills = kills

    def _note_abstention(self, why: str) -> None:
        if why != self._abstention and why != "no model":
            self._tell("abstains", because=why, scorer="plain")
        self._abstention = why

    def _note_blindness(self, sample: Sample) -> None:
        self._blind_ticks += 1
        if self._blind_ticks == BLIND_AFTER:
            self._tell("blind", "error", because=self.sensor.trouble or f"{BLIND_AFTER} readings in a row cannot be used",
                       headroom_bytes=sample.headroom_bytes, limit_bytes=sample.limit_bytes)

    def _figures(self) -> dict[str, object]:
        """Return the fields that every line about this target's state carries."""
        if self.last is None:
            return {}
        sample, forecast, level = self.last
        figures: dict[str, object] = {
            "t_s": round(sample.t_s, 3), "level": level, "scorer": self.scorer_name, "constraint": sample.constraint,
            "limit_bytes": sample.limit_bytes, "used_bytes": sample.used_bytes, "headroom_bytes": sample.headroom_bytes}
        if forecast is not None:
            figures["time_to_limit_s"] = time_to_limit_s(forecast)
            figures.update((name, round(p, 4)) for name, p in zip(forecast._fields, forecast, strict=True))
        return figures

    @property
    def scorer_name(self) -> str:
        """Who spoke at the last tick: `forest`, or `plain` where no model did."""
        return "plain" if self.last is None or self.last.forecast is None else self._scorer.name

    def status(self) -> Mapping[str, object]:
        """Return what `oomguard status` shows of this target."""
        last = self.last
        sample = None if last is None else last.sample
        forecast = None if last is None else last.forecast
        return {
            "name": self.name, "constraint": sample and sample.constraint,
            "limit_bytes": sample and sample.limit_bytes, "used_bytes": sample and sample.used_bytes,
            "headroom_bytes": sample and sample.headroom_bytes, "level": 0 if last is None else last.level,
            "probabilities": None if forecast is None else dict(zip(forecast._fields, forecast, strict=True)),
            "time_to_limit_s": None if forecast is None else time_to_limit_s(forecast), "scorer": self.scorer_name,
            "abstains_because": self._abstention or None, "t_s": sample and sample.t_s, "kills": self._kills,
            "samples": self.window.samples_total, "releases": self.releases.count, "freed_bytes": self.releases.bytes_total,
            "last_freed_bytes": self.releases.last_freed_bytes,
            "hooks": [{"name": hook.name, "cost": hook.cost_now, "yield_bytes": hook.yield_bytes, "calls": hook.calls,
                       "failures": hook.failures, "on_hold_until_s": hook.on_hold_until_s} for hook in self.releases.hooks]}

    def close(self) -> None:
        """Let go of the target; the window's file stays."""
        self.releases.close()
        self.sensor.close()
        if isinstance(self._state, memoryview):
            self._state.release()
        self.window.close()


def _asks_pressure(condition: object) -> bool:
    from oomguard.decide.plan import Condition

    assert isinstance(condition, Condition)  # noqa: S101
    return condition.test == "pressure_above" or any(_asks_pressure(part) for part in condition.parts)
