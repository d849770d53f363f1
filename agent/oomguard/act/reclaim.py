"""Have the kernel reclaim a cgroup's page cache and swappable memory: v2 `memory.reclaim` (≥ 5.19)."""

from __future__ import annotations

import errno
import os

CHUNK_BYTES = 4 << 20   # the kernel works through a write before it returns: small ones keep the helper alert


class Reclaim:
    """One reclaim in progress, a chunk at a time. Raises OSError where the cgroup or the file is missing.

    What was freed is what memory.current fell by: the kernel's own yes or no says nothing of the target's
    growth meanwhile.
    """

    __slots__ = ("_before_bytes", "_fd", "_folder", "_left_bytes", "is_over", "is_partial")

    def __init__(self, folder: str, wanted_bytes: int | None, is_dry_run: bool = False) -> None:
        """Open a cgroup's memory.reclaim. wanted_bytes: None asks for everything."""
        self._folder = folder
        self._before_bytes = current_bytes(folder)
        self._left_bytes = max(self._before_bytes, 0) if wanted_bytes is None else wanted_bytes
        self.is_partial = False
        self.is_over = is_dry_run
        self._fd = os.open(f"{folder}/memory.reclaim", os.O_WRONLY | os.O_CLOEXEC)

    def step(self) -> None:
        """Reclaim the next chunk. Raises OSError when the kernel refuses outright."""
        chunk = min(self._left_bytes, CHUNK_BYTES)
        try:
            if chunk > 0:
                os.write(self._fd, b"%d" % chunk)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            self.is_partial = self.is_over = True   # less was found than asked; what was found counts
            return
        self._left_bytes -= chunk
        self.is_over = self._left_bytes <= 0

    def freed_bytes(self) -> int | None:
        """Return by how much memory.current fell, at least 0; None where that cannot be read."""
        now = current_bytes(self._folder)
        return max(self._before_bytes - now, 0) if now >= 0 and self._before_bytes >= 0 else None

    def close(self) -> None:
        """Let the file go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def current_bytes(folder: str) -> int:
    """Return a cgroup's memory.current, -1 where there is none."""
    try:
        fd = os.open(f"{folder}/memory.current", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        return int(os.read(fd, 64))
    except (OSError, ValueError):
        return -1
    finally:
        os.close(fd)


def why_not(folder: str, error: OSError) -> str:
    """Return in words why a cgroup cannot be reclaimed from."""
    if error.errno == errno.ENOENT:
        if os.path.exists(f"{folder}/memory.limit_in_bytes"):
            return "a cgroup v1 has no memory.reclaim"
        missing = "memory.reclaim (kernel ≥ 5.19, cgroup v2)" if os.path.isdir(folder) else "such cgroup"
        return f"{folder}: no {missing}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{folder}/memory.reclaim may not be written by this user"
    return f"{folder}/memory.reclaim: {error.strerror}"
