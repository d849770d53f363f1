"""Redis' protocol, RESP 2, as far as a client needs it: commands out, replies in, every size bounded."""

from __future__ import annotations

from oomguard.act.servers.ask import ServerError
from oomguard.act.servers.stream import Stream

BULK_MAX_BYTES = 1 << 20
ITEMS_MAX = 1024
DEPTH_MAX = 4
NUMBER_MAX_CHARS = 20       # -2⁶³ has so many


class ErrorReply(str):
    """What a server says when it refuses a command."""

    __slots__ = ()


Reply = int | bytes | str | None | list["Reply"]


def command(*words: str) -> bytes:
    """Return a command as it is sent."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def read_reply(stream: Stream, depth: int = 0) -> Reply:
    """Return the next reply: a simple string as str, a bulk as bytes, an error as ErrorReply.

    Raises ServerError for what is no RESP 2, too long or nested too deeply.
    """
    line = stream.line()
    kind, text = line[:1], line[1:]
    if kind == b"+":
        return text.decode("utf-8", "replace")
    if kind == b"-":
        return ErrorReply(text.decode("utf-8", "replace")[:200])
    if kind == b":":
        return _whole(text)
    if kind == b"$":
        return _bulk(stream, _whole(text))
    if kind == b"*" and depth < DEPTH_MAX:
        return _items(stream, _whole(text), depth + 1)
    raise ServerError(f"this is no answer of a Redis: {line[:40]!r}")


def _bulk(stream: Stream, length: int) -> bytes | None:
    if length == -1:
        return None
    if not 0 <= length <= BULK_MAX_BYTES:
        raise ServerError(f"a string of {length} bytes is not in 0..{BULK_MAX_BYTES}")
    data = stream.exactly(length + 2)
    if data[-2:] != b"\r\n":
        raise ServerError("a string of the answer does not end where it says")
    return data[:-2]


def _items(stream: Stream, count: int, depth: int) -> list[Reply] | None:
    if count == -1:
        return None
    if not 0 <= count <= ITEMS_MAX:
        raise ServerError(f"a list of {count} items is not in 0..{ITEMS_MAX}")
    return [read_reply(stream, depth) for _ in range(count)]


def _whole(text: bytes) -> int:
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(text) > NUMBER_MAX_CHARS:
        raise ServerError(f"{text[:40]!r} is not a whole number")
    return int(text)
