"""The files of a journal: one folder, one writer, a bounded number of bytes and days; the oldest go first."""

from __future__ import annotations

import fcntl
import os
import time
from math import inf
from struct import error

from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.record.layout import HEADER, HEADER_BYTES, SUFFIX, Header, seed_of
from oomguard.typed import NamedTuple

DAY_S = 86400.0
BLOCK_BYTES = 4096          # a file costs whole blocks
LEAST_SEGMENT_BYTES = 16384
SEGMENTS_AT_LEAST = 8       # in a full journal: dropping the oldest costs an eighth of it at most
CLOCK_SET_S = 1.6e9         # 2020-09: before it a wall clock has not been set yet and says nothing about age
CLOCK_STEP_S = 60.0         # a wall clock that moved by more against the boot clock was set
CLOCK_PROVEN_S = 3600.0     # and has to stand for so long, before anything is deleted by its word


class Limits(NamedTuple):
    """How much is kept."""

    total_bytes: int = 64 << 20     # of the whole folder
    age_s: float = 14 * DAY_S
    segment_bytes: int = 4 << 20
    sync_s: float = 30.0            # what a power loss may cost

    def checked(self) -> Limits:
        """Return the limits with segments small enough for the total. Raises UsageError."""
        if not (self.total_bytes >= SEGMENTS_AT_LEAST * LEAST_SEGMENT_BYTES and self.age_s > 0 and self.sync_s > 0):
            raise UsageError(f"a journal needs {SEGMENTS_AT_LEAST * LEAST_SEGMENT_BYTES} bytes at least, and an age and"
                             f" a flush interval above 0: {self}")
        most = self.total_bytes // SEGMENTS_AT_LEAST
        return self._replace(segment_bytes=max(LEAST_SEGMENT_BYTES, min(self.segment_bytes, most)))


class Segment(NamedTuple):
    """A finished file."""

    sequence: int
    bytes: int
    written_s: float            # when it was last written to, wall clock


class Folder:
    """The folder of a journal, held by its one writer.

    Raises OSError wherever the disk refuses; whoever uses it decides what follows.
    """

    __slots__ = ("_began_s", "_limits", "_segments", "_sequence", "_session", "_wall_ahead_s", "_wall_since_s", "fd",
                 "path")

    def __init__(self, path: str, limits: Limits) -> None:
        """Make the folder where it is missing, and hold it.

        Raises:
            UsageError: another process writes there.
            OSError: it cannot be made or read.
        """
        self.path, self._limits = path, limits
        os.makedirs(path, mode=0o750, exist_ok=True)
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _hold(self.fd, path)
            self._segments = _segments_in(self.fd)
        except BaseException:
            self.close()
            raise
        self._sequence = self._segments[-1].sequence if self._segments else 0
        self._session, self._began_s = os.urandom(8), -inf
        self._wall_ahead_s, self._wall_since_s = -inf, inf

    def begin_segment(self) -> tuple[int, int]:
        """Make room, then begin a segment; return its descriptor and the seed of its checksums."""
        self.drop_aged()
        self.make_room()
        self._sequence += 1
        name = _name(self._sequence)
        header = Header(self._sequence, time.time_ns() // 1000, now_s(), os.getpid(), self._session).pack()
        # O_EXCL: two writers, where locks do not work, still never share a file.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(name, flags, 0o640, dir_fd=self.fd)
        try:
            write_all(fd, header)
        except OSError:
            os.close(fd)
            os.unlink(name, dir_fd=self.fd)
            raise
        self._began_s = now_s()
        return fd, seed_of(header)

    def end_segment(self, fd: int) -> None:
        """Close a segment and remember it among those that may be dropped."""
        self._segments.append(Segment(self._sequence, os.fstat(fd).st_size, time.time()))
        os.close(fd)

    def is_segment_old(self, at_s: float) -> bool:
        """Return whether the segment spans so much time that it would hold back the deletion of what is in it."""
        return at_s - self._began_s > self._limits.age_s / SEGMENTS_AT_LEAST

    def make_room(self) -> None:
        """Delete the oldest finished segments until one more fits."""
        most_bytes = self._limits.total_bytes - self._limits.segment_bytes
        occupied_bytes = sum(_occupied(each.bytes) for each in self._segments)
        while self._segments and occupied_bytes > most_bytes:
            occupied_bytes -= _occupied(self._segments[0].bytes)
            self._drop_oldest()

    def drop_aged(self) -> None:
        """Delete finished segments beyond the age limit.

        None while the wall clock is not set, or has been set within the last hour: a year on by mistake, it would
        cost everything that was recorded.
        """
        wall_s, at_s = time.time(), now_s()
        if abs(wall_s - at_s - self._wall_ahead_s) > CLOCK_STEP_S:
            self._wall_since_s = at_s
        self._wall_ahead_s = wall_s - at_s
        if wall_s > CLOCK_SET_S and at_s - self._wall_since_s >= CLOCK_PROVEN_S:
            while self._segments and CLOCK_SET_S < self._segments[0].written_s < wall_s - self._limits.age_s:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._segments.pop(0)
        try:
            os.unlink(_name(oldest.sequence), dir_fd=self.fd)
        except FileNotFoundError:
            return                  # somebody was faster

    def discard_segment(self) -> None:
        """Remove the segment that was begun last."""
        try:
            os.unlink(_name(self._sequence), dir_fd=self.fd)
        except OSError:
            return                  # a reader finds nothing in it

    def reopened(self) -> int:
        """Return another descriptor of the folder, one that does not hold it."""
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)

    def close(self) -> None:
        """Let the next writer in, even where a fork of ours still has a copy of the descriptor."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        except OSError:
            return                  # a file system without locks
        finally:
            self.forget()

    def forget(self) -> None:
        """Give back this process's copy of the descriptor."""
        os.close(self.fd)
        self.fd = -1


def write_all(fd: int, data: bytes) -> None:
    """Hand bytes to the kernel, in one call where it takes them."""
    written = os.write(fd, data)
    while written < len(data):      # the disk has just filled up: the next call says so
        written += os.write(fd, data[written:])


def _name(sequence: int) -> str:
    return f"{sequence:010d}{SUFFIX}"


def _occupied(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def _hold(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{path}: another oomguard{_writer(fd)} records there; give this one a folder of its own"
                         ) from None
    except OSError:
        pass                        # a file system without locks: O_EXCL keeps two writers apart


def _writer(fd: int) -> str:
    """Return ` (pid 812)`: who wrote the newest segment, as far as that can be told."""
    try:
        newest = _segments_in(fd)[-1]
        with open(_name(newest.sequence), "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=fd)
                  ) as file:
            return f" (pid {HEADER.unpack_from(file.read(HEADER_BYTES))[7]})"
    except (OSError, IndexError, error):
        return ""


def sequence_of(name: str) -> int:
    """Return the number in a segment's file name, -1 where it is none."""
    stem = name.removesuffix(SUFFIX)
    return int(stem) if stem != name and len(stem) == 10 and stem.isascii() and stem.isdigit() else -1


def _segments_in(fd: int) -> list[Segment]:
    found = []
    for name in os.listdir(fd):
        sequence = sequence_of(name)
        if sequence >= 0:
            facts = os.stat(name, dir_fd=fd, follow_symlinks=False)
            found.append(Segment(sequence, facts.st_size, facts.st_mtime))
    return sorted(found)
