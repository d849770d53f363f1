"""The process that is org.freedesktop.LowMemoryMonitor: reads levels from the guard, and warns whoever listens.

Contract: each record from the guard is a level in one digit; each of ours is `+` (the name is owned), `-` and a
reason (not now), or `!` and a reason (not ever, this process ends). It ends when the guard's end closes.
"""

from __future__ import annotations

import os
import select
import signal
import time

from oomguard.tell.pressure import Pace
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.tell.monitor.bus import Bus

HOLD_OFF_S = 15.0           # per warning level, as GLib and low-memory-monitor
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
LOW, MEDIUM, CRITICAL = 50, 100, 255
WARNINGS = (0, LOW, LOW, MEDIUM, MEDIUM, CRITICAL)      # of levels 0…5
RANKS = {LOW: 1, MEDIUM: 2, CRITICAL: 3}


def warning_of(level: int) -> int:
    """Return the warning a level comes to: 0 (none), 50, 100 or 255."""
    return WARNINGS[min(max(level, 0), 5)]


class Producer:
    """Between the guard and the bus."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pace = Pace(HOLD_OFF_S)
        self._bus: Bus | None = None
        self._retry_s, self._retry_at_s = FIRST_RETRY_S, 0.0

    def run(self) -> int:
        """Serve until the guard goes, or there is no hope."""
        from oomguard.tell.monitor.bus import Bus, BusLostError, NameTakenError, NoBusError

        has_been_on = False
        while True:
            try:
                if self._bus is None and time.monotonic() >= self._retry_at_s:
                    self._bus = Bus.connect()
                    has_been_on, self._retry_s = True, FIRST_RETRY_S
                    self._say("+")
                    self._bus.serve()       # who waited for the name may have asked already: see Bus.serve
                if not self._turn():
                    return 0
            except NameTakenError as error:
                return self._give_up(str(error))
            except NoBusError as error:
                if not has_been_on:
                    return self._give_up(str(error))
                self._wait_for_bus(str(error))
            except BusLostError as error:
                self._wait_for_bus(str(error))

    def _turn(self) -> bool:
        """Wait for the guard or the bus, and serve it; return False once the guard is gone."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if self._bus is not None:
            poll.register(self._bus.fileno(), select.POLLIN)
        timeout_s = None if self._bus is not None else max(self._retry_at_s - time.monotonic(), 0.0)
        for fd, _events in poll.poll(None if timeout_s is None else timeout_s * 1000 + 1):
            if fd != self._fd:
                assert self._bus is not None
                self._bus.serve()
            elif not self._hear():
                return False
        return True

    def _hear(self) -> bool:
        try:
            said = os.read(self._fd, 16)
        except OSError:
            return False
        warning = warning_of(int(said)) if said.isdigit() else 0
        if warning and self._bus is not None and self._pace.is_due(RANKS[warning], time.monotonic()):
            self._bus.warn(warning)
        return bool(said)

    def _wait_for_bus(self, why: str) -> None:
        if self._bus is not None:
            self._bus.close()
        self._bus = None
        self._retry_at_s = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)
        self._say(f"-{why}")

    def _give_up(self, why: str) -> int:
        self._say(f"!{why}")
        return 1

    def _say(self, text: str) -> None:
        try:
            os.write(self._fd, text.encode("utf-8", "replace")[:1000])
        except OSError:         # the guard is gone: the next read says so
            return


def _be_killable() -> None:
    """Give up the daemon's protection from the kernel's killer."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("0")
    except OSError:             # EACCES: ours is above 0, and lowering it needs a right
        return


def main(argv: list[str]) -> int:
    """Run on the descriptor named by the first argument."""
    fd = int(argv[1])
    os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # a terminal's ^C is for the daemon
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _be_killable()
    producer = Producer(fd)
    try:
        import jeepney  # noqa: F401  the extra `dbus`
    except ImportError:
        producer._give_up("jeepney is not installed: pip install 'oomguard[dbus]', or apt install python3-jeepney")
        return 1
    return producer.run()
