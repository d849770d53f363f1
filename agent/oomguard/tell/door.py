"""The door of the control socket: it listens at a path, looks at who comes, and refuses whom it must.

A dead daemon's socket is replaced, a live one's is left alone, and the mode is never wider than 0660.
"""

from __future__ import annotations

import _socket
import errno
import os
import stat
from collections.abc import Iterator

from oomguard.errors import NotPermittedError, OomguardError, UsageError
from oomguard.lean import suppress
from oomguard.tell.log import Log
from oomguard.tell.paths import NO_ROOM
from oomguard.tell.peer import Peer, may_speak, peer_of
from oomguard.tell.wire import refusal

MODE = 0o660
PATH_MAX_BYTES = 96         # sun_path holds 107 and the name in the making takes up to 11 more
_BACKLOG = 16
_ARRIVALS_PER_WAKE = 16


class AlreadyListeningError(OomguardError):
    """A live daemon has the socket."""

    exit_code = 1


class NoRoomError(NotPermittedError):
    """The disk takes no socket; guarding comes first."""


class Door:
    """The listening socket, and who may come in."""

    __slots__ = ("_group_gid", "_inode", "_listener", "_log", "_path", "_spare_fd")

    def __init__(self, path: str, group_gid: int, log: Log) -> None:
        """Listen; raises as `listen`."""
        self._path, self._group_gid, self._log = path, group_gid, log
        self._listener = listen(path, group_gid)
        self._inode = os.lstat(path).st_ino
        self._spare_fd = _spare()

    def fileno(self) -> int:
        """Return the listening descriptor, -1 when closed."""
        return self._listener.fileno()

    def arrivals(self) -> Iterator[tuple[_socket.socket, Peer]]:
        """Yield those who wait and may come in, a few at a time; the others are told why not."""
        for _turn in range(_ARRIVALS_PER_WAKE):
            try:
                fd, _address = self._listener._accept()     # type: ignore[attr-defined]  # as socket.accept does
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._refuse_unseen(error)
                return
            connection = _socket.socket(fileno=fd)
            connection.setblocking(False)
            peer = peer_of(connection)
            if may_speak(peer, self._group_gid):
                yield connection, peer
            else:
                self.refuse(connection, peer, f"uid {peer.uid} may not speak to this guard: be root,"
                                              " its user, or in its group")

    def refuse(self, connection: _socket.socket, peer: Peer, why: str) -> None:
        """Say why in one line and close."""
        self._log.event("client-refused", "warning", because=why, pid=peer.pid, uid=peer.uid)
        with suppress(OSError):     # it did not wait for the reason
            connection.send(refusal(why), _socket.MSG_NOSIGNAL)
        connection.close()

    def close(self) -> None:
        """Close the socket and remove its name, unless another daemon has put its own there since."""
        self._listener.close()
        if self._spare_fd >= 0:
            os.close(self._spare_fd)
            self._spare_fd = -1
        with suppress(OSError):     # gone with its folder, or no right to: the next daemon replaces it
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)

    def _refuse_unseen(self, error: OSError) -> None:
        """Take and close one connection with the spare descriptor, or the listener would wake us for ever."""
        self._log.event("client-refused", "warning", because=error.strerror)
        if self._spare_fd >= 0:
            os.close(self._spare_fd)
        with suppress(OSError):     # it left, or another thread was quicker: the next wake tries again
            os.close(self._listener._accept()[0])           # type: ignore[attr-defined]
        self._spare_fd = _spare()


def listen(path: str, group_gid: int = -1) -> _socket.socket:
    """Return a non-blocking listening socket at the path.

    It is bound under another name, given its mode, and renamed into place: so it is never open wider than
    0660, and a client meets either the old socket or one that is being listened at.

    Raises:
        AlreadyListeningError: Somebody answers there.
        UsageError: The path is too long, or something that is no socket stands there.
        NotPermittedError: The kernel said no; NoRoomError: the disk did.
    """
    if len(os.fsencode(path)) > PATH_MAX_BYTES:
        raise UsageError(f"the socket path {path} is longer than {PATH_MAX_BYTES} bytes: set OOMGUARD_SOCKET")
    _refuse_unless_free(path)
    listener = _stream()
    making = f"{path}.{os.getpid()}"
    try:
        with suppress(FileNotFoundError):
            os.unlink(making)       # of a former process with our pid
        listener.bind(making)
        if group_gid >= 0 and os.lstat(making).st_gid != group_gid:     # the hardened unit may not chown
            os.chown(making, -1, group_gid)
        os.chmod(making, MODE)
        listener.listen(_BACKLOG)
        os.rename(making, path)
    except OSError as error:
        listener.close()
        refused = NoRoomError if error.errno in NO_ROOM else NotPermittedError
        raise refused(f"cannot listen at {path}: {error.strerror}") from None
    return listener


def _refuse_unless_free(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotPermittedError(f"cannot listen at {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is there and is no socket: remove it or set OOMGUARD_SOCKET")
    pid = _listens_at(path)
    if pid:
        who = f"pid {pid}" if pid > 0 else "its pid is hidden from us"
        raise AlreadyListeningError(f"a guard ({who}) listens at {path} already: stop it,"
                                    " or set OOMGUARD_SOCKET for this one")


def _listens_at(path: str) -> int:
    """Return the pid that listens at the path, -1 where it cannot be told, 0 when nobody does."""
    probe = _stream()
    try:
        probe.connect(path)
        return peer_of(probe).pid or -1         # 0: a process of another pid namespace
    except (ConnectionRefusedError, FileNotFoundError):
        return 0
    except OSError:                             # EAGAIN: its queue is full; EACCES: it is somebody else's
        return -1
    finally:
        probe.close()


def _stream() -> _socket.socket:
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)


def _spare() -> int:
    """Return a descriptor to give up when none is left, so that one can still be refused; -1: none."""
    try:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
