"""The journal's bytes: a header, then frames that each stand for themselves; writer and reader share this table.

A segment is a file `NNNNNNNNNN.journal`: a header of 512 bytes, then frames
`marker u8, kind u8, payload length u16, payload, crc32 u32`, in the byte order of the machine that wrote it.
The checksum starts from the header's, so that a frame of another segment, which a power loss may leave in
recycled disk blocks, is never believed.

A KEY frame holds a whole sample and names its run; NARROW and WIDE hold what has changed since that run's last
sample. NARROW has the changes as float32, where that loses nothing: memory moves in pages, so it nearly never
does. A key comes at least every 64 samples of a run, so that a damaged place costs no more than those.
"""

from __future__ import annotations

from binascii import crc32
from struct import Struct

from oomguard.sense.sample import Sample
from oomguard.typed import NamedTuple

MAGIC = b"OOMGJRN1"
VERSION = 1
BYTE_ORDER = 0x01020304
OTHER_ORDER = 0x04030201
HEADER_BYTES = 512
SUFFIX = ".journal"

# A sample is its time and lateness, these numbers, and the names of its constraint and phase.
NUMBERS = tuple(name for name in Sample._fields if name not in ("t_s", "constraint", "late_s", "phase"))

# magic, version, byte order, size of the header, number of the segment, wall clock in us, CLOCK_BOOTTIME in s,
# process, session; then the names of the columns, and in the last four bytes the checksum of all that.
HEADER = Struct("=8sIIIQqdI8s")
CRC = Struct("=I")
COLUMNS = ",".join(("t_s", "late_s", *NUMBERS)).encode()

MARKER = 0xA7
FACTS, KEY, NARROW, WIDE, ACTION, ACTED, KILL, END, LOST = range(1, 10)
HEAD = Struct("=BBH")
FRAME_OVERHEAD_BYTES = HEAD.size + CRC.size
PAYLOAD_MAX_BYTES = 16384       # facts of a run are the longest: about 900 bytes
TEXT_MAX_BYTES = 1024           # a constraint's name may hold a long cgroup path

SAMPLES_PER_KEY = 64
NO_TEXT = 0xFFFF                # length of a phase that is unknown

# Payloads. Each begins with the run's number in this session. Changes: which, time, lateness, then the values.
KEY_FIELDS = Struct(f"=Hdf{len(NUMBERS)}d")
KEY_LENGTHS = Struct("=BHH")        # of run_id, constraint, phase, which follow
CHANGE_HEAD = Struct("=HHdf")
NARROW_VALUES = tuple(Struct(f"={n}f") for n in range(len(NUMBERS) + 1))
WIDE_VALUES = tuple(Struct(f"={n}d") for n in range(len(NUMBERS) + 1))
# The same with the head in front, as the writer packs them: by the number of values.
NARROW_FRAMES = tuple(Struct(f"=BBHHHdf{n}f") for n in range(len(NUMBERS) + 1))
WIDE_FRAMES = tuple(Struct(f"=BBHHHdf{n}d") for n in range(len(NUMBERS) + 1))
ACTION_FIELDS = Struct("=HIdbdH")   # run, ticket, t_s, level, requested_bytes, length of the rule's name; names
ACTED_FIELDS = Struct("=HIdd")      # run, ticket, freed_bytes, duration_s
KILL_FIELDS = Struct("=HdqBB")      # run, t_s, pid, killer, whole target
END_FIELDS = Struct("=HdqBB")       # run, ended_after_s, pid, killer, ended
LOST_FIELDS = Struct("=HIH")        # run, samples that could not be written, errno of the first
RUN_NUMBER = Struct("=H")

ENDS = ("unknown", "oom", "exit", "crash", "stopped")
KILLERS = ("unknown", "kernel", "oomd", "earlyoom", "app")


class Header(NamedTuple):
    """What the first bytes of a segment say."""

    sequence: int           # rises by one per segment of a folder
    wall_us: int            # UTC, microseconds; only as right as the machine's clock was
    boot_s: float           # CLOCK_BOOTTIME at the same moment
    pid: int
    session: bytes          # eight random bytes per writer: run numbers and tickets count within it

    def pack(self) -> bytes:
        """Return the 512 bytes."""
        fixed = HEADER.pack(MAGIC, VERSION, BYTE_ORDER, HEADER_BYTES, *self)
        body = (fixed + COLUMNS).ljust(HEADER_BYTES - CRC.size, b"\0")
        return body + CRC.pack(crc32(body))


def seed_of(header: bytes) -> int:
    """Return what the checksums of a segment's frames start from: the header's own.

    Not the checksum of the whole header: over data with its own checksum behind it, that is always the same.
    """
    seed: int = CRC.unpack_from(header, HEADER_BYTES - CRC.size)[0]
    return seed


def clipped(text: str, most_bytes: int = TEXT_MAX_BYTES) -> bytes:
    """Return a text as it is stored: UTF-8, cut between characters."""
    data = text.encode("utf-8", "replace")
    return data if len(data) <= most_bytes else data[:most_bytes].decode("utf-8", "ignore").encode()


def framed(kind: int, payload: bytes, seed: int) -> bytes:
    """Return a whole frame. Payloads are at most PAYLOAD_MAX_BYTES long."""
    body = HEAD.pack(MARKER, kind, len(payload)) + payload
    return body + CRC.pack(crc32(body, seed))
