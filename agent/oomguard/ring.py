"""The ring's memory: where each number of a window stands, what makes a whole one, and the readable push.

A block holds the last reading of its second, the least headroom and the greatest lateness within it, so that
neither size nor the cost of a score grows with the cadence. Pressure and fault columns hold the kernel's own
cumulative counters: a rate over any span is one difference. The head is published last, and a block that is
still being filled is written to whichever of two slots the head does not point at: who reads the file of a
crashed writer sees only whole samples. `_kernel.c` has the same layout (`struct header`, `enum column`);
tests/test_kernel.py compares the two.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from math import floor, nan

from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap

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
_HEAD_AT, START_AT, RELEASED_AT, PHASE_BEGAN_AT = 32, 40, 48, 56
SAMPLES_AT, NAMED_SEGMENT_AT = 64, 104
_IDENTITY_AT, IDENTITY_BYTES = 128, 256
CONSTRAINT_AT, CONSTRAINT_BYTES = 384, 256
_SIGNALS_AT, _SIGNALS_BYTES = 640, 512
STATE_AT = 2048
_SIGNALS = ",".join(COLUMNS).encode()


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


def slots_of(base: int, which: int, count: int) -> list[int]:
    """Return the slots of the blocks that the head says are there, oldest first."""
    closed = [(base - back) % CAPACITY for back in range(count - 2, -1, -1)]
    return [*closed, (base + 1 + which) % CAPACITY] if count else []


def clipped(text: str, size: int) -> bytes:
    """Return a text as the header holds it: UTF-8, cut or filled with zeros to so many bytes."""
    return text.encode("utf-8", "replace")[:size].ljust(size, b"\0")


def text_at(buffer: memoryview, at: int, size: int) -> str:
    """Return a text that the header holds."""
    return bytes(buffer[at:at + size]).rstrip(b"\0").decode("utf-8", "replace")


def write_header(memory: bytearray | mmap.mmap, identity: str, start_s: float) -> None:
    """Make an empty window of `memory`, WINDOW_BYTES of zeros."""
    memory[_IDENTITY_AT:_IDENTITY_AT + IDENTITY_BYTES] = clipped(identity, IDENTITY_BYTES)
    memory[_SIGNALS_AT:_SIGNALS_AT + _SIGNALS_BYTES] = _SIGNALS.ljust(_SIGNALS_BYTES, b"\0")
    struct.pack_into("=Q", memory, _HEAD_AT, 0)
    struct.pack_into("=ddd", memory, START_AT, start_s, nan, nan)
    struct.pack_into("=Q", memory, SAMPLES_AT, 0)
    # The magic last: without it a half-made header is foreign.
    _FIXED.pack_into(memory, 0, MAGIC, VERSION, BYTE_ORDER, CAPACITY, HEADER_BYTES, BLOCK_BYTES, STATE_SLOTS)


def identity_of(raw: bytes) -> bytes:
    """Return who the window in `raw` is of, as `clipped` has it."""
    return raw[_IDENTITY_AT:_IDENTITY_AT + IDENTITY_BYTES]


def problem_with(raw: bytes) -> str:
    """Say what keeps a window's bytes from being trusted; empty if nothing does."""
    if len(raw) != WINDOW_BYTES:
        return f"not the {WINDOW_BYTES} bytes of a window"
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
    times = struct.unpack_from(f"={CAPACITY}d", raw, HEADER_BYTES)
    ordered = [times[slot] for slot in slots_of(base, which, count)]
    is_ordered = all(t_s >= 0 for t_s in ordered) and all(a < b for a, b in pairwise(ordered))
    return "" if is_ordered else "its times are not in order"


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
    buffer.cast("Q")[SAMPLES_AT // 8] += 1
    _publish(buffer, *head)
    return True


def _copy_block(buffer: memoryview, source: int, to: int) -> None:
    doubles, words = buffer.cast("d"), buffer.cast("I")
    for name in WIDE:
        doubles[wide_of(name, to)] = doubles[wide_of(name, source)]
    for name in (*NARROW, "segment"):
        words[word_of(name, to)] = words[word_of(name, source)]
