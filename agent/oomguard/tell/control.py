"""The control socket: JSON lines over AF_UNIX that ask the guard and hear its events, never slowing a tick.

A request is `{"op": "status"}`, with an optional `v` (1) and `id` (echoed). Its answer is
`{"v":1,"id":…,"ok":true,"result":{…}}` or `{"v":1,"id":…,"ok":false,"error":"…"}`. After
`{"op":"subscribe","events":["level"]}` (no `events`: all) lines `{"v":1,"event":"level",…}` follow.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable, Mapping
from select import EPOLLIN, EPOLLOUT

from oomguard.clock import now_s
from oomguard.errors import OomguardError
from oomguard.tell.connection import MESSAGES_PER_S, Client
from oomguard.tell.door import Door
from oomguard.tell.log import Log
from oomguard.tell.wire import VERSION, Message, WireError, decode, encode, refusal
from oomguard.typed import Protocol

CLIENTS_MAX = 256
BACKLOG_MAX_BYTES = 256 * 1024      # a client with so much unread is dropped before more is kept for it
HELD_MAX_BYTES = 8 << 20            # of all clients, unread answers and unfinished lines; then the greediest is dropped
_READ_BYTES = 64 * 1024
_FLUSH_BYTES = 32 * 1024
_EVENTS_NAMED_MAX = 32


class Poller(Protocol):
    """What is needed of an epoll object."""

    def register(self, fd: int, eventmask: int) -> None: ...                        # noqa: D102
    def modify(self, fd: int, eventmask: int) -> None: ...                          # noqa: D102
    def unregister(self, fd: int) -> None: ...                                      # noqa: D102


Handler = Callable[[Message, Client], Mapping[str, object]]


class ControlServer:
    """Serves the socket from the daemon's own epoll loop: every call returns at once, everything is bounded.

    A line that is no request is answered with one error line and the connection goes on; a line too long, too
    many lines, too many clients or a reader too slow end the connection. What a batch of lines is answered goes
    out in one piece.
    """

    __slots__ = ("_clients", "_clock", "_door", "_handlers", "_held_bytes", "_log", "_next_id", "_on_gone", "_path",
                 "_poller")

    def __init__(self, path: str, handlers: Mapping[str, Handler], poller: Poller, log: Log, *,
                 group_gid: int = -1, on_gone: Callable[[int], None] | None = None,
                 clock: Callable[[], float] = now_s) -> None:
        """Listen at the path and register with the poller.

        Args:
            path: The socket; its folder exists.
            handlers: Operation → function of (request, client) that returns the result. It may raise
                OomguardError, whose text goes to the client. `subscribe` is built in.
            poller: The daemon's epoll.
            log: Told of refused and dropped clients.
            group_gid: Members of this group may speak too, beside root and our own uid; -1: nobody else.
            on_gone: Called with the id of a client that is gone, to forget what it registered.
            clock: For the rate limit.

        Raises:
            AlreadyListeningError: A live daemon listens there.
            UsageError, NotPermittedError: The path cannot be listened at.
        """
        self._path, self._poller, self._log, self._clock = path, poller, log, clock
        self._on_gone = on_gone
        self._handlers: dict[str, Handler] = {"subscribe": self._subscribe, **handlers}
        self._clients: dict[int, Client] = {}
        self._next_id, self._held_bytes = 1, 0
        self._door = Door(path, group_gid, log)
        poller.register(self._door.fileno(), EPOLLIN)

    @property
    def path(self) -> str:
        """Where it listens."""
        return self._path

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    @property
    def subscribers(self) -> int:
        """How many listen to events."""
        return sum(client.is_subscriber for client in self._clients.values())

    def fds(self) -> tuple[int, ...]:
        """Return the descriptors that the poller watches for this server."""
        return (self._door.fileno(), *self._clients)

    def handle(self, fd: int, events: int) -> bool:
        """Serve what epoll reported; return whether the descriptor is one of ours."""
        if fd == self._door.fileno():
            self._admit()
            return True
        client = self._clients.get(fd)
        if client is None:
            return False
        if events & EPOLLOUT:
            self._flush(client)
        if events & ~EPOLLOUT and self._is_here(client):    # a hang-up shows itself as an empty read
            self._read(client)
        return True

    def publish(self, event: Mapping[str, object]) -> int:
        """Send an event, whose key `event` names it, to everyone who subscribed to it; return to how many."""
        hearing = [client for client in self._clients.values() if client.hears(event.get("event"))]
        if not hearing:
            return 0
        try:
            line = encode({"v": VERSION, **event})
        except (WireError, TypeError) as error:
            self._log.event("event-not-published", "error", name=event.get("event"), because=str(error))
            return 0
        return sum(self._send(client, line) for client in hearing)

    def send(self, client_id: int, message: Mapping[str, object]) -> bool:
        """Send a message to one client that a handler has met; return False when it is gone."""
        for client in self._clients.values():
            if client.id == client_id:
                return self._send(client, encode({"v": VERSION, **message}))
        return False

    def close(self) -> None:
        """Drop everyone and remove the socket, if it is still ours."""
        for client in list(self._clients.values()):
            self._drop(client)
        if self._door.fileno() >= 0:
            self._poller.unregister(self._door.fileno())
            self._door.close()

    def _admit(self) -> None:
        for connection, peer in self._door.arrivals():
            if len(self._clients) >= CLIENTS_MAX:
                self._door.refuse(connection, peer, f"{CLIENTS_MAX} clients are connected already")
                continue
            client = Client(connection, peer, self._next_id, self._clock())
            self._next_id += 1
            self._clients[client.fd] = client
            self._poller.register(client.fd, EPOLLIN)

    def _read(self, client: Client) -> None:
        try:
            chunk = client.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:             # reset by the peer
            self._drop(client)
            return
        if not chunk:
            half = client.lines.pending_bytes
            self._end(client, f"the last line has no newline ({half} bytes)" if half else "")
            return
        try:
            lines = client.lines.feed(chunk)
        except WireError as error:
            self._end(client, str(error))
            return
        self._weigh(client)
        self._answer_all(lines, client)

    def _answer_all(self, lines: list[bytes], client: Client) -> None:
        for line in lines:
            if not self._is_here(client):
                return
            if not client.may_ask(self._clock()):
                self._end(client, f"more than {MESSAGES_PER_S:.0f} messages a second")
                return
            if self._keep(client, self._answer(line, client)) and len(client.backlog) > _FLUSH_BYTES:
                self._flush(client)
        if client.backlog and not client.is_waited_for and self._is_here(client):
            self._flush(client)

    def _answer(self, line: bytes, client: Client) -> bytes:
        try:
            request = decode(line)
        except WireError as error:
            return refusal(str(error))
        ident, op = request.get("id"), request.get("op")
        if not isinstance(ident, (str, int)) or len(str(ident)) > 64:
            ident = None
        if request.get("v", VERSION) != VERSION:
            return refusal(f"this guard speaks version {VERSION} of the protocol", ident)
        handler = self._handlers.get(op) if isinstance(op, str) else None
        if handler is None:
            return refusal(f"op is one of {', '.join(sorted(self._handlers))}", ident)
        try:
            return encode({"v": VERSION, "id": ident, "ok": True, "result": handler(request, client)})
        except OomguardError as error:
            return refusal(str(error), ident)
        except Exception as error:  # noqa: BLE001  a handler's mistake must not end the guard; it is logged by name
            self._log.event("handler-failed", "error", op=op, because=f"{type(error).__name__}: {error}")
            return refusal("internal error, see the guard's log", ident)

    def _subscribe(self, request: Message, client: Client) -> Message:
        names = request.get("events", [])
        if not (isinstance(names, list) and len(names) <= _EVENTS_NAMED_MAX
                and all(isinstance(name, str) for name in names)):
            raise WireError(f"events is a list of at most {_EVENTS_NAMED_MAX} names; none means all")
        client.is_subscriber, client.events = True, frozenset(names)
        return {"events": sorted(client.events)}

    def _send(self, client: Client, line: bytes) -> bool:
        """Send at once what the socket takes and keep the rest."""
        is_idle = not client.backlog
        if self._keep(client, line) and is_idle:
            self._flush(client)
        return self._is_here(client)

    def _keep(self, client: Client, line: bytes) -> bool:
        """Keep a line until it is sent; drop a client that does not read."""
        if len(client.backlog) > BACKLOG_MAX_BYTES:
            self._log.event("client-dropped", "warning", because="it does not read", pid=client.peer.pid,
                            uid=client.peer.uid, unread_bytes=len(client.backlog))
            self._drop(client)
            return False
        client.backlog += line
        self._weigh(client)
        return self._is_here(client)

    def _weigh(self, client: Client) -> None:
        """Count what is held for all clients, and drop the one with the most of it when that is too much."""
        self._held_bytes += client.weigh()
        if self._held_bytes > HELD_MAX_BYTES:
            greediest = max(self._clients.values(), key=lambda each: each.held_bytes)
            self._log.event("client-dropped", "warning", pid=greediest.peer.pid, uid=greediest.peer.uid,
                            because="all clients together leave too much unread", unread_bytes=greediest.held_bytes)
            self._drop(greediest)

    def _flush(self, client: Client) -> None:
        try:
            sent = client.connection.send(client.backlog, _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:             # the peer is gone
            self._drop(client)
            return
        del client.backlog[:sent]
        self._held_bytes += client.weigh()
        if client.is_waited_for != bool(client.backlog):
            client.is_waited_for = bool(client.backlog)
            self._poller.modify(client.fd, EPOLLIN | EPOLLOUT if client.backlog else EPOLLIN)

    def _end(self, client: Client, why: str) -> None:
        """Say why in one line, where there is a why, and close."""
        if why:
            self._log.event("client-dropped", "warning", because=why, pid=client.peer.pid,
                            uid=client.peer.uid)
            if self._keep(client, refusal(why)):
                self._flush(client)
        self._drop(client)

    def _drop(self, client: Client) -> None:
        if not self._is_here(client):
            return
        del self._clients[client.fd]
        self._held_bytes -= client.held_bytes
        self._poller.unregister(client.fd)
        client.connection.close()
        if self._on_gone is not None:
            self._on_gone(client.id)

    def _is_here(self, client: Client) -> bool:
        return self._clients.get(client.fd) is client
