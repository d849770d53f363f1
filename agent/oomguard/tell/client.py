"""Asking the guard, and following its events, over the control socket."""

from __future__ import annotations

import _socket
import errno
from collections.abc import Iterator, Mapping, Sequence

from oomguard.clock import now_s
from oomguard.errors import NotPermittedError, OomguardError
from oomguard.lean import suppress
from oomguard.tell.wire import REPLY_MAX_BYTES, VERSION, Lines, Message, decode, encode

_READ_BYTES = 64 * 1024


class NobodyListensError(OomguardError):
    """No guard answers at the socket."""

    exit_code = 1


class RefusedError(OomguardError):
    """The guard answered, and the answer is no."""

    exit_code = 1


def ask(path: str, request: Mapping[str, object], timeout_s: float = 5.0) -> Message:
    """Send one request and return its result.

    Raises:
        NobodyListensError: No guard is there, or it did not answer in time.
        NotPermittedError: It is there and may not be spoken to.
        RefusedError: It said no; the text is its reason.
    """
    connection = connected(path, timeout_s)
    try:
        return _result(path, connection, request, Lines(REPLY_MAX_BYTES), timeout_s)[0]
    finally:
        connection.close()


def follow(path: str, events: Sequence[str] = (), timeout_s: float = 5.0) -> Iterator[Message]:
    """Subscribe and yield events until the guard goes away; raises as `ask` when it cannot begin.

    Args:
        path: The control socket.
        events: Names of the events to hear; none means all.
        timeout_s: For connecting and subscribing; the wait for events has no end.
    """
    connection = connected(path, timeout_s)
    try:
        lines = Lines(REPLY_MAX_BYTES)
        request = {"op": "subscribe", "events": list(events)}
        _granted, early = _result(path, connection, request, lines, timeout_s)
        yield from early
        connection.settimeout(None)
        while chunk := _received(path, connection):
            yield from (decode(line) for line in lines.feed(chunk))
    finally:
        connection.close()


def connected(path: str, timeout_s: float) -> _socket.socket:
    """Return a connection to the guard; raises NobodyListensError or NotPermittedError."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    connection.settimeout(timeout_s)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotPermittedError(f"you may not open {path}: be root, or the guard's user, or in its group"
                                    ) from None
        raise NobodyListensError(f"no guard listens at {path} ({error.strerror or error}): start one with"
                                 " `oomguard run`, or name its socket (--socket, OOMGUARD_SOCKET)") from None
    return connection


def _result(path: str, connection: _socket.socket, request: Mapping[str, object], lines: Lines,
            timeout_s: float) -> tuple[Message, list[Message]]:
    """Send the request; return its result and what came right behind it."""
    end_s = now_s() + timeout_s
    with suppress(BrokenPipeError):         # refused before it was read: the reason stands in the answer
        connection.sendall(encode({"v": VERSION, **request}))
    answered: list[bytes] = []
    while not answered:
        if now_s() > end_s:         # one that drips bytes has had its time too
            raise NobodyListensError(f"the guard at {path} did not answer within {timeout_s:g} s")
        chunk = _received(path, connection)
        if not chunk:
            raise NobodyListensError(f"the guard at {path} closed the connection without an answer")
        answered = lines.feed(chunk)
    answer, *early = [decode(line) for line in answered]
    result = answer.get("result")
    if answer.get("ok") is not True or not isinstance(result, dict):
        raise RefusedError(f"the guard at {path} says: {answer.get('error', 'nothing that makes sense')}")
    return result, early


def _received(path: str, connection: _socket.socket) -> bytes:
    try:
        return connection.recv(_READ_BYTES)
    except TimeoutError:
        raise NobodyListensError(f"the guard at {path} does not answer: stopped or overloaded") from None
    except ConnectionResetError:
        return b""
