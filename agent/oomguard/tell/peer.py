"""Who is at the other end of a socket, as the kernel says (SO_PEERCRED), and whether they may speak to us."""

from __future__ import annotations

import _socket
import os
import struct

from oomguard.typed import NamedTuple

_SO_PEERGROUPS = 59         # asm-generic/socket.h, Linux >= 4.13; Python has no name for it
_GROUPS_MAX_BYTES = 1024    # 256 groups; CPython's getsockopt takes no larger buffer


class Peer(NamedTuple):
    """The process that connected, with the rights it had then."""

    pid: int
    uid: int
    groups: tuple[int, ...]     # the primary one first


def peer_of(connection: _socket.socket) -> Peer:
    """Return who connected. Raises OSError where the socket is not AF_UNIX."""
    size = struct.calcsize("iII")
    pid, uid, gid = struct.unpack("iII", connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, size))
    try:
        more = connection.getsockopt(_socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_MAX_BYTES)
    except OSError:             # an old kernel, or more than 256 groups: the primary one must do
        more = b""
    return Peer(pid, uid, (gid, *struct.unpack(f"{len(more) // 4}I", more)))


def may_speak(peer: Peer, group_gid: int) -> bool:
    """Return whether the peer is root, we ourselves, or a member of the configured group (-1: none)."""
    return peer.uid in (0, os.geteuid()) or (group_gid >= 0 and group_gid in peer.groups)
