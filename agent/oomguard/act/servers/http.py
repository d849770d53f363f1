"""One HTTP exchange, bounded: what a webhook, the list of a browser's tabs and a WebSocket's handshake need.

Requests are HTTP/1.0 where that will do, so that answers end with the connection and come in one piece (Chromium
hangs up on 1.0).
"""

from __future__ import annotations

from oomguard.act.servers.ask import ServerError
from oomguard.act.servers.stream import Connection, Stream
from oomguard.typed import NamedTuple

HEADERS_MAX = 100


class Head(NamedTuple):
    """The beginning of an answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]


def request(verb: str, path: str, host: str, headers: dict[str, str], body: bytes = b"", version: str = "1.0") -> bytes:
    """Return a request as it is sent."""
    lines = [f"{verb} {path} HTTP/{version}", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_head(stream: Stream) -> Head:
    """Return status and headers of an answer. Raises ServerError."""
    first = stream.line().split(b" ", 2)
    if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or not (first[1].isdigit() and len(first[1]) == 3):
        raise ServerError(f"this is no answer of an HTTP server: {b' '.join(first)[:40]!r}")
    headers: dict[str, str] = {}
    while line := stream.line():
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or len(headers) >= HEADERS_MAX:
            raise ServerError(f"the answer's headers are wrong, or more than {HEADERS_MAX}")
        headers[name.strip().lower()] = value.strip()
    return Head(int(first[1]), headers)


def read_body(stream: Stream, head: Head, most: int) -> bytes:
    """Return what follows the headers. Raises ServerError when it is more than `most` bytes, or chunked."""
    if "transfer-encoding" in head.headers:
        raise ServerError("the answer comes in chunks, which was not asked for")
    length = head.headers.get("content-length")
    if length is None:
        return stream.rest(most)
    if not (length.isascii() and length.isdigit() and len(length) < 12) or int(length) > most:
        raise ServerError(f"an answer of {length[:20]} bytes is not in 0..{most}")
    return stream.exactly(int(length))


def exchange(connection: Connection, message: bytes, most: int) -> bytes:
    """Send a request and return the body of the answer. Raises ServerError, also for any status but 2xx."""
    connection.send(message)
    head = read_head(connection)
    if not 200 <= head.status < 300:
        raise ServerError(f"answered with status {head.status}")
    return read_body(connection, head, most)
