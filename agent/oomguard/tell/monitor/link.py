"""The daemon's end of the LowMemoryMonitor process: started once, told of levels, started again when quiet."""

from __future__ import annotations

import _socket
import os
import sys
from collections.abc import Callable, Mapping

from oomguard.tell.control import Poller

SYSTEM_BUS = "/run/dbus/system_bus_socket"
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
_MESSAGE_MAX_BYTES = 1024
_EPOLLIN = 1

# By path: -I ignores PYTHONPATH, and the package may have been found in any way. With `site`: jeepney is found there.
_BOOT = ("import sys; sys.path.append(sys.argv[2]); from oomguard.tell.monitor.producer import main; "
         "sys.exit(main(sys.argv))")

Tell = Callable[..., None]  # (event, severity, **fields)


def bus_problem(environ: Mapping[str, str]) -> str:
    """Return why there is no use in trying, empty where a bus may be there."""
    if environ.get("DBUS_SYSTEM_BUS_ADDRESS") or os.path.exists(SYSTEM_BUS):
        return ""
    return f"no system bus: there is no {SYSTEM_BUS}"


class MonitorLink:
    """At most one process. It says `+` when it has its name on the bus, and `-` with a reason when not.

    A process that ends by itself has said why, and is not started again: no jeepney, the name is another's. One
    that is killed is, when it is quiet. A bus that goes and comes is its own business.
    """

    __slots__ = ("_backoff_s", "_must_stay_off", "_on_change", "_poller", "_retry_at_s", "_socket", "_tell", "because",
                 "is_on", "pid")

    def __init__(self, poller: Poller, tell: Tell, on_change: Callable[[], None]) -> None:
        """Start nothing yet.

        Args:
            poller: The daemon's epoll.
            tell: For the log: one line whenever it goes on or off.
            on_change: Called after `is_on` changed.
        """
        self._poller, self._tell, self._on_change = poller, tell, on_change
        self._socket: _socket.socket | None = None
        self._backoff_s, self._retry_at_s = FIRST_BACKOFF_S, 0.0
        self._must_stay_off = False
        self.is_on, self.because, self.pid = False, "", -1

    @property
    def fd(self) -> int:
        """What is in the epoll; -1: nothing."""
        return -1 if self._socket is None else self._socket.fileno()

    def start(self, now_s: float) -> None:
        """Start the process, where there is a bus."""
        problem = bus_problem(os.environ)
        if problem:
            self._must_stay_off = True
            self._note(False, problem)
            return
        self._retry_at_s = now_s + self._backoff_s
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        try:
            self.pid = _spawn(theirs.fileno())
        except OSError as error:
            ours.close()
            self._note(False, f"its process cannot be started: {error.strerror}")
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours
        self._poller.register(ours.fileno(), _EPOLLIN)

    def handle(self, now_s: float) -> None:
        """Hear what the process says."""
        if self._socket is None:
            return
        try:
            said = self._socket.recv(_MESSAGE_MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._lose(now_s)
        elif said[:1] == b"!":              # it will end now, and starting it again would not help
            self._must_stay_off = True
            self._note(False, said[1:].decode("utf-8", "replace"))
        else:
            self._note(said[:1] == b"+", said[1:].decode("utf-8", "replace"))

    def tell(self, level: int) -> bool:
        """Have the level sent to everyone on the bus; return whether it is on its way."""
        if self._socket is None or not self.is_on:
            return False
        try:
            self._socket.send(b"%d" % level, _socket.MSG_NOSIGNAL)
        except OSError:                     # it does not read, or is gone: epoll tells
            return False
        return True

    def tend(self, now_s: float, is_quiet: bool) -> None:
        """Reap, and start again what was killed: after 1, 2, 4 … 60 s, and never under pressure."""
        if self.pid > 0 and self._socket is None and _has_ended(self.pid):
            self.pid = -1
        if self._socket is None and self.pid < 0 and not self._must_stay_off and is_quiet and now_s >= self._retry_at_s:
            self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)
            self.start(now_s)

    def close(self) -> None:
        """Hang up: the process ends by that."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self.is_on = None, False

    def _lose(self, now_s: float) -> None:
        self.close()
        self._retry_at_s = now_s + self._backoff_s
        if not self._must_stay_off:
            self._note(False, "its process is gone")

    def _note(self, is_on: bool, because: str) -> None:
        if (is_on, because) == (self.is_on, self.because):
            return
        self.is_on, self.because = is_on, because
        self._tell("low-memory-monitor", "notice" if is_on else "info", on=is_on, because=because or None)
        self._on_change()


def _spawn(fd: int) -> int:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, fd, 3)]
    return os.posix_spawn(sys.executable, [sys.executable, "-I", "-c", _BOOT, "3", root], os.environ,
                          file_actions=actions, setpgroup=0, setsigmask=())


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
