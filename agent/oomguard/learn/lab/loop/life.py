"""One trial of the closed loop: a program's life in its cell, an arm that watches it, and a hook that takes its time.

Window, scorer, decider, releases and runner are the device's own. The hook is a remote one, as an app registers it: it
is asked, waits for its latency, then has the driver drop so much of the cache, and says what the driver said.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard.act.hooks import Hook
from oomguard.act.release import CRITICAL_RATIO
from oomguard.act.releases import Releases
from oomguard.act.runner import Runner
from oomguard.clock import now_s
from oomguard.decide.plan import TargetPlan
from oomguard.errors import TargetGoneError
from oomguard.learn.lab.cell import Cell
from oomguard.learn.lab.chamber import AFTERMATH_S, START_S, Driver
from oomguard.learn.lab.drive import Orders
from oomguard.learn.lab.loop.plan import CURVE_STEP_S, live_bytes
from oomguard.learn.lab.loop.triggers import HOOK, NONE, Trigger
from oomguard.learn.lab.program import Spec
from oomguard.profile import Profile
from oomguard.record.silence import Silence
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import resolve
from oomguard.window import Window

if TYPE_CHECKING:
    from oomguard.act.hooks import Request
    from oomguard.learn.lab.loop.plan import Setting, Trial
    from oomguard.learn.lab.loop.triggers import Policy
    from oomguard.scorer import Model
    from oomguard.sense.machine import Machine, MachineReading
    from oomguard.sense.portable import PortableSensor
    from oomguard.sense.sample import Sample
    from oomguard.sense.sensor import Sensor

ALIVE, OOM, CRASH, FAILED = "alive", "oom", "crash", "failed"
DEADLINE_LATENCIES, DEADLINE_MORE_S = 1.5, 5.0      # what whoever registers such a hook would declare
CADENCE_S = 1.0


class Eviction:
    """One request to the hook and what came of it."""

    __slots__ = ("asked_bytes", "asked_s", "done_s", "dropped_bytes", "due_s", "is_sent", "ticket")

    def __init__(self, ticket: int, asked_s: float, asked_bytes: float, due_s: float) -> None:
        self.ticket, self.asked_s, self.asked_bytes, self.due_s = ticket, asked_s, asked_bytes, due_s
        self.is_sent, self.done_s, self.dropped_bytes = False, math.nan, math.nan


class Life:
    """A trial while it lasts. `ended` is empty until it is over."""

    def __init__(self, trial: Trial, setting: Setting, planned_s: float, policy: Policy, model: Model | None,
                 profile: Profile, machine: Machine) -> None:
        """Make the cell and start the program. Raises NotPermittedError, UsageError."""
        self.trial, self.planned_s, self._machine = trial, planned_s, machine
        case = trial.case
        self.ended, self.ended_after_s, self.why = "", math.nan, ""
        self.evictions: list[Eviction] = []
        self.used_ratios: list[float] = []
        self.levels: list[int] = []
        self.abstained_s = 0.0
        self._begun_s, self._made_s, self._killed_s = math.nan, time.monotonic(), math.nan
        self._sensor: Sensor | PortableSensor | None = None
        self._sample: Sample | None = None
        self._window = Window.in_memory(phases=None if model is None else model.phases)
        self._trigger = None if trial.arm == NONE else Trigger(trial.arm, policy, model, profile)
        self._runner = Runner()
        self._releases = Releases([self._hook()], self._runner, self._window, lambda *_a, **_k: None, CRITICAL_RATIO,
                                  lambda: (trial.trial_id, (), ""), Silence())
        self._cell = Cell(trial.trial_id, case.limit_bytes)
        try:
            self.driver = Driver(self._orders(live_bytes(case, setting)))
        except OSError:
            self._cell.remove()
            raise

    def _orders(self, live: np.ndarray[Any, np.dtype[np.float64]]) -> Orders:
        case = self.trial.case
        spec = Spec(case.program, case.limit_bytes, self._cell.folder, case.seed)
        curve = [float(value) for value in np.round(live)]
        return Orders(spec._asdict(), self._cell.procs, curve, CURVE_STEP_S, case.cache_bytes, case.refill_bytes_per_s)

    def _hook(self) -> Hook:
        latency_s = self.trial.latency_s
        return Hook.from_remote(HOOK, self._asked, word=HOOK, cost=1.0, minimum_bytes=1 << 20, target="",
                                deadline_s=DEADLINE_LATENCIES * latency_s + DEADLINE_MORE_S)

    def _asked(self, ticket: int, request: Request) -> bool:
        self.evictions.append(Eviction(ticket, self.t_s, request.needed_bytes, now_s() + self.trial.latency_s))
        return True

    @property
    def t_s(self) -> float:
        """Seconds since the program took orders; NaN before."""
        return now_s() - self._begun_s

    @property
    def has_begun(self) -> bool:
        """Whether the program has taken orders."""
        return self._sensor is not None

    @property
    def used_bytes(self) -> float:
        """What it is charged, 0 before the first reading."""
        return 0.0 if self._sample is None else self._sample.charged_bytes

    def attend(self) -> bool:
        """Hear the driver, and send it what is due; return whether it has just begun. Cheap: for every moment."""
        gone = None
        for told in self.driver.said():
            if "started" in told:
                self._begin()
            elif "evicted" in told:
                self._evicted(float(told["evicted"]))
            gone = told.get("gone", gone)
        if not self.ended and (gone is not None or not self.has_begun):
            self._see_end(gone)
        for eviction in self.evictions:
            if not eviction.is_sent and now_s() >= eviction.due_s and not self.ended:
                eviction.is_sent = True
                self.driver.evict(eviction.asked_bytes)
        if self.has_begun and not self.ended:
            for outcome in self._runner.poll(now_s()):
                self._releases.finished(outcome, self.t_s, self._look)
        return self.has_begun

    def _begin(self) -> None:
        self._sensor = open_sensor(resolve(TargetPlan(self.trial.trial_id, "cgroup", self._cell.path)), self._machine,
                                   Profile())
        self._begun_s = now_s()

    def _evicted(self, dropped_bytes: float) -> None:
        done = next(eviction for eviction in self.evictions if eviction.is_sent and math.isnan(eviction.done_s))
        done.done_s, done.dropped_bytes = self.t_s, dropped_bytes
        self._runner.answer(done.ticket, dropped_bytes, "")

    def _see_end(self, gone: str | None) -> None:
        if self.has_begun and gone is not None:
            self._see_kills()
            self._end(CRASH if math.isnan(self._killed_s) else OOM, gone)
        elif gone is not None or time.monotonic() - self._made_s > START_S:
            self._end(FAILED, gone or f"did not start within {START_S:.0f} s")

    def _see_kills(self) -> None:
        if math.isnan(self._killed_s) and self._cell.kills() > 0:
            self._killed_s = self.t_s

    def tick(self, late_s: float, reading: MachineReading) -> None:
        """Read the target once, and let the arm decide, as the guard's tick does."""
        self._see_kills()
        t_s = self.t_s
        if not math.isnan(self._killed_s) and t_s > self._killed_s + AFTERMATH_S:
            self._end(OOM, "part of it was killed")
        elif math.isnan(self._killed_s) and t_s >= self.planned_s:
            self._end(ALIVE)
        if self.ended or not math.isnan(self._killed_s):
            return
        try:
            self._sample = sample = self._read(late_s, reading)
        except TargetGoneError as error:
            self._end(CRASH, str(error))
            return
        self.used_ratios.append(round(sample.used_bytes / sample.limit_bytes, 3))
        if self._trigger is not None and self._window.push(sample):
            self._decide(self._trigger, sample)

    def _decide(self, trigger: Trigger, sample: Sample) -> None:
        seen = trigger.see(sample, self._window, self._released())
        self.levels.append(seen.level)
        self.abstained_s += CADENCE_S * (seen.forecast is None)
        self._releases.see(sample, seen.level)
        decision = trigger.decider.decide(seen.view, self._window.state, is_busy=self._releases.is_busy)
        if decision is not None:
            self._releases.begin(decision, trigger.cooldown_s, sample, seen.level, self._look,
                                 may_wait=trigger.may_wait(seen))
        else:
            self._releases.tend(sample)

    def _released(self) -> list[tuple[float, float]]:
        return [(each.done_s, each.dropped_bytes) for each in self.evictions if each.dropped_bytes > 0]

    def _read(self, late_s: float, reading: MachineReading) -> Sample:
        assert self._sensor is not None
        return self._sensor.read(self.t_s, late_s, reading, math.nan, None)

    def _look(self) -> Sample:
        try:
            return self._read(0.0, self._machine.read())
        except TargetGoneError:
            if self._sample is None:
                raise
            return self._sample

    def _end(self, ended: str, why: str = "") -> None:
        self.ended, self.why = ended, why
        self.ended_after_s = self.t_s if math.isnan(self._killed_s) else self._killed_s
        self.driver.ask_to_stop()

    def facts(self) -> dict[str, Any]:
        """Return what is kept of it, plain JSON."""
        case = self.trial.case
        return {
            "trial_id": self.trial.trial_id, "case_id": case.case_id, "program": case.program, "shape": case.shape,
            "arm": self.trial.arm, "latency_s": self.trial.latency_s, "planned_s": round(self.planned_s, 2),
            "ended": self.ended, "ended_after_s": round(self.ended_after_s, 2), "why": self.why,
            "evictions": [[round(each.asked_s, 2), each.asked_bytes, round(each.done_s, 2), each.dropped_bytes]
                          for each in self.evictions if not math.isnan(each.done_s)],
            "unanswered": sum(math.isnan(each.done_s) for each in self.evictions),
            "abstained_s": self.abstained_s, "used_ratios": self.used_ratios, "levels": self.levels}

    def close(self) -> None:
        """Leave nothing behind; may take some seconds."""
        self.driver.ask_to_stop()
        if self._sensor is not None:
            self._sensor.close()
        self._runner.close()
        if self._trigger is not None:
            self._trigger.release()
        self.driver.wait()
        self._cell.remove()
