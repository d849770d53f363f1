"""The view's end of the control socket: never waits, comes back by itself when the guard does."""

from __future__ import annotations

import _socket
from collections.abc import Mapping
from math import inf

from oomguard.errors import NotPermittedError
from oomguard.tell.client import NobodyListensError, connected
from oomguard.tell.wire import REPLY_MAX_BYTES, VERSION, Lines, Message, WireError, decode, encode

AGAIN_S = 1.0               # between two tries to reach the guard
SILENT_S = 3.0              # a guard that has not answered for so long is said to be silent
CONNECT_S = 0.5
_READ_BYTES = 256 * 1024
_READS_PER_WAKE = 16


class Link:
    """One connection at a time. `trouble` says in words why there is none, or is empty."""

    __slots__ = ("_asked_s", "_connection", "_every_s", "_heard_s", "_lines", "_path", "_retry_s", "trouble")

    def __init__(self, path: str, every_s: float) -> None:
        """Args: every_s: between two `status`, unless an event asks for one at once."""
        self._path, self._every_s = path, every_s
        self._connection: _socket.socket | None = None
        self._lines = Lines(REPLY_MAX_BYTES)
        self._retry_s = self._asked_s = self._heard_s = float("-inf")
        self.trouble = ""

    def fileno(self) -> int:
        """Return the descriptor to wait on, -1 while there is none."""
        return -1 if self._connection is None else self._connection.fileno()

    @property
    def is_there(self) -> bool:
        """Whether somebody is at the other end."""
        return self._connection is not None

    @property
    def is_waiting(self) -> bool:
        """Whether a `status` was asked for and has not come."""
        return self._asked_s > self._heard_s

    def due_s(self) -> float:
        """Return when `tick` has something to do next; infinity where only the guard can bring news."""
        if self._connection is None:
            return self._retry_s + AGAIN_S
        if self.is_waiting:
            return inf if self.trouble else self._asked_s + SILENT_S
        return self._asked_s + self._every_s

    def tick(self, t_s: float) -> None:
        """Connect, or ask, where it is time to."""
        if self._connection is None:
            if t_s - self._retry_s >= AGAIN_S:
                self._retry_s = t_s
                self._connect(t_s)
        elif self.is_waiting:
            silent_s = t_s - self._asked_s
            if silent_s >= SILENT_S:
                self.trouble = f"no answer from the guard for {silent_s:.0f} s: it is stopped or overloaded"
        elif t_s - self._asked_s >= self._every_s:
            self.ask_status(t_s)

    def ask_status(self, t_s: float) -> None:
        """Ask for the status, unless it is already on its way."""
        if not self.is_waiting:
            self._asked_s = t_s
            self.send({"op": "status", "id": "status"})

    def send(self, request: Mapping[str, object]) -> None:
        """Send a request. One that cannot be sent whole at once ends the connection: requests are small."""
        if self._connection is None:
            return
        line = encode({"v": VERSION, **request})
        try:
            if self._connection.send(line, _socket.MSG_NOSIGNAL) != len(line):
                self._lose("the guard does not read: stopped or overloaded")
        except OSError as error:
            self._lose(f"the guard is gone ({error.strerror})")

    def read(self, t_s: float) -> list[Message]:
        """Return what has come, status first asked for noted as heard."""
        found: list[Message] = []
        for _turn in range(_READS_PER_WAKE):
            if self._connection is None:
                break
            try:
                chunk = self._connection.recv(_READ_BYTES)
                if not chunk:
                    self._lose("the guard has ended")
                    break
                found += [decode(line) for line in self._lines.feed(chunk)]
            except BlockingIOError:
                break
            except (OSError, WireError) as error:
                self._lose(f"the guard is gone ({error})")
        if any(message.get("id") == "status" for message in found):
            self._heard_s, self.trouble = t_s, ""
        return found

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, t_s: float) -> None:
        try:
            self._connection = connected(self._path, CONNECT_S)
        except (NobodyListensError, NotPermittedError) as error:
            self.trouble = str(error).partition(": start one")[0]      # the page says that it looks again
            return
        self._connection.setblocking(False)
        self._lines = Lines(REPLY_MAX_BYTES)
        self._asked_s = self._heard_s = float("-inf")
        self.trouble = ""
        self.send({"op": "subscribe", "id": "subscribe", "events": []})
        self.ask_status(t_s)

    def _lose(self, why: str) -> None:
        self.close()
        self.trouble = why
