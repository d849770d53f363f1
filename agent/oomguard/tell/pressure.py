"""A FIFO that speaks systemd's memory-pressure protocol: apps that know MEMORY_PRESSURE_WATCH hear us."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from oomguard.errors import NotPermittedError, UsageError
from oomguard.lean import suppress

WATCH = "MEMORY_PRESSURE_WATCH"
WRITE = "MEMORY_PRESSURE_WRITE"
HOLD_OFF_S = 2.0            # systemd's own default trigger looks at windows of 2 s
_LEVELS = 6                 # 0…5


class Pace:
    """How often one listener is told: never of level 0, else at once when it rises and then every so often."""

    __slots__ = ("_hold_off_s", "_told_s")

    def __init__(self, hold_off_s: float = HOLD_OFF_S) -> None:
        self._hold_off_s, self._told_s = hold_off_s, [float("-inf")] * _LEVELS

    def is_due(self, level: int, t_s: float) -> bool:
        """Return whether the level is above all that were told within the hold-off; it then counts as told."""
        if level < 1 or max(self._told_s[level:]) > t_s - self._hold_off_s:
            return False
        self._told_s[level] = t_s
        return True


class PressureFifo:
    """One FIFO for one app: a byte is one event.

    It is held open for reading and writing: with both ends open here, an app that opens it read-write never
    sees a hang-up, not even after our kill -9 (a socket's reader then spun: 600,000 wakes a second, tried).
    Whoever makes it should live as long as the app. Bytes that nobody reads stay: at most one pipe full.
    """

    __slots__ = ("_fd", "_pace", "path")

    def __init__(self, path: str, owner: int = -1) -> None:
        """Make the FIFO, or take up the one a former guard left there, so that its app stays connected.

        Args:
            path: Absolute and normalised, as the protocol demands of its readers.
            owner: The uid the app runs as, where it is not ours; -1 leaves it.

        Raises:
            UsageError: The path is relative, not normalised, or something that is no FIFO stands there.
            NotPermittedError: The FIFO cannot be made or opened.
        """
        if not path.startswith("/") or os.path.normpath(path) != path:
            raise UsageError(f"{path!r} is not an absolute, normalised path")
        self.path = path
        self._pace = Pace()
        try:
            self._fd = _opened(path, owner)
        except OSError as error:
            raise NotPermittedError(f"cannot make the pressure FIFO {path}: {error.strerror}") from None

    def fileno(self) -> int:
        """Return the descriptor, -1 when closed."""
        return self._fd

    def tell(self, level: int, t_s: float) -> bool:
        """Tell the app of the level, which may be called at every tick; return whether a byte was due.

        A level above all that were told in the last 2 s is told at once; otherwise one byte per 2 s goes out
        for as long as the level is 1 or more. Level 0 has no word: the protocol knows no all-clear.

        Args:
            level: 0…5.
            t_s: Now, CLOCK_BOOTTIME.
        """
        if self._fd < 0 or not self._pace.is_due(level, t_s):
            return False
        with suppress(BlockingIOError):     # full: the app has unread bytes, so its wake-up is still to come
            os.write(self._fd, b"\n")
        return True

    def environment(self) -> dict[str, str]:
        """Return what the app's environment must hold. `applied_to` says what it must not hold."""
        return {WATCH: self.path}

    def applied_to(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment to start the app with: WATCH is set, an inherited WRITE is gone.

        A reader would write those bytes into the FIFO it holds read-write, and read them back as pressure.
        In a shell: `unset MEMORY_PRESSURE_WRITE`; in a unit: `UnsetEnvironment=MEMORY_PRESSURE_WRITE`.
        """
        kept = {name: value for name, value in environ.items() if name != WRITE}
        return kept | self.environment()

    def close(self, is_app_gone: bool = False) -> None:
        """Let go of the FIFO; remove it when the app that read it is gone."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if is_app_gone:
            with suppress(FileNotFoundError):       # removed with the app's folder: what we wanted
                os.unlink(self.path)


def _opened(path: str, owner: int) -> int:
    with suppress(FileExistsError):         # left by a guard that died: its app still has it open
        os.mkfifo(path, 0o600)
    if not stat.S_ISFIFO(os.lstat(path).st_mode):       # asked before the open: opening a device may act
        raise UsageError(f"{path} is there and is no FIFO: remove it")
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        if not stat.S_ISFIFO(found.st_mode) or found.st_uid not in (os.geteuid(), owner):
            raise UsageError(f"{path} belongs to uid {found.st_uid} or is no FIFO: remove it")
        os.fchmod(fd, 0o600)
        if owner >= 0 and found.st_uid != owner:
            os.fchown(fd, owner, -1)
    except BaseException:
        os.close(fd)
        raise
    return fd
