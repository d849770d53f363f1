"""Hear of memory pressure between two ticks, and say when one is due before its time.

The consumer of systemd's memory-pressure protocol (PROTOCOLS 1): the own cgroup's trigger, the machine's, or what
MEMORY_PRESSURE_WATCH names. Nothing here may end the guard: a source that breaks is switched off, and said once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import inf

from oomguard.clock import now_s
from oomguard.tell.control import Poller
from oomguard.tell.source import Source, open_source
from oomguard.tell.watched import Watched, watched

EARLY_TICK_EVERY_S = 1.0
BURST_GAP_S = 10.0          # wakes closer than this are one burst: one line in the log

Tell = Callable[..., None]  # (event, severity, **fields)


class PressureAlarm:
    """All sources of one guard, in its epoll.

    However often they wake it, there is at most one early tick a second; a burst of wakes is one event, `woken`.
    """

    __slots__ = ("_clock", "_early_from_s", "_is_owed", "_poller", "_tell", "_woken_s", "sources", "wakes")

    def __init__(self, poller: Poller, tell: Tell, clock: Callable[[], float] = now_s) -> None:
        """Watch nothing yet."""
        self._poller, self._tell, self._clock = poller, tell, clock
        self._early_from_s = self._woken_s = -inf
        self._is_owed = False               # a tick, since a wake
        self.wakes = 0
        self.sources: list[Source] = []

    def start(self, what: tuple[Watched, ...] | None = None) -> None:
        """Watch what is named, or what the environment or the default says; say how each is watched."""
        if what is None:
            try:
                what = watched(os.environ, is_setuid=os.getuid() != os.geteuid() or os.getgid() != os.getegid())
            except ValueError as error:
                self._tell("pressure-source", "warning", path=None, how="off", because=str(error))
                return
        self.sources = [open_source(each, self._clock()) for each in what]
        for source in self.sources:
            self._take_up(source)

    def fds(self) -> tuple[int, ...]:
        """Return the descriptors in the epoll."""
        return tuple(source.fd for source in self.sources if source.fd >= 0)

    def handle(self, fd: int, events: int) -> bool:
        """Take what epoll reported; return whether the descriptor is one of ours."""
        for source in self.sources:
            if source.fd == fd:
                if source.take(events, self._clock()):
                    self._wake(source)
                if source.fd < 0:           # closed, and so out of the epoll
                    self._say(source)
                return True
        return False

    def timeout_s(self) -> float:
        """Return how long epoll may wait at most; infinity where only the kernel wakes us."""
        due_s = min([source.due_s for source in self.sources], default=inf)
        due_s = min(due_s, self._early_from_s if self._is_owed else inf)
        return max(due_s - self._clock(), 0.0) if due_s < inf else inf

    def is_due(self) -> bool:
        """Return whether a tick is due before its time: once per wake, at most once a second."""
        at_s = self._clock()
        for source in self.sources:
            if at_s >= source.due_s:
                self._look(source, at_s)
        if not self._is_owed or at_s < self._early_from_s:
            return False
        self._is_owed, self._early_from_s = False, at_s + EARLY_TICK_EVERY_S
        return True

    def status(self) -> dict[str, object]:
        """Return what `oomguard status` shows."""
        return {"wakes": self.wakes, "sources": [
            {"path": source.path, "how": source.how, "because": source.because or None} for source in self.sources]}

    def ticked(self) -> None:
        """Note an ordinary tick: it has seen what an early one would have seen."""
        self._is_owed = False

    def close(self) -> None:
        """Let every source go."""
        for source in self.sources:
            source.close()

    def _look(self, source: Source, at_s: float) -> None:
        before = source.how
        if source.look(at_s):
            self._wake(source)
        if source.how != before:
            self._take_up(source)

    def _take_up(self, source: Source) -> None:
        if source.fd >= 0:
            try:
                self._poller.register(source.fd, source.events)
            except OSError as error:        # EPERM: a device that cannot be waited for
                source.switch_off(str(error.strerror))
        self._say(source)

    def _say(self, source: Source) -> None:
        self._tell("pressure-source", path=source.path, how=source.how, because=source.because or None)

    def _wake(self, source: Source) -> None:
        self.wakes += 1
        at_s = self._clock()
        if at_s - self._woken_s >= BURST_GAP_S:
            self._tell("woken", "notice", by=source.path, how=source.how)
        self._is_owed, self._woken_s = True, at_s
