"""Telling the service manager: ready, status, reloading, stopping, alive (sd_notify); silent without one."""

from __future__ import annotations

import _socket
import os
import struct
import time
from collections.abc import Mapping, MutableMapping

FIRST_PASSED = 3            # SD_LISTEN_FDS_START
PASSED_MAX = 4096


class ServiceManager:
    """Speaks sd_notify over NOTIFY_SOCKET (a path or an abstract `@name`). Never blocks, never raises.

    Children must not speak for the service: start them without the variables in VARIABLES.
    """

    VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

    __slots__ = ("_address", "_alive_s", "_socket", "watchdog_s")

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket: _socket.socket | None = None
        if self._address:
            kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
            self._socket = _socket.socket(_socket.AF_UNIX, kind)
        self.watchdog_s = _watchdog_s(environ)      # we are killed when silent for so long; 0: no watchdog
        self._alive_s = float("-inf")

    @property
    def is_present(self) -> bool:
        """Whether a service manager listens."""
        return self._socket is not None

    def ready(self, status: str = "") -> bool:
        """Say that start-up, or a reload, is done."""
        return self._tell("READY=1", status)

    def status(self, text: str) -> bool:
        """Say in one line what the service does now."""
        return self._tell("", text)

    def reloading(self) -> bool:
        """Say that a reload began. The stamp tells it from an earlier one (Type=notify-reload)."""
        stamp_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._tell(f"RELOADING=1\nMONOTONIC_USEC={stamp_us}")

    def stopping(self, status: str = "") -> bool:
        """Say that the service is on its way out."""
        return self._tell("STOPPING=1", status)

    def watchdog(self, t_s: float) -> bool:
        """Say that we are alive; called every tick, sent when a third of the allowed silence has passed."""
        if not self.watchdog_s or t_s - self._alive_s < self.watchdog_s / 3:
            return False
        self._alive_s = t_s
        return self._tell("WATCHDOG=1")

    def keep(self, fd: int, name: str) -> bool:
        """Give the manager a duplicate to keep; the next start finds it among `passed_descriptors`.

        It keeps as many as the unit's FileDescriptorStoreMax= allows, and drops one whose other end hangs up.

        Args:
            fd: What is to be kept.
            name: Under which it comes back: printable ASCII without a colon, at most 255 characters.
        """
        if self._socket is None:
            return False
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))]
        try:
            self._socket.sendmsg([f"FDSTORE=1\nFDNAME={name}".encode()], rights, _socket.MSG_NOSIGNAL, self._address)
        except OSError:     # full or gone: it is not kept, and a restart will hang it up
            return False
        return True

    def forget(self, name: str) -> bool:
        """Let the manager close what it keeps under the name."""
        return self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def close(self) -> None:
        """Close the socket; what is said after that goes nowhere."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _tell(self, state: str, status: str = "") -> bool:
        if self._socket is None:
            return False
        if status:          # one line, so that no text can pass for a message such as STOPPING=1
            state = f"{state}\nSTATUS={' '.join(status.split())[:512]}".lstrip("\n")
        try:
            self._socket.sendto(state.encode("utf-8", "replace"), _socket.MSG_NOSIGNAL, self._address)
        except OSError:     # full or gone: the watchdog, not we, decides what that means
            return False
        return True


def passed_descriptors(environ: MutableMapping[str, str] | None = None) -> list[tuple[int, str]]:
    """Return (descriptor, name) of what the service manager passed us (sd_listen_fds), once.

    The variables are taken away, and no child inherits the descriptors.
    """
    environ = os.environ if environ is None else environ
    pid, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    found, called = [], names.split(":")
    for index in range(min(int(count), PASSED_MAX)):
        fd = FIRST_PASSED + index
        try:
            os.set_inheritable(fd, False)
        except OSError:     # the variables lie
            break
        found.append((fd, called[index] if index < len(called) else ""))
    return found


def _address(text: str) -> str | bytes:
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    return text if text.startswith("/") else ""


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Return WATCHDOG_USEC in seconds; 0 when unset, odd, or meant for another process."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit()) or (pid and pid != str(os.getpid())):
        return 0.0
    return int(text) / 1e6
