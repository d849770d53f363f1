"""One thing that tells us of memory pressure: a trigger of the kernel, a stream, or a file that is read again.

Each says how it is watched (`how`) and, where that is less than what was asked for, why (`because`).
"""

from __future__ import annotations

import _socket
import errno
import os
import stat
from math import inf
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLPRI

from oomguard.lean import suppress
from oomguard.sense.psi import open_pressure
from oomguard.tell.watched import DEFAULT_TRIGGER, Watched, span_of

TRIGGER, STREAM, POLLING, LOST, OFF = "trigger", "stream", "polling", "lost", "off"
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0      # a socket whose producer is gone
_READ_BYTES = 4096


class Source:
    """A source that is off, and what the others have in common."""

    __slots__ = ("because", "due_s", "fd", "how", "path")

    events = 0                  # what epoll is to report

    def __init__(self, path: str, because: str = "") -> None:
        self.path, self.because, self.how = path, because, OFF
        self.fd = -1
        self.due_s = inf        # when `look` is to be called

    def take(self, events: int, now_s: float) -> bool:
        """Take what epoll reported; return whether it is pressure. A source that has broken has no `fd` after."""
        raise ValueError(f"{self.path} has no descriptor: {events}, {now_s}")

    def look(self, now_s: float) -> bool:
        """Do what was due; return whether there was pressure."""
        raise ValueError(f"{self.path} is not due at {now_s}")

    def close(self) -> None:
        """Let go."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.due_s = -1, inf

    def switch_off(self, because: str) -> None:
        """Let go, and say why."""
        self.close()
        self.how, self.because = OFF, because


class Trigger(Source):
    """A trigger of the kernel. Its file is never read; the event is gone once epoll has told it."""

    __slots__ = ()

    events = EPOLLPRI

    def __init__(self, path: str, fd: int, because: str) -> None:
        super().__init__(path, because)
        self.fd, self.how = fd, TRIGGER

    def take(self, events: int, now_s: float) -> bool:  # noqa: ARG002  as Source
        """Break on an error: its cgroup is gone."""
        if events & EPOLLERR:
            self.switch_off("the kernel has taken the trigger away")
            return False
        return bool(events & EPOLLPRI)


class Polled(Source):
    """A pressure file that is read every window, for the kernel gives no trigger."""

    __slots__ = ("_before_s", "_before_us", "_pressure", "_span")

    def __init__(self, what: Watched, because: str, now_s: float) -> None:
        super().__init__(what.path, because)
        self._span = span_of(what.write or DEFAULT_TRIGGER)
        self._before_s, self._before_us = -inf, inf
        self._pressure = open_pressure(what.path)
        if self._pressure is not None:
            self.how = POLLING
            self.look(now_s)

    def look(self, now_s: float) -> bool:
        """Return whether as much stall as asked for has come in each window since the last look, on average."""
        assert self._pressure is not None
        total_us = self._pressure.read()[self._span.is_full]        # NaN once it is gone: never pressure
        windows = max((now_s - self._before_s) / self._span.window_s, 1.0)
        is_pressure = total_us - self._before_us >= self._span.stall_us * windows
        self._before_s, self._before_us, self.due_s = now_s, total_us, now_s + self._span.window_s
        return is_pressure

    def close(self) -> None:
        """Let the file go."""
        super().close()
        if self._pressure is not None:
            self._pressure.close()


class Fifo(Source):
    """A FIFO or a device: what comes is read and discarded."""

    __slots__ = ()

    events = EPOLLIN

    def __init__(self, what: Watched) -> None:
        """Open it. Raises OSError."""
        super().__init__(what.path)
        # Read-write: a FIFO that is open for reading alone hangs up for ever once its writer is gone (ran).
        self.fd = os.open(what.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        self.how = STREAM
        if what.write:
            os.write(self.fd, what.write)

    def take(self, events: int, now_s: float) -> bool:  # noqa: ARG002  as Source
        """Break at its end."""
        try:
            is_pressure = bool(os.read(self.fd, _READ_BYTES))
        except BlockingIOError:
            is_pressure = False
            if not events & (EPOLLERR | EPOLLHUP):
                return False
        except OSError:
            is_pressure = False
        if not is_pressure:
            self.switch_off("the other end is gone")
        return is_pressure


class Stream(Source):
    """A socket. Its producer may go: then it is tried again after 1, 2, 4 … 60 s."""

    __slots__ = ("_retry_s", "_socket", "_write")

    events = EPOLLIN

    def __init__(self, what: Watched, now_s: float) -> None:
        super().__init__(what.path)
        self._write, self._retry_s = what.write, FIRST_RETRY_S
        self._socket: _socket.socket | None = None
        self.look(now_s)

    def look(self, now_s: float) -> bool:
        """Connect; where that fails, say when to try again."""
        self.due_s = inf
        made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            made.connect(self.path)
            if self._write:
                made.send(self._write, _socket.MSG_NOSIGNAL)
        except OSError as error:
            made.close()
            self._lose(str(error.strerror), now_s)
            return False
        self._socket, self.fd, self.how, self.because = made, made.fileno(), STREAM, ""
        return False

    def take(self, events: int, now_s: float) -> bool:
        """Lose it at its end: an empty read would come for ever (ran)."""
        data = b""
        if self._socket is not None:
            with suppress(OSError):     # reset: as good as an end
                data = self._socket.recv(_READ_BYTES)
        if data:
            self._retry_s = FIRST_RETRY_S
        if not data or events & (EPOLLHUP | EPOLLERR):
            self._lose("the other end is gone", now_s)
        return bool(data)

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self.fd, self.due_s = None, -1, inf

    def _lose(self, because: str, now_s: float) -> None:
        self.close()
        self.how, self.because, self.due_s = LOST, because, now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)


def open_source(what: Watched, now_s: float) -> Source:
    """Return the source that is at the path; one that is off where nothing there can be watched."""
    try:
        mode = os.stat(what.path).st_mode
        if stat.S_ISSOCK(mode):
            return Stream(what, now_s)
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            return Fifo(what)
        if stat.S_ISREG(mode):
            return _armed(what, now_s)
    except OSError as error:
        return Source(what.path, str(error.strerror))
    return Source(what.path, "neither a pressure file, nor a FIFO, a device or a socket")


def _armed(what: Watched, now_s: float) -> Source:
    """Set a trigger: the one asked for, else the default; else the file is read every window.

    EINVAL: a window that only CAP_SYS_RESOURCE may ask for (others: multiples of 2 s), or nonsense. EACCES:
    not ours to write. EBUSY: the descriptor has one already; a new one is opened for each try, so it is rare.
    """
    why = ""
    for trigger in dict.fromkeys((what.write or DEFAULT_TRIGGER, DEFAULT_TRIGGER)):
        fd = -1
        try:
            fd = os.open(what.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            os.write(fd, trigger)
            return Trigger(what.path, fd, why and f"{why}: the default trigger instead")
        except OSError as error:
            why = why or str(error.strerror)
            if fd >= 0:
                os.close(fd)
            if error.errno not in (errno.EINVAL, errno.EBUSY):
                break
    return Polled(what, why, now_s)
