"""Record a target without guarding it: sense and journal, and nothing between."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from oomguard.clock import now_s
from oomguard.decide.plan import TargetPlan
from oomguard.errors import NotPermittedError, TargetGoneError
from oomguard.profile import Profile
from oomguard.record.facts import run_facts
from oomguard.record.journal import Journal
from oomguard.record.segments import Limits
from oomguard.sense.machine import Machine, open_machine
from oomguard.sense.portable import PortableMachine
from oomguard.sense.sample import NAN
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import resolve
from oomguard.ticker import Ticker

EMPTYING_S = 5.0            # how long a group may take to empty after a kill that took all of it

Tell = Callable[..., None]  # (event, severity, **fields)


class Recorded(NamedTuple):
    """What came of it."""

    run_id: str
    samples: int
    lost_samples: int
    length_s: float
    ended: str


class Alone:
    """Records one target until it ends, the time is over, or a signal comes."""

    def __init__(self, target: TargetPlan, folder: str, profile: Profile, cadence_s: float, limits: Limits,
                 tell: Tell) -> None:
        """Find the target and begin.

        Raises:
            TargetGoneError: it is not there.
            NotPermittedError: it may not be read, or nothing can be written to `folder`.
            UsageError: another process records there.
        """
        self._machine: Machine | PortableMachine = open_machine()
        self._found = resolve(target)
        self._sensor = open_sensor(self._found, self._machine, profile)
        self._start_s, self._cadence_s = now_s(), cadence_s
        self._kills, self._killed_s = self._sensor.kills(), NAN
        self._samples, self._is_told_to_stop = 0, False
        self._journal = Journal.open(folder, limits, tell)
        if self._journal.is_paused:         # for a guard no reason to stop; here nothing else is wanted
            self._sensor.close()
            raise NotPermittedError(f"{folder}: {os.strerror(self._journal.pause_errno)}")
        self._recorder = self._journal.run(run_facts(
            target.name, self._sensor.identity, self._start_s, profile, target=self._found.label, cadence_s=cadence_s))

    def run(self, for_s: float = inf) -> Recorded:
        """Record; return when it is over. SIGINT, SIGTERM and SIGHUP end it cleanly."""
        poller = select.poll()
        wake_fd = self._catch_signals()
        poller.register(wake_fd, select.POLLIN)
        if self._sensor.end_fd >= 0:
            poller.register(self._sensor.end_fd, select.POLLIN)
        ticker, ended = Ticker(self._cadence_s), ""
        while not ended:
            left_s = for_s - self._t_s()
            ready = poller.poll(1000 * max(min(ticker.timeout_s(), left_s), 0.0))
            if self._is_told_to_stop or self._t_s() >= for_s:
                ended = "stopped"
            elif any(fd == self._sensor.end_fd for fd, _event in ready):
                ended = self._how_it_went()
            elif (late_s := ticker.tick()) is not None:
                ended = self._tick(late_s)
        return self._close(ended)

    def _t_s(self) -> float:
        return now_s() - self._start_s

    def _tick(self, late_s: float) -> str:
        """Record one sample; return how the target ended, empty while it goes on."""
        try:
            sample = self._sensor.read(self._t_s(), late_s, self._machine.read(), NAN, None)
        except TargetGoneError:
            return self._how_it_went()
        self._recorder.sample(sample)
        self._samples += 1
        ended = "" if self._found.kind == "process" else self._see_kills(sample.t_s)
        self._journal.tick(now_s())
        return ended

    def _see_kills(self, t_s: float) -> str:
        """Note kills inside a group or the machine; return `oom` where the last process of a group went with it."""
        kills = self._sensor.kills()
        if kills > self._kills >= 0:
            self._killed_s = t_s
            for _kill in range(min(kills - self._kills, 1000)):
                self._recorder.kill(t_s)
        self._kills = kills
        is_recent = t_s - self._killed_s <= EMPTYING_S
        return "oom" if is_recent and self._found.kind == "cgroup" and not self._sensor.pids() else ""

    def _how_it_went(self) -> str:
        if self._found.kind != "process":
            return "exit"
        return {1: "oom", 0: "exit"}.get(self._sensor.kills(), "unknown")

    def _close(self, ended: str) -> Recorded:
        is_seen_kill = ended == "oom" and self._killed_s == self._killed_s
        length_s = self._killed_s if is_seen_kill else self._t_s()
        self._recorder.end(ended, length_s)
        self._journal.close()
        signal.set_wakeup_fd(-1)
        self._sensor.close()
        self._machine.close()
        return Recorded(self._recorder.facts.run_id, self._samples - self._journal.lost_samples,
                        self._journal.lost_samples, length_s, ended)

    def _catch_signals(self) -> int:
        """Let signals wake the loop, never interrupt it; return the descriptor to wait on."""
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        return read_fd

    def _stop(self, _number: int, _frame: object) -> None:
        self._is_told_to_stop = True
