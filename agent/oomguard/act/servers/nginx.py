"""An nginx cache gives memory back: its coldest files are deleted (tmpfs), or their page cache dropped (a disk).

A cache on tmpfs is memory that the kernel cannot take: a file deleted is memory back, and nginx takes the missing file
for a miss. On a disk nothing is deleted: what is in memory is page cache, the kernel takes it by itself when it
must, and dropping it only comes before that. Only files that nginx names so (32 hexadecimal digits), of one file
system, not through links, count. Coldest is the longest ago read or written, as far as the file system notes it
(`strictatime` notes each reading, `relatime` one a day).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from heapq import heappop, heappush

from oomguard.act.servers.ask import Ask, Freed, ServerError, Task
from oomguard.typed import NamedTuple

DIGITS = frozenset("0123456789abcdef")
NAME_CHARS = 32
DEPTH_MAX = 3               # nginx' `levels` has at most three
SEEN_MAX = 2_000_000        # files looked at in one release
HEAP_MAX = 10_000           # coldest files remembered: 3 MB at most (20,000 took 5.7, measured)
IN_MEMORY = ("tmpfs", "ramfs")


class CacheFile(NamedTuple):
    """A file of the cache."""

    touched_s: float
    bytes: int              # that it takes up
    path: str               # below the cache's folder


def release(ask: Ask, task: Task) -> Freed:
    """Free about what is wanted of the cache in the folder `ask.address`. Raises ServerError, OSError."""
    folder_fd = os.open(ask.address, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        is_memory = file_system(os.fstat(folder_fd).st_dev) in IN_MEMORY
        files, held_bytes = _coldest(folder_fd, ask, task)
        if ask.is_dry_run:
            return Freed(None, f"dry run: {len(files)} files of {held_bytes} bytes")
        if not files:
            raise ServerError(f"{ask.address} holds no file of an nginx cache")
        free_before = _free_bytes(folder_fd)
        count, size_bytes = _let_go(folder_fd, files, is_memory, task)
        if not is_memory:
            return Freed(None, f"dropped {count} files of {size_bytes} bytes from the page cache")
        freed_bytes = min(size_bytes, max(0, _free_bytes(folder_fd) - free_before))
        is_less = size_bytes < ask.wanted_bytes(held_bytes)
        return Freed(freed_bytes, f"{'partial: ' if is_less else ''}deleted {count} files")
    finally:
        os.close(folder_fd)


def is_cache_file(name: str) -> bool:
    """Return whether nginx would call a file of its cache so: the MD5 of its key, in lower case."""
    return len(name) == NAME_CHARS and DIGITS.issuperset(name)


def _coldest(folder_fd: int, ask: Ask, task: Task) -> tuple[list[CacheFile], int]:
    """Return the coldest files that hold what is wanted together, coldest first, and what all hold."""
    heap: list[tuple[float, int, str]] = []         # warmest first: by the time since, negated
    kept_bytes = held_bytes = 0
    for file in _walk(folder_fd, task):
        held_bytes += file.bytes
        heappush(heap, (-file.touched_s, file.bytes, file.path))
        kept_bytes += file.bytes
        while len(heap) > HEAP_MAX or (not ask.is_share() and kept_bytes - heap[0][1] >= ask.needed_bytes):
            kept_bytes -= heappop(heap)[1]
    wanted_bytes = ask.wanted_bytes(held_bytes)
    while heap and kept_bytes - heap[0][1] >= wanted_bytes:
        kept_bytes -= heappop(heap)[1]
    return [CacheFile(-touched, size, path) for touched, size, path in sorted(heap, reverse=True)], held_bytes


def _walk(folder_fd: int, task: Task) -> Iterator[CacheFile]:
    """Give each file of the cache, until half the time is up: the other half is for letting go."""
    device = os.fstat(folder_fd).st_dev
    until = Task(task.left_s() / 2)
    stack, seen = [""], 0
    while stack:
        path = stack.pop()
        try:
            fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
        except OSError:         # gone meanwhile, a link, or not ours to read
            continue
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    seen += 1
                    if seen > SEEN_MAX or until.is_over() or task.is_cancelled:
                        return
                    below = f"{path}/{entry.name}" if path else entry.name
                    if entry.is_dir(follow_symlinks=False) and len(entry.name) <= 2 and below.count("/") < DEPTH_MAX:
                        stack.append(below)
                    elif is_cache_file(entry.name) and (file := _file(entry, below, device)):
                        yield file
        finally:
            os.close(fd)


def _file(entry: os.DirEntry[str], path: str, device: int) -> CacheFile | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_dev != device:
        return None
    return CacheFile(max(found.st_atime, found.st_mtime), found.st_blocks * 512, path)


def _let_go(folder_fd: int, files: list[CacheFile], is_memory: bool, task: Task) -> tuple[int, int]:
    """Delete the files, or drop them from the page cache; return how many, and their bytes. Raises ServerError."""
    count = size_bytes = 0
    why = ""
    for file in files:
        if task.is_over():
            break
        try:
            parent, _, name = file.path.rpartition("/")
            fd = _open_below(folder_fd, parent)
            try:
                _let_one_go(fd, name, is_memory)
            finally:
                os.close(fd)
        except FileNotFoundError:       # nginx was faster
            continue
        except OSError as error:
            why = error.strerror or str(error)
            continue
        count, size_bytes = count + 1, size_bytes + file.bytes
    if not count and why:
        raise ServerError(f"none of {len(files)} files can be let go: {why}")
    return count, size_bytes


def _open_below(folder_fd: int, path: str) -> int:
    """Open a folder part by part, so that none of them is a link. Raises OSError."""
    fd = os.dup(folder_fd)
    for part in path.split("/") if path else []:
        try:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _let_one_go(folder_fd: int, name: str, is_memory: bool) -> None:
    if is_memory:
        os.unlink(name, dir_fd=folder_fd)
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def _free_bytes(folder_fd: int) -> int:
    found = os.fstatvfs(folder_fd)
    return found.f_bfree * found.f_frsize


def file_system(device: int, mounts: str = "/proc/self/mountinfo") -> str:
    """Return the type of the file system on a device, "" where it is not known."""
    wanted = f" {os.major(device)}:{os.minor(device)} ".encode()
    with open(mounts, "rb", 0) as file:
        for line in file.read(1 << 20).splitlines():
            if wanted in line:
                return line.partition(b" - ")[2].split(b" ")[0].decode()
    return ""
