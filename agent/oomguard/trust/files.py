"""Files that nobody but root and ourselves can have put there: every step of the way is opened and looked at.

Contract: what `read` returns was read from one descriptor, below a folder that stays the same folder whatever is
renamed meanwhile. In a strict folder no step from `/` on is another user's, or writable by group or others.
"""

from __future__ import annotations

import os
import stat

from oomguard.errors import BundleError

LINKS_MAX = 16
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC      # non-blocking: a FIFO must not hang the start


class Folder:
    """An open folder. A context; `str()` gives the path it was opened by, for people."""

    __slots__ = ("_fd", "is_strict", "path")

    def __init__(self, path: str, *, is_strict: bool) -> None:
        """Open a folder. Raises BundleError: there is none, or (strict) somebody else could have written there."""
        self.path, self.is_strict = path, is_strict
        try:
            self._fd = _walk(path) if is_strict else os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as problem:        # ValueError: a path with a NUL
            raise BundleError(f"{path}: {getattr(problem, 'strerror', None) or problem}") from None

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)

    def __str__(self) -> str:
        return self.path

    def names(self) -> list[str]:
        """Return the names in the folder, sorted."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return a file's bytes. Raises BundleError: none, too long, no plain file; if strict: not ours, a link."""
        where = os.path.join(self.path, name)
        try:
            fd = os.open(name, _READ | (os.O_NOFOLLOW if self.is_strict else 0), dir_fd=self._fd)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise BundleError(f"{where}: not a regular file")
                if self.is_strict:
                    refuse_strangers(status, where)
                with os.fdopen(os.dup(fd), "rb") as file:
                    data = file.read(most_bytes + 1)
            finally:
                os.close(fd)
        except (OSError, ValueError) as problem:
            raise BundleError(f"{where}: {getattr(problem, 'strerror', None) or problem}") from None
        if len(data) > most_bytes:
            raise BundleError(f"{where}: more than {most_bytes} bytes")
        return data


def refuse_strangers(status: os.stat_result, where: str, *, forbidden: int = 0o022) -> None:
    """Raise BundleError where a file or folder is not root's or ours, or has a bit that is forbidden.

    A POSIX access list that lets somebody else write shows in the group's bits, so it is refused with them.
    """
    if status.st_uid not in (0, os.geteuid()):
        raise BundleError(f"{where}: owned by user {status.st_uid}, neither root nor the user that checks it")
    if not stat.S_ISLNK(status.st_mode) and status.st_mode & forbidden:
        raise BundleError(f"{where}: mode {stat.S_IMODE(status.st_mode):04o} lets others in; take that away with "
                          f"`chmod {stat.S_IMODE(status.st_mode) & ~forbidden:o}`")


def _walk(path: str) -> int:
    """Return a descriptor of a folder, reached from `/` by steps that only root or we could have laid.

    A link is followed where it lies in such a folder and is root's or ours: `current -> release-7` is fine.
    """
    steps, links = os.path.abspath(path).split("/")[::-1], 0
    fd, seen = os.open("/", _STEP | os.O_DIRECTORY), "/"
    try:
        while steps:
            step = steps.pop()
            if step in ("", "."):
                continue
            below = os.open(step, _STEP, dir_fd=fd)
            try:
                seen = os.path.normpath(os.path.join(seen, step))
                status = os.fstat(below)
                refuse_strangers(status, seen, forbidden=_forbidden(status, is_last=not set(steps) - {"", "."}))
                if stat.S_ISLNK(status.st_mode):
                    links, seen = links + 1, os.path.dirname(seen)
                    if links > LINKS_MAX:
                        raise BundleError(f"{path}: more than {LINKS_MAX} links on the way")
                    target = os.readlink("", dir_fd=below)
                    steps += target.split("/")[::-1]
                    if target.startswith("/"):
                        seen = "/"
                        os.close(fd)
                        fd = os.open("/", _STEP | os.O_DIRECTORY)
                elif stat.S_ISDIR(status.st_mode):
                    fd, below = below, fd
                else:
                    raise BundleError(f"{seen}: not a folder")
            finally:
                os.close(below)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _forbidden(status: os.stat_result, *, is_last: bool) -> int:
    """Return the bits that must not be set. In a sticky folder, /tmp, nobody moves what is another's."""
    return 0 if status.st_mode & stat.S_ISVTX and not is_last else 0o022
