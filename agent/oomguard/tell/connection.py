"""One client of the control socket: what it sent in part, what it has yet to read, how fast it may ask."""

from __future__ import annotations

import _socket

from oomguard.tell.peer import Peer
from oomguard.tell.wire import REQUEST_MAX_BYTES, Lines

MESSAGES_PER_S = 200.0
BURST = 50.0        # so that one client's lines hold up a tick for about 2 ms at most


class Client:
    """One connection. Handlers may read `id` and `peer`, and keep `id` to `send` to it later."""

    __slots__ = ("_at_s", "_tokens", "backlog", "connection", "events", "fd", "held_bytes", "id", "is_subscriber",
                 "is_waited_for", "lines", "peer")

    def __init__(self, connection: _socket.socket, peer: Peer, client_id: int, t_s: float) -> None:
        self.connection, self.fd, self.peer, self.id = connection, connection.fileno(), peer, client_id
        self.lines, self.backlog = Lines(REQUEST_MAX_BYTES), bytearray()
        self.is_subscriber, self.events = False, frozenset[str]()       # no names: every event
        self.is_waited_for = False                                      # epoll watches for room to send
        self.held_bytes = 0                                             # as of the last `weigh`
        self._tokens, self._at_s = BURST, t_s

    def weigh(self) -> int:
        """Return by how many bytes what is held of and for this client has grown since the last time."""
        before, self.held_bytes = self.held_bytes, len(self.backlog) + self.lines.pending_bytes
        return self.held_bytes - before

    def may_ask(self, t_s: float) -> bool:
        """Take one token of the rate limit; return whether there was one."""
        self._tokens = min(BURST, self._tokens + (t_s - self._at_s) * MESSAGES_PER_S)
        self._at_s = t_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def hears(self, event: object) -> bool:
        """Return whether the client subscribed to this event."""
        return self.is_subscriber and (not self.events or event in self.events)
