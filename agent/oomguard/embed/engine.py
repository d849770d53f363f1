"""One life of an embedded guard: the thread that ticks on its own schedule, exactly as the daemon's loop does."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from oomguard.act.hooks import Hook
from oomguard.act.runner import Runner
from oomguard.act.wake import Wake
from oomguard.briefing import Briefing
from oomguard.clock import now_s
from oomguard.embed.levels import LevelChange, close_copy
from oomguard.embed.lives import QUIET
from oomguard.embed.teller import Teller
from oomguard.forecast import time_to_limit_s
from oomguard.guards import Guards
from oomguard.sense.machine import open_machine
from oomguard.sense.sample import NAN
from oomguard.ticker import Ticker
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.guard import Reading, TargetGuard

MISTAKES_MOST = 10          # turns in a row that raise what nobody foresaw; then the guard gives up
STOP_WAIT_S = 5.0           # the helper takes up to 1 s to end what it runs


class Engine:
    """The thread, and what it reads and runs. All but the thread's waiting happens under QUIET."""

    __slots__ = ("_awaited", "_gauges", "_guards", "_hooks", "_is_dropped", "_is_gauging", "_is_stopping", "_machine",
                 "_mistakes", "_poller", "_runner", "_stopping", "_teller", "_thread", "_ticker", "_wake", "_was_deaf",
                 "level", "phase", "problem", "reading")

    def __init__(self, briefing: Briefing, hooks: Sequence[Hook], teller: Teller, phase: str | None,
                 gauges: dict[str, Callable[[], float]]) -> None:
        """Find the target, take the first reading, start the thread.

        Args:
            gauges: by hook, tells what it could give back now; the app's code, so the courier's thread asks it.

        Raises:
            OomguardError: there is no such target, and none can come.
        """
        self._teller, self.phase = teller, phase
        self._hooks, self._gauges = list(hooks), gauges
        self.reading: Reading | None = None
        self.level, self.problem = 0, ""
        self._is_stopping = self._is_dropped = self._was_deaf = self._is_gauging = False
        self._mistakes = 0
        self._stopping = threading.Event()      # for the one wait that has no descriptor: after a mistake
        self._awaited: dict[int, TargetGuard] = {}
        self._wake = Wake()
        self._poller = select.epoll()
        self._machine = open_machine()
        self._runner = Runner(dry_run=briefing.plan.is_dry_run)
        self._guards = Guards(briefing, self._machine, self._runner, self._hooks, self._tell)
        self._ticker = Ticker(briefing.plan.cadence_s)
        self._thread = threading.Thread(target=self._run, name="oomguard", daemon=True)
        try:
            self._start()
        except BaseException:
            self._close()
            raise

    def _start(self) -> None:
        for fd in (self._wake.fd, *self._runner.fds()):
            self._poller.register(fd, select.EPOLLIN)
        for hook in self._hooks:
            self._runner.register(hook)
        self._guards.look_for_targets()
        if self._guards.is_hopeless:
            raise self._guards.problem
        self._teller.start()
        self._turn(())
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it ticks."""
        return not self._is_stopping and self._thread.is_alive()

    def add(self, hook: Hook) -> None:
        """Take one more hook; call it under QUIET."""
        self._hooks.append(hook)
        self._runner.register(hook)
        for guard in self._guards.by_name.values():
            guard.releases.hooks.append(hook)

    def stop(self) -> None:
        """End the thread, and wait for it and for the callbacks that are left."""
        self._end()
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_WAIT_S)
            self._teller.courier.join()

    def drop(self) -> None:
        """End the thread without waiting: nobody refers to the guard any more. From any thread, at any moment."""
        self._is_dropped = True
        self._end()

    def _end(self) -> None:
        self._is_stopping = True
        self._stopping.set()
        self._wake.set()

    def forget(self) -> None:
        """In a forked child: give back our copies of the descriptors, and touch nothing that the parent shares.

        Nothing is closed in the usual way: that would read the helper's answers, end the run that is recorded,
        or wait for a lock whose thread is not here.
        """
        self._is_stopping = True
        close_copy(self._wake)
        close_copy(self._runner._wake)
        with suppress(OSError):
            self._poller.close()
            self._runner._poller.close()
            if self._runner._link.fd >= 0:
                os.close(self._runner._link.fd)
            for guard in self._guards.by_name.values():
                guard.sensor.close()
            self._machine.close()

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        # The app's signals are for the app's threads: it may wait for them with sigwait or a signalfd.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._is_stopping:
            try:
                events = self._poller.poll(self._ticker.timeout_s())
                with QUIET:
                    if not self._is_stopping:
                        self._turn([fd for fd, _events in events])
                self._mistakes = 0
            except Exception as error:  # noqa: BLE001  our own mistake, or the app closed our descriptors: it is told
                self._note_mistake(error)
        with QUIET:
            self._close()

    def _turn(self, fds: Sequence[int]) -> None:
        """Serve what woke us, tick if a tick is due, tell what changed."""
        for fd in fds:
            if fd in self._runner.fds():
                self._guards.collect()
            elif fd != self._wake.fd:
                self._guards.lose(fd)
        late_s = self._ticker.tick()
        if late_s is not None:
            for guard in self._guards.by_name.values():
                guard.phase = self.phase
            self._guards.tick(late_s)
            self._teller.courier.look()
            if self._gauges and not self._is_gauging:
                self._is_gauging = True
                self._teller.courier.post(self._read_gauges)
        self._await_ends()
        self._publish()
        if self._guards.is_hopeless:
            self.problem = "the target has ended"
            self._is_stopping = True

    def _read_gauges(self) -> None:
        """Have each hook that can tell say what it could give back; what it says of it otherwise stands."""
        try:
            for hook in tuple(self._hooks):
                if hook.name in self._gauges:
                    self._read_gauge(hook)
        finally:
            self._is_gauging = False

    def _read_gauge(self, hook: Hook) -> None:
        try:
            evictable_bytes = self._gauges[hook.name]()
        except BaseException:
            del self._gauges[hook.name]         # the courier tells of it, once
            hook.evictable_bytes = NAN
            raise
        if evictable_bytes == evictable_bytes:
            hook.evictable_bytes = evictable_bytes

    def _tell(self, event: str, severity: str = "info", /, **fields: object) -> None:
        """Tell an event of the guard's; that there is no hook only once: the app may go by levels alone."""
        if event == "nobody-to-ask" and not self._hooks:
            if self._was_deaf:
                return
            self._was_deaf = True
        self._teller.event(event, severity, **fields)

    def _await_ends(self) -> None:
        awaited = self._guards.end_fds()
        for fd, guard in awaited.items():
            if self._awaited.get(fd) is not guard:      # not by number alone: the next pidfd may have the last one's
                self._poller.register(fd, select.EPOLLIN)
        self._awaited = awaited

    def _publish(self) -> None:
        guard = next(iter(self._guards.by_name.values()), None)
        reading = None if guard is None else guard.reading
        level = 0 if reading is None else reading.level
        was, self.reading, self.level = self.level, reading, level
        if guard is None:
            self.problem = f"waiting for the target: {self._guards.problem}"
        else:
            self.problem = "blind: its memory cannot be read" if guard.notes.is_blind else ""
        if level != was:
            self._teller.change(_change(level, was, reading))

    def _note_mistake(self, error: Exception) -> None:
        self._mistakes += 1
        because = f"{type(error).__name__}: {error}"[:500]
        if self._mistakes == 1:
            self._teller.event("tick-failed", "error", because=because)
        if self._mistakes >= MISTAKES_MOST:
            self.problem = f"gave up after {self._mistakes} ticks that failed: {because}"
            self._teller.event("gave-up", "critical", because=because, what_follows="nothing is guarded any more")
            self._is_stopping = True
        self._stopping.wait(self._ticker.cadence_s)

    def _close(self) -> None:
        if self._is_dropped:
            self._teller.event("dropped", "warning", because="nobody refers to the guard any more and it was not "
                               "stopped: it ends; keep it for as long as it is to guard")
        was, self.level, self.reading = self.level, 0, None
        for let_go in (self._guards.close, self._close_runner, self._machine.close, self._poller.close):
            try:
                let_go()
            except Exception as error:  # noqa: BLE001  the rest must be given back all the same; it is told
                self._teller.event("close-failed", "error", because=f"{type(error).__name__}: {error}")
        self._wake.close()
        if was:
            self._teller.change(_change(0, was, None))
        self._teller.event("stop")
        self._teller.close()

    def _close_runner(self) -> None:
        for outcome in self._runner.close():
            self._teller.event("hook-ended", hook=outcome.hook, ok=outcome.ok, because=outcome.why)


def _change(level: int, was: int, reading: Reading | None) -> LevelChange:
    if reading is None:
        return LevelChange(level, was, now_s(), NAN, NAN, NAN, None, None)
    sample, forecast, _level = reading
    return LevelChange(level, was, now_s(), sample.limit_bytes, sample.used_bytes, sample.headroom_bytes, forecast,
                       None if forecast is None else time_to_limit_s(forecast))
