"""Who gets the metrics: a file that a collector reads, and a scraper on the loopback; both from the daemon's epoll.

Work is done a slice at a time, each when epoll says so, and the daemon looks at the clock in between: a tick waits
for one slice at most (0.2 ms), however many targets there are and however slowly a scraper reads.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable, Iterator
from select import EPOLLIN, EPOLLOUT

from oomguard.clock import now_s
from oomguard.errors import NotPermittedError, UsageError
from oomguard.lean import suppress
from oomguard.tell.control import Poller
from oomguard.tell.metrics import Metrics

FILE_EVERY_S = 10.0             # scrapes come every 15 to 60 s
SCRAPERS_MAX = 8
REQUEST_MAX_BYTES = 8 * 1024
PATIENCE_S = 10.0               # a scraper that has not read everything by then is dropped
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_END = b"\r\n\r\n"

Tell = Callable[..., None]


class Exporter:
    """The file and the listener, whichever was asked for."""

    __slots__ = ("_file", "_server", "metrics")

    def __init__(self, metrics: Metrics, poller: Poller, tell: Tell, *, file: str = "", address: str = "") -> None:
        """Begin; what cannot be had is told as `no-metrics`, for guarding comes first."""
        self.metrics = metrics
        self._file = TextFile(file, metrics, poller, tell) if file else None
        self._server: ScrapeServer | None = None
        try:
            self._server = ScrapeServer(address, metrics, poller) if address else None
        except (NotPermittedError, UsageError) as error:
            tell("no-metrics", "warning", because=str(error))

    def handle(self, fd: int, events: int) -> bool:
        """Serve what epoll reported; return whether the descriptor is one of ours."""
        return (self._file is not None and self._file.handle(fd)) or (
            self._server is not None and self._server.handle(fd, events))

    def tick(self, late_s: float) -> None:
        """Take in a tick: what is due begins after it."""
        self.metrics.tick(late_s)
        t_s = now_s()
        if self._file is not None:
            self._file.tick(t_s)
        if self._server is not None:
            self._server.tick(t_s)

    def close(self) -> None:
        """Let everything go; the file is removed, so that nobody takes its last figures for live ones."""
        if self._file is not None:
            self._file.close()
        if self._server is not None:
            self._server.close()


class TextFile:
    """Writes the metrics to a file every 10 s; who reads it sees a whole one, the old or the new."""

    __slots__ = ("_due_s", "_fd", "_making", "_metrics", "_path", "_poller", "_slices", "_tell", "_trouble", "_wake_fd")

    def __init__(self, path: str, metrics: Metrics, poller: Poller, tell: Tell) -> None:
        self._path, self._metrics, self._poller, self._tell = path, metrics, poller, tell
        folder, name = os.path.split(path)
        self._making = os.path.join(folder, f".{name}.{os.getpid()}")       # collectors read *.prom
        self._slices: Iterator[bytes] | None = None
        self._fd, self._due_s, self._trouble = -1, float("-inf"), ""
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)     # readable while a file is being written
        poller.register(self._wake_fd, EPOLLIN)

    def tick(self, t_s: float) -> None:
        """Begin a file where one is due."""
        if t_s < self._due_s or self._slices is not None:
            return
        self._due_s = t_s + FILE_EVERY_S
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._making)             # of a former process with our pid
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._making, flags, 0o644)
        except OSError as error:
            self._note(error)
            return
        self._slices = self._metrics.slices()
        os.eventfd_write(self._wake_fd, 1)

    def handle(self, fd: int) -> bool:
        """Write one slice, if it is us whom epoll woke."""
        if fd != self._wake_fd:
            return False
        try:
            piece = None if self._slices is None else next(self._slices, None)
            if piece is not None:
                _write_whole(self._fd, piece)
            else:
                self._end()
                os.replace(self._making, self._path)
                self._trouble = ""
        except OSError as error:        # a full disk: the old file stays, and grows old
            self._end()
            with suppress(OSError):
                os.unlink(self._making)
            self._note(error)
        return True

    def close(self) -> None:
        """Stop, and remove what was written."""
        self._end()
        for path in (self._making, self._path):
            with suppress(OSError):
                os.unlink(path)
        self._poller.unregister(self._wake_fd)
        os.close(self._wake_fd)

    def _end(self) -> None:
        self._slices = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)

    def _note(self, error: OSError) -> None:
        """Say what is wrong, once until it changes."""
        why = f"cannot write {self._path}: {error.strerror}"
        if why != self._trouble:
            self._tell("no-metrics", "warning", because=why)
        self._trouble = why


def _write_whole(fd: int, piece: bytes) -> None:
    if os.write(fd, piece) != len(piece):
        raise OSError(28, "no space left on device")


class _Scraper:
    """One connection: what it asked so far, and what it has still to be sent."""

    __slots__ = ("asked", "connection", "rest", "since_s", "slices")

    def __init__(self, connection: _socket.socket, t_s: float) -> None:
        self.connection, self.since_s = connection, t_s
        self.asked, self.rest = b"", b""
        self.slices: Iterator[bytes] = iter(())


class ScrapeServer:
    """Answers `GET /metrics` over HTTP on the loopback; one answer a connection, everything bounded."""

    __slots__ = ("_is_deaf", "_listener", "_metrics", "_poller", "_scrapers", "address")

    def __init__(self, address: str, metrics: Metrics, poller: Poller) -> None:
        """Listen. Raises UsageError for an address that is not the loopback's, NotPermittedError where it is taken."""
        family, host, port = loopback_address(address)
        self._metrics, self._poller = metrics, poller
        self._scrapers: dict[int, _Scraper] = {}        # oldest first
        self._is_deaf = False                           # until the next tick
        kind = _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        try:
            self._listener = _socket.socket(family, kind)
        except OSError as error:            # the unit's RestrictAddressFamilies
            raise NotPermittedError(f"cannot listen at {address} for metrics: {error.strerror}") from None
        try:
            self._listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            self._listener.bind((host, port))
            self._listener.listen(SCRAPERS_MAX)
        except OSError as error:
            self._listener.close()
            raise NotPermittedError(f"cannot listen at {address} for metrics: {error.strerror}") from None
        found = self._listener.getsockname()
        self.address = f"[{found[0]}]:{found[1]}" if family == _socket.AF_INET6 else f"{found[0]}:{found[1]}"
        poller.register(self._listener.fileno(), EPOLLIN)

    def handle(self, fd: int, events: int) -> bool:
        """Serve what epoll reported; return whether the descriptor is one of ours."""
        if fd == self._listener.fileno():
            self._admit()
            return True
        scraper = self._scrapers.get(fd)
        if scraper is None:
            return False
        try:
            if events & EPOLLOUT:
                self._send(fd, scraper)
            else:
                self._read(fd, scraper)
        except BlockingIOError:
            pass
        except OSError:                 # it is gone
            self._drop(fd)
        return True

    def tick(self, t_s: float) -> None:
        """Drop who takes too long; listen again where that had to rest."""
        if self._is_deaf:
            self._poller.modify(self._listener.fileno(), EPOLLIN)
            self._is_deaf = False
        for fd in [fd for fd, scraper in self._scrapers.items() if t_s - scraper.since_s > PATIENCE_S]:
            self._drop(fd)

    def close(self) -> None:
        """Drop everyone and stop listening."""
        for fd in list(self._scrapers):
            self._drop(fd)
        self._poller.unregister(self._listener.fileno())
        self._listener.close()

    def _admit(self) -> None:
        try:
            fd, _address = self._listener._accept()         # type: ignore[attr-defined]  # as socket.accept does
        except BlockingIOError:                             # it left again
            return
        except OSError:                                     # no descriptor is free: epoll would report it for ever
            self._poller.modify(self._listener.fileno(), 0)
            self._is_deaf = True
            return
        connection = _socket.socket(fileno=fd)
        connection.setblocking(False)
        if len(self._scrapers) >= SCRAPERS_MAX:
            self._drop(next(iter(self._scrapers)))
        self._scrapers[fd] = _Scraper(connection, now_s())
        self._poller.register(fd, EPOLLIN)

    def _read(self, fd: int, scraper: _Scraper) -> None:
        chunk = scraper.connection.recv(REQUEST_MAX_BYTES)
        scraper.asked += chunk
        if _END in scraper.asked:
            scraper.slices = self._answer(scraper.asked)
        elif len(scraper.asked) > REQUEST_MAX_BYTES:
            scraper.slices = iter((_head("431 Request Header Fields Too Large"),))
        elif not chunk:
            self._drop(fd)
            return
        else:
            return
        self._poller.modify(fd, EPOLLOUT)

    def _answer(self, asked: bytes) -> Iterator[bytes]:
        method, path, *_version = [*asked.split(b"\r\n", 1)[0].split(b" "), b"", b""]
        if method != b"GET":
            yield _head("405 Method Not Allowed")
        elif path.partition(b"?")[0] != b"/metrics":
            yield _head("404 Not Found") + b"the metrics are at /metrics\n"
        else:
            yield _head("200 OK")
            yield from self._metrics.slices()

    def _send(self, fd: int, scraper: _Scraper) -> None:
        rest = scraper.rest or next(scraper.slices, None)
        if rest is None:
            self._drop(fd)
            return
        scraper.rest = rest
        scraper.rest = rest[scraper.connection.send(rest, _socket.MSG_NOSIGNAL):]

    def _drop(self, fd: int) -> None:
        scraper = self._scrapers.pop(fd)
        self._poller.unregister(fd)
        scraper.connection.close()


def _head(status: str) -> bytes:
    """Return the head of an answer that ends with its connection."""
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nConnection: close\r\n\r\n" % (status.encode(), _TEXT)


def loopback_address(text: str) -> tuple[int, str, int]:
    """Return (family, address, port) of `127.0.0.1:9836` or `[::1]:9836`; port 0 takes a free one.

    Raises:
        UsageError: it is something else, or not the loopback's: metrics are for nobody beyond this machine.
    """
    host, _, port = text.rpartition(":")
    family = _socket.AF_INET6 if host.startswith("[") and host.endswith("]") else _socket.AF_INET
    host = host.strip("[]")
    try:
        packed = _socket.inet_pton(family, host)
    except OSError:
        packed = b""
    is_loopback = packed[:1] == b"\x7f" if family == _socket.AF_INET else packed == b"\0" * 15 + b"\1"
    if not (is_loopback and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise UsageError(f"{text!r} is no loopback address with a port, such as 127.0.0.1:9836 or [::1]:9836")
    return family, host, int(port)
