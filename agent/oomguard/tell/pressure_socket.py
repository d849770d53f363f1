"""A socket that speaks systemd's memory-pressure protocol for a service; its connections outlive the guard.

A consumer whose producer hangs up may melt: libsystemd 257 then made 600,000 callbacks a second. So every
connection that is accepted is given to the service manager, too, and a restart, after kill -9 as well, takes it
back; and nobody is hung up on who has not gone first, but for one who has not read for ten minutes, where its
place is needed, or whose user takes more than his share.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable, Iterable
from math import inf
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLRDHUP

from oomguard.clock import now_s
from oomguard.lean import suppress
from oomguard.tell.control import Poller
from oomguard.tell.door import listen
from oomguard.tell.peer import Peer, peer_of
from oomguard.tell.pressure import Pace
from oomguard.tell.service import ServiceManager

NAME = "pressure"           # FileDescriptorName= in the socket unit; its connections are pressure-1, pressure-2 …
CONSUMERS_MAX = 128         # deploy/oomguard.service has FileDescriptorStoreMax= above it
CONSUMERS_PER_USER_MAX = 64
STUCK_S = 600.0
WISH_MAX_BYTES = 256        # what is kept of a consumer's MEMORY_PRESSURE_WRITE
_SEND_BUFFER_BYTES = 1      # the kernel makes it its least, some 5 unread events: 128 frozen apps hold 0.6 MB, not 27
_MODE = 0o666               # any app may listen, as anyone may read /proc/pressure
_ARRIVALS_PER_WAKE = 16

Tell = Callable[..., None]  # (event, severity, **fields)


class Consumer:
    """One app that is connected."""

    __slots__ = ("_connection", "_pace", "fd", "name", "peer", "stuck_since_s", "told", "wish")

    def __init__(self, connection: _socket.socket, name: str) -> None:
        self._connection, self.name = connection, name
        connection.setblocking(False)
        connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.fd, self.peer = connection.fileno(), peer_of(connection)
        self._pace = Pace()
        self.wish = b""                     # what it wrote at its start; nothing hangs on it
        self.told = 0
        self.stuck_since_s = inf            # since when it has not read what was sent

    def read(self) -> bool:
        """Take in what it wrote; return False at its end."""
        try:
            data = self._connection.recv(4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.wish = (self.wish + data)[:WISH_MAX_BYTES]
        return bool(data)

    def tell(self, level: int, t_s: float) -> bool:
        """Send one byte where one is due; return False when the consumer is gone."""
        if not self._pace.is_due(level, t_s):
            return True
        try:
            self._connection.send(b"\n", _socket.MSG_NOSIGNAL)
        except BlockingIOError:             # full: its wake-up is still to come
            self.stuck_since_s = min(self.stuck_since_s, t_s)
            return True
        except OSError:
            return False
        self.told, self.stuck_since_s = self.told + 1, inf
        return True

    def close(self) -> None:
        """Let our end go."""
        self._connection.close()


class PressureSocket:
    """Listens, keeps who came, and tells them."""

    __slots__ = ("_bound_inode", "_clock", "_consumers", "_greedy", "_is_open", "_listener", "_on_change", "_poller",
                 "_service", "_shut_because", "_tell", "path")

    def __init__(
        self, listener: _socket.socket, poller: Poller, service: ServiceManager, tell: Tell, *,
        path: str = "", on_change: Callable[[], None] | None = None, clock: Callable[[], float] = now_s,
    ) -> None:
        """Serve a listening socket; whoever has bound it unlinks it.

        Args:
            listener: AF_UNIX, stream, listening.
            poller: The daemon's epoll.
            service: Keeps the connections over a restart.
            tell: For the log.
            path: Where it listens, if not where it was bound.
            on_change: Called when somebody came or went.
            clock: For who is stuck.
        """
        self._listener, self._poller, self._service, self._tell = listener, poller, service, tell
        self._on_change, self._clock = on_change, clock
        listener.setblocking(False)
        self.path = path or str(listener.getsockname())
        self._bound_inode = -1
        self._consumers: dict[int, Consumer] = {}
        self._greedy: set[int] = set()      # users who were refused, said once each
        self._is_open, self._shut_because = False, ""
        self._open()

    @classmethod
    def bound(
        cls, path: str, poller: Poller, service: ServiceManager, tell: Tell, *,
        on_change: Callable[[], None] | None = None,
    ) -> PressureSocket:
        """Listen at a path of our own. Raises AlreadyListeningError, UsageError, NotPermittedError."""
        listener = listen(path)
        os.chmod(path, _MODE)               # any app may listen, as anyone may read /proc/pressure
        made = cls(listener, poller, service, tell, path=path, on_change=on_change)
        made._bound_inode = os.lstat(path).st_ino
        return made

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """Who is connected."""
        return tuple(self._consumers.values())

    def fds(self) -> tuple[int, ...]:
        """Return the descriptors in the epoll."""
        return (*((self._listener.fileno(),) if self._is_open else ()), *self._consumers)

    def take_back(self, kept: Iterable[tuple[int, str]]) -> int:
        """Go on with the connections that the service manager kept: (descriptor, name); return how many.

        A descriptor that is none of these is closed, and forgotten.
        """
        taken = 0
        for fd, name in kept:
            consumer = _consumer(fd, name)
            if consumer is None:
                self._service.forget(name)
                continue
            self._take_in(consumer)
            taken += 1
        return taken

    def handle(self, fd: int, events: int) -> bool:
        """Serve what epoll reported; return whether the descriptor is one of ours."""
        if fd == self._listener.fileno():
            self._admit()
            return True
        consumer = self._consumers.get(fd)
        if consumer is None:
            return False
        if events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP) or not consumer.read():
            self._drop(consumer, "it has gone")
        elif len(consumer.wish) >= WISH_MAX_BYTES:      # it may write on: we have read enough
            self._poller.modify(fd, EPOLLRDHUP)
        return True

    def tell(self, level: int, t_s: float, is_meant: Callable[[Peer], bool]) -> int:
        """Tell those who are meant of the level, as PressureFifo.tell does; return how many are.

        Args:
            level: 0…5.
            t_s: Now, CLOCK_BOOTTIME.
            is_meant: Whether the level is of a target that the peer is in.
        """
        meant = [consumer for consumer in self.consumers if is_meant(consumer.peer)]
        for consumer in meant:
            if not consumer.tell(level, t_s):
                self._drop(consumer, "it has gone")
        return len(meant)

    def tend(self) -> None:
        """Open the door again where a place has become free; called every tick."""
        if not self._is_open and self._has_room():
            self._open()

    def close(self) -> None:
        """Let go. What the service manager keeps stays connected; the rest is hung up."""
        for consumer in self.consumers:
            consumer.close()
        self._consumers.clear()
        if self._bound_inode >= 0:
            with suppress(OSError):         # gone with its folder
                if os.lstat(self.path).st_ino == self._bound_inode:
                    os.unlink(self.path)
        self._listener.close()

    def _admit(self) -> None:
        for _turn in range(_ARRIVALS_PER_WAKE):
            if not self._has_room():
                self._shut(f"{CONSUMERS_MAX} consumers are connected already: others wait at the door")
                return
            try:
                fd, _address = self._listener._accept()     # type: ignore[attr-defined]  # as socket.accept does
            except BlockingIOError:
                return
            except OSError as error:        # out of descriptors, as a rule: the next tick tries again
                self._shut(str(error.strerror))
                return
            consumer = _consumer(fd, self._free_name())
            if consumer is None:
                continue
            if self._is_greedy(consumer.peer):
                consumer.close()
                continue
            self._shut_because = ""
            self._service.keep(fd, consumer.name)       # before anything else: from here on a kill -9 is survived
            self._take_in(consumer)
            self._tell("consumer-came", pid=consumer.peer.pid, uid=consumer.peer.uid, consumers=len(self._consumers))

    def _take_in(self, consumer: Consumer) -> None:
        self._consumers[consumer.fd] = consumer
        self._poller.register(consumer.fd, EPOLLIN | EPOLLRDHUP)
        if self._on_change is not None:
            self._on_change()

    def _drop(self, consumer: Consumer, why: str) -> None:
        del self._consumers[consumer.fd]
        self._poller.unregister(consumer.fd)        # closing is not enough: the service manager has a duplicate
        self._service.forget(consumer.name)
        consumer.close()
        self._tell("consumer-gone", pid=consumer.peer.pid, uid=consumer.peer.uid, because=why, told=consumer.told,
                   consumers=len(self._consumers))
        if self._on_change is not None:
            self._on_change()

    def _has_room(self) -> bool:
        """Return whether one more may come; a place that is not used is taken away for that."""
        if len(self._consumers) < CONSUMERS_MAX:
            return True
        idlest = min(self.consumers, key=lambda consumer: consumer.stuck_since_s)
        if self._clock() - idlest.stuck_since_s < STUCK_S:
            return False
        self._drop(idlest, "it does not read, and others want to listen")
        return True

    def _is_greedy(self, peer: Peer) -> bool:
        if not peer.uid or sum(each.peer.uid == peer.uid for each in self.consumers) < CONSUMERS_PER_USER_MAX:
            return False
        if peer.uid not in self._greedy:
            self._greedy.add(peer.uid)
            self._tell("consumer-refused", "warning", pid=peer.pid, uid=peer.uid,
                       because=f"{CONSUMERS_PER_USER_MAX} of this user listen already")
        return True

    def _free_name(self) -> str:
        taken = {consumer.name for consumer in self.consumers}
        number = 1
        while f"{NAME}-{number}" in taken:
            number += 1
        return f"{NAME}-{number}"

    def _open(self) -> None:
        self._poller.register(self._listener.fileno(), EPOLLIN)
        self._is_open = True

    def _shut(self, why: str) -> None:
        """Let newcomers wait in the queue: to accept and close would make them spin."""
        self._poller.unregister(self._listener.fileno())
        self._is_open = False
        if why != self._shut_because:
            self._tell("consumers-wait", "warning", because=why)
        self._shut_because = why


def _consumer(fd: int, name: str) -> Consumer | None:
    """Return the consumer at a descriptor; None, and the descriptor closed, where there is none."""
    try:
        connection = _socket.socket(fileno=fd)
    except OSError:
        with suppress(OSError):
            os.close(fd)
        return None
    try:
        return Consumer(connection, name)
    except OSError:                         # not AF_UNIX, or a pipe
        connection.close()
        return None
