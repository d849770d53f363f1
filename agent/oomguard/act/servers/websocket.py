"""A WebSocket client (RFC 6455) for one conversation with a browser: text messages of at most 4 MiB."""

from __future__ import annotations

import os
from binascii import b2a_base64

from oomguard.act.servers import http
from oomguard.act.servers.ask import ServerError
from oomguard.act.servers.stream import Connection, Stream

MESSAGE_MAX_BYTES = 4 << 20
CONTROL_MAX_BYTES = 125
FRAMES_MAX = 100_000        # of one conversation: empty ones cost time too
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Frame:
    """One frame as it came."""

    __slots__ = ("data", "is_last", "kind")

    def __init__(self, kind: int, is_last: bool, data: bytes) -> None:
        self.kind, self.is_last, self.data = kind, is_last, data


def read_frame(stream: Stream, most: int = MESSAGE_MAX_BYTES) -> Frame:
    """Return the next frame of a server. Raises ServerError for what the protocol does not allow."""
    first, second = stream.exactly(2)
    kind, length = first & 15, second & 127
    if first & 0x70:
        raise ServerError("a frame uses an extension that was not agreed on")
    if second & 128:
        raise ServerError("a server's frame is masked")
    if length > CONTROL_MAX_BYTES:
        length = int.from_bytes(stream.exactly(2 if length == 126 else 8), "big")
    is_control = kind >= CLOSE
    if kind not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG) or (is_control and first < 128):
        raise ServerError(f"a frame of kind {kind} is not allowed here")
    if length > (CONTROL_MAX_BYTES if is_control else most):
        raise ServerError(f"a frame of {length} bytes is longer than {CONTROL_MAX_BYTES if is_control else most}")
    return Frame(kind, first >= 128, stream.exactly(length))


def write_frame(kind: int, data: bytes, key: bytes) -> bytes:
    """Return a frame of a client, masked with a key of four bytes."""
    length = len(data)
    if length <= CONTROL_MAX_BYTES:
        head = bytes((128 | kind, 128 | length))
    elif length < 1 << 16:
        head = bytes((128 | kind, 128 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((128 | kind, 128 | 127)) + length.to_bytes(8, "big")
    mask = (key * (length // 4 + 1))[:length]
    masked = int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")
    return head + key + masked.to_bytes(length, "big")


class WebSocket:
    """An open WebSocket over a connection, which it closes with itself."""

    __slots__ = ("_connection", "_frames")

    def __init__(self, connection: Connection, host: str, path: str) -> None:
        """Shake hands. Raises ServerError when the server does not switch.

        Sec-WebSocket-Accept is not checked: it tells a WebSocket server from a cache in between, and here is none.
        No Origin is sent: Chromium refuses those it was not told of.
        """
        self._connection, self._frames = connection, 0
        key = b2a_base64(os.urandom(16), newline=False).decode()
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": key}
        connection.send(http.request("GET", path, host, headers, version="1.1"))
        head = http.read_head(connection)
        if head.status != 101 or head.headers.get("upgrade", "").lower() != "websocket":
            raise ServerError(f"no WebSocket at {path}: status {head.status}")

    def send(self, text: str) -> None:
        """Send a text."""
        self._connection.send(write_frame(TEXT, text.encode(), os.urandom(4)))

    def receive(self) -> bytes:
        """Return the next message, put together from its frames; pings are answered. Raises ServerError."""
        parts: list[bytes] = []
        size = 0
        while True:
            frame = read_frame(self._connection, MESSAGE_MAX_BYTES - size)
            self._frames += 1
            if self._frames > FRAMES_MAX:
                raise ServerError(f"more than {FRAMES_MAX} frames were sent")
            if frame.kind == CLOSE:
                raise ServerError("the browser closed the conversation")
            if frame.kind == PING:
                self._connection.send(write_frame(PONG, frame.data, os.urandom(4)))
            if frame.kind >= CLOSE:
                continue
            if (frame.kind == CONTINUATION) != bool(parts):
                raise ServerError("a message of several frames is out of order")
            parts.append(frame.data)
            size += len(frame.data)
            if frame.is_last:
                return b"".join(parts)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
