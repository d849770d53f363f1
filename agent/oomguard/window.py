"""The sliding window: the last 300 s of one target, in a shared, memory-mapped ring of one-second blocks.

A block holds the last reading of its second, the least headroom and the greatest lateness within it, so that
neither size nor the cost of a score grows with the cadence. Pressure and fault columns hold the kernel's own
cumulative counters: a rate over any span is one difference. The head is published last, and a block that is
still being filled is written to whichever of two slots the head does not point at: who reads the file of a
crashed writer sees only whole samples. `_kernel.c` has the same layout (`struct header`, `enum column`);
tests/test_kernel.py compares the two.
"""

from __future__ import annotations

import mmap
import os
import struct
from itertools import pairwise
from math import floor, nan

from oomguard.errors import WindowError
from oomguard.kernel import HAS_KERNEL, native
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oomguard.sense.sample import Sample

SPAN_S = 300.0
CAPACITY = 304              # slots; 300 s and both ends are 301 blocks, the newest may be in either of two slots
MAX_BLOCKS = CAPACITY - 1
HEADER_BYTES = 4096
MAGIC = b"OOMGWIN1"
VERSION = 1
STATE_SLOTS = 256           # float64: what decide/plan.py allows rules to keep
BYTE_ORDER = 0x01020304

# float64 columns first, then float32, then one of uint32: every column is aligned without padding.
WIDE = ("t_s", "psi_some_us", "psi_full_us", "refaults", "major_faults")
NARROW = ("headroom_bytes", "least_headroom_bytes", "used_bytes", "charged_bytes", "kernel_bytes",
          "available_bytes", "swap_free_bytes", "evictable_bytes", "limit_bytes", "late_s", "phase")
COLUMNS = (*WIDE, *NARROW, "segment")
BLOCK_BYTES = 8 * len(WIDE) + 4 * len(NARROW) + 4
WINDOW_BYTES = HEADER_BYTES + BLOCK_BYTES * CAPACITY

# Header: offset of each field. 0-31 never change after creation.
_FIXED = struct.Struct("=8sIIIIII")     # magic, version, byte order, capacity, header, block bytes, state slots
_HEAD_AT, _START_AT, RELEASED_AT, PHASE_BEGAN_AT = 32, 40, 48, 56
_SAMPLES_AT, _NAMED_SEGMENT_AT = 64, 104
_IDENTITY_AT, _IDENTITY_BYTES = 128, 256
_CONSTRAINT_AT, _CONSTRAINT_BYTES = 384, 256
_SIGNALS_AT, _SIGNALS_BYTES = 640, 512
_STATE_AT = 2048
_SIGNALS = ",".join(COLUMNS).encode()


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
        memory = bytearray(WINDOW_BYTES)
        _write_header(memory, "", start_s)
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
            problem = _problem_with(fd)
            if problem:
                os.replace(path, path + ".bad")
                raise WindowError(f"{path}: {problem}; set aside as {path}.bad")
            if os.fstat(fd).st_size == 0 or _identity_in(fd) != _clip(identity, _IDENTITY_BYTES):
                fd = _begin(fd, path, identity, now_s)
            return cls(mmap.mmap(fd, WINDOW_BYTES), path, phases)
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
        self._doubles[RELEASED_AT // 8] = t_s

    def _note_constraint(self, sample: Sample) -> None:
        """Begin a new segment, unless the constraint is the one that a restart has just recalled."""
        is_recalled = sample.constraint == self._constraint and _as_float32(sample.limit_bytes) == self._limit
        self._constraint, self._limit = sample.constraint, sample.limit_bytes
        if is_recalled:
            return
        # Name first, number beside it, head last: a name that a crash left ahead of the head is not believed.
        self._segment += 1
        self._words[_NAMED_SEGMENT_AT // 4] = self._segment & 0xFFFFFFFF
        self.buffer[_CONSTRAINT_AT:_CONSTRAINT_AT + _CONSTRAINT_BYTES] = _clip(sample.constraint, _CONSTRAINT_BYTES)

    def _recall_constraint(self) -> None:
        slot = self._slot(0)
        if slot >= 0:
            self._segment = self._words[word_of("segment", slot)]
            if self._words[_NAMED_SEGMENT_AT // 4] == self._segment:
                self._constraint = _text(self.buffer, _CONSTRAINT_AT, _CONSTRAINT_BYTES)
                self._limit = self._floats[word_of("limit_bytes", slot)]  # float32: compared as such

    # -- reading ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return _count(self.buffer)

    @property
    def start_s(self) -> float:
        """CLOCK_BOOTTIME at which the run began; samples count from it."""
        return self._doubles[_START_AT // 8]

    @property
    def samples_total(self) -> int:
        """Samples pushed since the run began, those that have left the window included."""
        return self.buffer.cast("Q")[_SAMPLES_AT // 8]

    @property
    def last_t_s(self) -> float:
        """Time of the newest sample, NaN in an empty window."""
        slot = self._slot(0)
        return nan if slot < 0 else self._doubles[wide_of("t_s", slot)]

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
        return self._doubles[_STATE_AT // 8:_STATE_AT // 8 + STATE_SLOTS]

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of the window, oldest first."""
        for back in range(len(self) - 1, -1, -1):
            slot = self._slot(back)
            headroom, least, used, charged, limit = (self._floats[word_of(name, slot)] for name in Block._fields[1:6])
            yield Block(self._doubles[wide_of("t_s", slot)], headroom, least, used, charged, limit,
                        self._words[word_of("segment", slot)])

    def headroom_history(self) -> list[tuple[float, float]]:
        """Return (t_s, headroom_bytes), oldest first, of the blocks under the constraint that binds now."""
        base, which, count = head_of(self.buffer)
        if not count:
            return []
        # Whole columns at once: 24 us where a walk block by block took 700, and it is asked for in a tick that acts.
        times, rooms, segments = (
            view[at:at + CAPACITY].tolist() for view, at in (
                (self._doubles, wide_of("t_s", 0)), (self._floats, word_of("headroom_bytes", 0)),
                (self._words, word_of("segment", 0))))
        slots = [(base - back) % CAPACITY for back in range(count - 2, -1, -1)]
        slots.append((base + 1 + which) % CAPACITY)
        return [(times[slot], rooms[slot]) for slot in slots if segments[slot] == self._segment]

    def share_of_time(self, counter: str, span_s: float) -> float:
        """Return how much `psi_some_us` or `psi_full_us` rose per microsecond over the last `span_s`, 0…1 or NaN."""
        newest = self._slot(0)
        if newest < 0:
            return nan
        now_t_s = self._doubles[wide_of("t_s", newest)]
        edge = newest
        for back in range(1, len(self)):
            slot = self._slot(back)
            if now_t_s - self._doubles[wide_of("t_s", slot)] > span_s:
                break
            edge = slot
        elapsed_s = now_t_s - self._doubles[wide_of("t_s", edge)]
        if elapsed_s <= 0:
            return nan
        return (self._doubles[wide_of(counter, newest)] - self._doubles[wide_of(counter, edge)]) / elapsed_s / 1e6

    def _slot(self, back: int) -> int:
        """Return the slot of the block `back` blocks before the newest, -1 if there is none."""
        base, which, count = head_of(self.buffer)
        if back >= count:
            return -1
        return (base + 1 + which) % CAPACITY if back == 0 else (base - back + 1) % CAPACITY


# -- layout ------------------------------------------------------------------------------------------------------

def wide_of(column: str, slot: int) -> int:
    """Return where a float64 column's slot is, counted in float64s."""
    return HEADER_BYTES // 8 + WIDE.index(column) * CAPACITY + slot


def word_of(column: str, slot: int) -> int:
    """Return where a float32 column's slot, or the segment's, is, counted in 4 bytes."""
    place = len(NARROW) if column == "segment" else NARROW.index(column)
    return (HEADER_BYTES + 8 * len(WIDE) * CAPACITY) // 4 + place * CAPACITY + slot


def head_of(buffer: memoryview) -> tuple[int, int, int]:
    """Return (slot of the newest closed block, which of the two slots after it is newest, blocks)."""
    word = buffer.cast("Q")[_HEAD_AT // 8]
    return word & 0xFFFF, word >> 16 & 0xFFFF, word >> 32


def _publish(buffer: memoryview, base: int, which: int, count: int) -> None:
    """Set the head in one store of eight bytes: a crash leaves the old one or the new one."""
    buffer.cast("Q")[_HEAD_AT // 8] = base | which << 16 | count << 32


def _count(buffer: memoryview) -> int:
    return head_of(buffer)[2]


def _as_float32(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])


def _clip(text: str, size: int) -> bytes:
    return text.encode("utf-8", "replace")[:size].ljust(size, b"\0")


def _text(buffer: memoryview, at: int, size: int) -> str:
    return bytes(buffer[at:at + size]).rstrip(b"\0").decode("utf-8", "replace")


# -- files -------------------------------------------------------------------------------------------------------

def _write_header(memory: bytearray | mmap.mmap, identity: str, start_s: float) -> None:
    memory[_IDENTITY_AT:_IDENTITY_AT + _IDENTITY_BYTES] = _clip(identity, _IDENTITY_BYTES)
    memory[_SIGNALS_AT:_SIGNALS_AT + _SIGNALS_BYTES] = _SIGNALS.ljust(_SIGNALS_BYTES, b"\0")
    struct.pack_into("=Q", memory, _HEAD_AT, 0)
    struct.pack_into("=ddd", memory, _START_AT, start_s, nan, nan)
    struct.pack_into("=Q", memory, _SAMPLES_AT, 0)
    # The magic last: without it a half-made header is foreign.
    _FIXED.pack_into(memory, 0, MAGIC, VERSION, BYTE_ORDER, CAPACITY, HEADER_BYTES, BLOCK_BYTES, STATE_SLOTS)


def _begin(fd: int, path: str, identity: str, start_s: float) -> int:
    """Put a whole new window in the place of the file; return its descriptor (the old one is closed)."""
    fresh = path + ".new"
    memory = bytearray(WINDOW_BYTES)
    _write_header(memory, identity, start_s)
    new_fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        # Written, not truncated to size: a full disk must fail here and not as SIGBUS in the loop.
        if os.write(new_fd, memory) != WINDOW_BYTES:
            raise OSError(28, "no space for the window", fresh)
        os.replace(fresh, path)
    except OSError:
        os.close(new_fd)
        os.unlink(fresh)
        raise
    os.close(fd)
    return new_fd


def _identity_in(fd: int) -> bytes:
    return os.pread(fd, _IDENTITY_BYTES, _IDENTITY_AT)


def _problem_with(fd: int) -> str:
    """Say what keeps the file from being trusted; empty if nothing does, or if it is new."""
    size = os.fstat(fd).st_size
    if size == 0:
        return ""
    if size != WINDOW_BYTES:
        return f"{size} bytes long where a window has {WINDOW_BYTES}"
    raw = os.pread(fd, HEADER_BYTES, 0)
    magic, version, order, *shape = _FIXED.unpack_from(raw)
    if magic != MAGIC:
        return "not a window file"
    if order != BYTE_ORDER or version != VERSION or shape != [CAPACITY, HEADER_BYTES, BLOCK_BYTES, STATE_SLOTS]:
        return f"a window of another version or machine (version {version}, this is {VERSION})"
    if raw[_SIGNALS_AT:_SIGNALS_AT + _SIGNALS_BYTES].rstrip(b"\0") != _SIGNALS:
        return "a window with other signals"
    base, which, count = head_of(memoryview(raw))
    if base >= CAPACITY or which > 1 or count > MAX_BLOCKS:
        return "its head points outside the ring"
    return "" if _is_ordered(fd, base, which, count) else "its times are not in order"


def _is_ordered(fd: int, base: int, which: int, count: int) -> bool:
    times = struct.unpack(f"={CAPACITY}d", os.pread(fd, 8 * CAPACITY, HEADER_BYTES))
    slots = [(base - back) % CAPACITY for back in range(count - 2, -1, -1)]
    ordered = [times[slot] for slot in slots] + ([times[(base + 1 + which) % CAPACITY]] if count else [])
    return all(t_s >= 0 for t_s in ordered) and all(a < b for a, b in pairwise(ordered))


# -- the readable push, and the reference for the kernel's -----------------------------------------------------

def reference_push(buffer: memoryview, sample: Sample, segment: int, phase_id: float) -> bool:
    """Add one sample to the ring in `buffer`. The kernel's `push` does the same to the bit."""
    t_s, limit, headroom = sample.t_s, sample.limit_bytes, sample.headroom_bytes
    if not (0 <= t_s < 1e12 and 0 < limit < 1e30 and abs(headroom) < 1e30):
        return False
    doubles, floats, words = buffer.cast("d"), buffer.cast("f"), buffer.cast("I")
    base, which, count = head_of(buffer)
    newest = (base + 1 + which) % CAPACITY
    least, late, previous_phase = headroom, sample.late_s, nan
    is_same_second = False
    if count:
        last_t_s = doubles[wide_of("t_s", newest)]
        if not t_s > last_t_s:
            return False
        previous_phase = floats[word_of("phase", newest)]
        is_same_second = floor(t_s) == floor(last_t_s)
    if is_same_second:
        if words[word_of("segment", newest)] == segment:
            earlier = floats[word_of("least_headroom_bytes", newest)]
            least = earlier if earlier < least else least
        earlier = floats[word_of("late_s", newest)]
        late = earlier if earlier > late else late
        slot = (base + 2 - which) % CAPACITY
        head = (base, 1 - which, count)
    else:
        if count and which == 1:
            _copy_block(buffer, (base + 2) % CAPACITY, (base + 1) % CAPACITY)
            _publish(buffer, base, 0, count)
        slot = (base + 2) % CAPACITY
        head = ((base + 1) % CAPACITY, 0, min(count + 1, MAX_BLOCKS))
    is_unknown = phase_id != phase_id and previous_phase != previous_phase
    if phase_id != previous_phase and not is_unknown:
        doubles[PHASE_BEGAN_AT // 8] = t_s
    for name in WIDE:
        doubles[wide_of(name, slot)] = getattr(sample, name)
    special = {"least_headroom_bytes": least, "late_s": late, "phase": phase_id}
    for name in NARROW:
        floats[word_of(name, slot)] = special[name] if name in special else getattr(sample, name)
    words[word_of("segment", slot)] = segment
    buffer.cast("Q")[_SAMPLES_AT // 8] += 1
    _publish(buffer, *head)
    return True


def _copy_block(buffer: memoryview, source: int, to: int) -> None:
    doubles, words = buffer.cast("d"), buffer.cast("I")
    for name in WIDE:
        doubles[wide_of(name, to)] = doubles[wide_of(name, source)]
    for name in (*NARROW, "segment"):
        words[word_of(name, to)] = words[word_of(name, source)]


_push = native.push if HAS_KERNEL else reference_push
