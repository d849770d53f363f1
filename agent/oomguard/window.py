"""The sliding window: the last 300 s of one target, in a shared, memory-mapped ring of one-second blocks (ring.py).

Its file survives the guard: who comes next goes on from it, if it is whole and of the same run.
"""

from __future__ import annotations

import mmap
import os
import struct
from math import nan

from oomguard import ring
from oomguard.errors import WindowError
from oomguard.kernel import HAS_KERNEL, native
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oomguard.sense.sample import Sample

_push = native.push if HAS_KERNEL else ring.reference_push


class Block(NamedTuple):
    """One second of the window as people and `explain` read it; unknown numbers are NaN."""

    t_s: float
    headroom_bytes: float
    least_headroom_bytes: float
    used_bytes: float
    charged_bytes: float
    limit_bytes: float
    segment: int


class Window:
    """The ring of one target. Not thread-safe: one writer, any number of readers of the file."""

    __slots__ = ("_constraint", "_doubles", "_floats", "_limit", "_map", "_segment", "_words", "buffer",
                 "path", "phases")

    def __init__(
        self, memory: mmap.mmap | bytearray, path: str = "", phases: Mapping[str, int] | None = None,
    ) -> None:
        self._map, self.path = memory, path
        self._segment, self._constraint, self._limit = 0, "", nan
        self.phases = phases or {}      # ids of the app's phases, as the model knows them
        self.buffer = memoryview(memory)
        self._doubles = self.buffer.cast("d")
        self._floats = self.buffer.cast("f")
        self._words = self.buffer.cast("I")
        self._recall_constraint()

    # -- making and opening ----------------------------------------------------------------------------------

    @classmethod
    def in_memory(cls, start_s: float = 0.0, phases: Mapping[str, int] | None = None) -> Window:
        """Return an empty window that no file backs: replay, learning, tests, a full disk."""
        memory = bytearray(ring.WINDOW_BYTES)
        ring.write_header(memory, "", start_s)
        return cls(memory, phases=phases)

    @classmethod
    def open(cls, path: str, identity: str, now_s: float, phases: Mapping[str, int] | None = None) -> Window:
        """Continue the window at `path` if it is whole and of the same run, else begin a new one there.

        Args:
            path: the file; its folder must exist.
            identity: names the run (boot, target, start time); at most 256 bytes of UTF-8 count.
            now_s: CLOCK_BOOTTIME, the start of the run if it begins here.
            phases: ids of the app's phases; a phase not named here is unknown (NaN).

        Raises:
            WindowError: the file is torn, foreign or of another version. It has been renamed to `*.bad`:
                calling again begins a new one.
            OSError: the folder cannot be written.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            raw = os.pread(fd, ring.WINDOW_BYTES + 1, 0)
            problem = ring.problem_with(raw) if raw else ""      # without a byte it is new
            if problem:
                os.replace(path, path + ".bad")
                raise WindowError(f"{path}: {problem}; set aside as {path}.bad")
            if not raw or ring.identity_of(raw) != ring.clipped(identity, ring.IDENTITY_BYTES):
                fd = _begin(fd, path, identity, now_s)
            return cls(mmap.mmap(fd, ring.WINDOW_BYTES), path, phases)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the memory. The file stays, for who comes next. Views of `state` must be released before."""
        for view in (self._doubles, self._floats, self._words, self.buffer):
            view.release()
        if isinstance(self._map, mmap.mmap):
            self._map.close()

    # -- writing ---------------------------------------------------------------------------------------------

    def push(self, sample: Sample) -> bool:
        """Add one sample; return False if it was refused.

        Refused are a sample that is not newer than the last one and one without a finite headroom and limit:
        the window never holds what a feature could not be computed from.
        """
        if sample.constraint != self._constraint or sample.limit_bytes != self._limit:
            self._note_constraint(sample)
        phase_id = nan if sample.phase is None else float(self.phases.get(sample.phase, nan))
        return _push(self.buffer, sample, self._segment, phase_id)

    def released(self, t_s: float) -> None:
        """Note that a release was done at `t_s` (seconds since the run began)."""
        self._doubles[ring.RELEASED_AT // 8] = t_s

    def _note_constraint(self, sample: Sample) -> None:
        """Begin a new segment, unless the constraint is the one that a restart has just recalled."""
        is_recalled = sample.constraint == self._constraint and _as_float32(sample.limit_bytes) == self._limit
        self._constraint, self._limit = sample.constraint, sample.limit_bytes
        if is_recalled:
            return
        # Name first, number beside it, head last: a name that a crash left ahead of the head is not believed.
        self._segment += 1
        self._words[ring.NAMED_SEGMENT_AT // 4] = self._segment & 0xFFFFFFFF
        name = ring.clipped(sample.constraint, ring.CONSTRAINT_BYTES)
        self.buffer[ring.CONSTRAINT_AT:ring.CONSTRAINT_AT + ring.CONSTRAINT_BYTES] = name

    def _recall_constraint(self) -> None:
        slot = self._slot(0)
        if slot >= 0:
            self._segment = self._words[ring.word_of("segment", slot)]
            if self._words[ring.NAMED_SEGMENT_AT // 4] == self._segment:
                self._constraint = ring.text_at(self.buffer, ring.CONSTRAINT_AT, ring.CONSTRAINT_BYTES)
                self._limit = self._floats[ring.word_of("limit_bytes", slot)]  # float32: compared as such

    # -- reading ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return ring.head_of(self.buffer)[2]

    @property
    def start_s(self) -> float:
        """CLOCK_BOOTTIME at which the run began; samples count from it."""
        return self._doubles[ring.START_AT // 8]

    @property
    def samples_total(self) -> int:
        """Samples pushed since the run began, those that have left the window included."""
        return self.buffer.cast("Q")[ring.SAMPLES_AT // 8]

    @property
    def last_t_s(self) -> float:
        """Time of the newest sample, NaN in an empty window."""
        slot = self._slot(0)
        return nan if slot < 0 else self._doubles[ring.wide_of("t_s", slot)]

    def is_of_the_past(self, now_s: float) -> bool:
        """Return whether nothing in it is from after `now_s`, CLOCK_BOOTTIME: else another clock timed it."""
        return self.start_s + (self.last_t_s if len(self) else 0.0) <= now_s

    @property
    def constraint(self) -> str:
        """Name of the constraint that bound last."""
        return self._constraint

    @property
    def state(self) -> memoryview[float]:
        """The 256 float64 slots in which the rules keep holds, cooldowns and bounds; zeros in a new window."""
        return self._doubles[ring.STATE_AT // 8:ring.STATE_AT // 8 + ring.STATE_SLOTS]

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of the window, oldest first."""
        for back in range(len(self) - 1, -1, -1):
            slot = self._slot(back)
            headroom, least, used, charged, limit = (
                self._floats[ring.word_of(name, slot)] for name in Block._fields[1:6])
            yield Block(self._doubles[ring.wide_of("t_s", slot)], headroom, least, used, charged, limit,
                        self._words[ring.word_of("segment", slot)])

    def headroom_history(self) -> list[tuple[float, float]]:
        """Return (t_s, headroom_bytes), oldest first, of the blocks under the constraint that binds now."""
        # Whole columns at once: 24 us where a walk block by block took 700, and it is asked for in a tick that acts.
        times, rooms, segments = (
            view[at:at + ring.CAPACITY].tolist() for view, at in (
                (self._doubles, ring.wide_of("t_s", 0)), (self._floats, ring.word_of("headroom_bytes", 0)),
                (self._words, ring.word_of("segment", 0))))
        return [(times[slot], rooms[slot]) for slot in ring.slots_of(*ring.head_of(self.buffer))
                if segments[slot] == self._segment]

    def share_of_time(self, counter: str, span_s: float) -> float:
        """Return how much `psi_some_us` or `psi_full_us` rose per microsecond over the last `span_s`, 0…1 or NaN."""
        newest = self._slot(0)
        if newest < 0:
            return nan
        now_t_s = self._doubles[ring.wide_of("t_s", newest)]
        edge = newest
        for back in range(1, len(self)):
            slot = self._slot(back)
            if now_t_s - self._doubles[ring.wide_of("t_s", slot)] > span_s:
                break
            edge = slot
        elapsed_s = now_t_s - self._doubles[ring.wide_of("t_s", edge)]
        if elapsed_s <= 0:
            return nan
        risen = self._doubles[ring.wide_of(counter, newest)] - self._doubles[ring.wide_of(counter, edge)]
        return risen / elapsed_s / 1e6

    def _slot(self, back: int) -> int:
        """Return the slot of the block `back` blocks before the newest, -1 if there is none."""
        base, which, count = ring.head_of(self.buffer)
        if back >= count:
            return -1
        return (base + 1 + which) % ring.CAPACITY if back == 0 else (base - back + 1) % ring.CAPACITY


def _begin(fd: int, path: str, identity: str, start_s: float) -> int:
    """Put a whole new window in the place of the file; return its descriptor (the old one is closed)."""
    fresh = path + ".new"
    memory = bytearray(ring.WINDOW_BYTES)
    ring.write_header(memory, identity, start_s)
    new_fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        # Written, not truncated to size: a full disk must fail here and not as SIGBUS in the loop.
        if os.write(new_fd, memory) != ring.WINDOW_BYTES:
            raise OSError(28, "no space for the window", fresh)
        os.replace(fresh, path)
    except OSError:
        os.close(new_fd)
        os.unlink(fresh)
        raise
    os.close(fd)
    return new_fd


def _as_float32(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])
