"""Bytes from a server, by line, by count or to the end, each bounded; and the socket they come from."""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_STREAM, getaddrinfo, socket  # `socket` itself costs 0.6 MB more (measured)
from collections.abc import Callable

from oomguard.act.servers.ask import ServerError, Task
from oomguard.decide.addresses import UNIX, split_address
from oomguard.typed import Any, TypeVar

CHUNK_BYTES = 16384
LINE_MAX_BYTES = 8192

Self = TypeVar("Self")


class Stream:
    """A buffer that is filled by `receive`, which returns some bytes, and none at the end."""

    __slots__ = ("_buffer", "_receive")

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._buffer = bytearray()

    def line(self, most: int = LINE_MAX_BYTES) -> bytes:
        """Return the next line without its end, LF or CRLF. Raises ServerError when it is longer than `most`."""
        seen = 0
        while (end := self._buffer.find(b"\n", seen)) < 0:
            seen = len(self._buffer)
            if seen > most:
                break
            self._fill()
        if not 0 <= end <= most:
            raise ServerError(f"a line of the answer is longer than {most} bytes")
        return self._take(end + 1)[:-1].removesuffix(b"\r")

    def exactly(self, count: int) -> bytes:
        """Return so many bytes; whoever asks has bounded them."""
        while len(self._buffer) < count:
            self._fill()
        return self._take(count)

    def rest(self, most: int) -> bytes:
        """Return everything up to the end. Raises ServerError when that is more than `most`."""
        while data := self._receive():
            self._buffer += data
            if len(self._buffer) > most:
                raise ServerError(f"the answer is longer than {most} bytes")
        return self._take(len(self._buffer))

    def _fill(self) -> None:
        data = self._receive()
        if not data:
            raise ServerError("the connection was closed in the middle of an answer")
        self._buffer += data

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


class Connection(Stream):
    """A connected socket under a task's deadline. Raises ServerError when it cannot be made."""

    __slots__ = ("_socket", "_task")

    def __init__(self, address: str, task: Task) -> None:
        """Connect to `host:port`, `[v6]:port` or `unix:/path`."""
        super().__init__(self._some)
        self._task = task
        self._socket = _connect(address, task)

    def send(self, data: bytes) -> None:
        """Send all of it. Raises ServerError."""
        view = memoryview(data)
        while view:
            self._socket.settimeout(self._task.slice_s())
            try:
                view = view[self._socket.send(view):]
            except TimeoutError:
                continue
            except OSError as error:
                raise ServerError(f"the connection broke: {error.strerror}") from error

    def _some(self) -> bytes:
        while True:
            self._socket.settimeout(self._task.slice_s())
            try:
                return self._socket.recv(CHUNK_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                raise ServerError(f"the connection broke: {error.strerror}") from error

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(address: str, task: Task) -> socket:
    places: list[tuple[int, Any]]
    try:
        if address.startswith(UNIX):
            places = [(AF_UNIX, address.removeprefix(UNIX))]
        else:
            host, port = split_address(address)
            places = [(found[0], found[4]) for found in getaddrinfo(host, port, 0, SOCK_STREAM)]
    except (OSError, ValueError) as error:      # gaierror is an OSError
        raise ServerError(f"{address}: {error}") from error
    why = "no address"
    for family, place in places:
        made = socket(family, SOCK_STREAM)
        try:
            made.settimeout(task.left_s())
            made.connect(place)
        except OSError as error:
            made.close()
            why = error.strerror or str(error)
        else:
            return made
    raise ServerError(f"cannot connect to {address}: {why}")
