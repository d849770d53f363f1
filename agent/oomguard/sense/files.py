"""Files of the kernel, opened once and read again at every tick.

A kept descriptor costs one `pread` (0.4 to 3 us, by what the kernel has to print) and, in /proc/PID and in a
cgroup, it stays with the very process or group it was opened for: the kernel answers ESRCH or ENODEV when
that one is gone, whatever has taken its name since.
"""

from __future__ import annotations

import errno
import os

from oomguard.errors import NotPermittedError, OomguardError, TargetGoneError
from oomguard.sense.fields import Numbers, numbers
from oomguard.typed import NoReturn

GONE = frozenset((errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.ENOTDIR))
DENIED = frozenset((errno.EACCES, errno.EPERM))
NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))
RESERVED_DESCRIPTORS = 64       # left to sockets, windows and hooks; beyond, files are opened on demand


def below(root: str, path: str) -> str:
    """Return the absolute `path` as it is found below `root` (another root is a test's fake tree)."""
    return path if root == "/" else root.rstrip("/") + path


class KeptFile:
    """A file read from its start again and again.

    Where descriptors run out it is opened at each read instead; in a cgroup its inode then tells whether it
    is still the same. (/proc makes inodes up as it goes: there the reader has to look at the start time.)
    """

    __slots__ = ("_fd", "_has_inode", "_inode", "_size_bytes", "path")

    def __init__(self, path: str, size_bytes: int = 4096, has_inode: bool = True) -> None:
        """Open `path`; no more than `size_bytes` of it will ever be given as text. Raises OSError."""
        self.path, self._size_bytes, self._inode, self._has_inode = path, size_bytes, 0, has_inode
        self._fd = self._open()

    def _open(self) -> int:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR:
                raise
            fd = -1
        if 0 <= fd < os.sysconf("SC_OPEN_MAX") - RESERVED_DESCRIPTORS:     # the lowest free number is given
            return fd
        self._inode = os.stat(self.path).st_ino
        if fd >= 0:
            os.close(fd)
        return -1

    @property
    def is_kept(self) -> bool:
        """Whether a descriptor is held."""
        return self._fd >= 0

    def read(self) -> bytes:
        """Return the file's present text.

        Raises OSError, with ENODEV or ESRCH when what it told of is gone.
        """
        if self._fd >= 0:
            return os.pread(self._fd, self._size_bytes, 0)
        fd = self._open_on_demand()
        try:
            return os.pread(fd, self._size_bytes, 0)
        finally:
            os.close(fd)

    def numbers(self, labels: tuple[bytes, ...], mark: bytes = b"") -> Numbers:
        """Return one number per label of the file's present text, as `fields` says. Raises OSError as `read` does."""
        if self._fd >= 0:
            return numbers(self._fd, labels, mark)
        fd = self._open_on_demand()
        try:
            return numbers(fd, labels, mark)
        finally:
            os.close(fd)

    def _open_on_demand(self) -> int:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        if self._has_inode and os.fstat(fd).st_ino != self._inode:
            os.close(fd)
            raise OSError(errno.ENODEV, "another file has its name", self.path)
        return fd

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_if_there(path: str, size_bytes: int = 4096) -> KeptFile | None:
    """Return the kept file, or None where it is absent or closed to us: what it holds is then unknown."""
    try:
        return KeptFile(path, size_bytes)
    except OSError:
        return None


def read_if_there(path: str, size_bytes: int = 65536) -> bytes:
    """Return the text of a file read once, empty where it is absent or closed to us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return read_whole(fd, size_bytes)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_whole(fd: int, size_bytes: int) -> bytes:
    """Return up to `size_bytes` of a descriptor: the kernel prints long tables a page at a time.

    Raises OSError.
    """
    parts, missing = [], size_bytes
    while missing > 0 and (part := os.read(fd, missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def raise_for(error: OSError, what: str) -> NoReturn:
    """Raise the family's error for a file that could not be opened: gone, not permitted, or another."""
    text = f"{what}: {error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
    if error.errno in GONE:
        raise TargetGoneError(text) from error
    if error.errno in DENIED:
        raise NotPermittedError(text) from error
    raise OomguardError(text) from error
