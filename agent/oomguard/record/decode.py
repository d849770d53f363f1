"""One segment of a journal, cut into frames: what is damaged is stepped over, and counted."""

from __future__ import annotations

import sys
from binascii import crc32
from collections.abc import Iterator
from typing import NamedTuple

from oomguard.record.layout import (
    BYTE_ORDER,
    COLUMNS,
    CRC,
    FRAME_OVERHEAD_BYTES,
    HEAD,
    HEADER,
    HEADER_BYTES,
    LOST,
    MAGIC,
    MARKER,
    OTHER_ORDER,
    PAYLOAD_MAX_BYTES,
    VERSION,
    Header,
    seed_of,
)

SEARCH_MAX_BYTES = 64 << 20     # what is checksummed to find the way back after damage, per segment
LOOK_BYTES = 64                 # a look at a marker takes about as long as to checksum so many bytes


class Damage(NamedTuple):
    """A stretch of a segment that holds no frame."""

    at: int
    bytes: int
    is_tail: bool               # nothing follows: what a crash in the midst of a write leaves


class Frame(NamedTuple):
    """One frame that its checksum vouches for."""

    kind: int
    payload: bytes


def read_header(data: bytes) -> tuple[Header | None, str]:
    """Return the header of a segment and, where it cannot be read, why."""
    if len(data) < HEADER_BYTES:
        return None, "torn in its header" if data[:len(MAGIC)] == MAGIC[:len(data)] else "not a journal"
    magic, version, order, header_bytes, *facts = HEADER.unpack_from(data)
    if magic != MAGIC:
        return None, "not a journal"
    if order == OTHER_ORDER:
        return None, "written on a machine of the other byte order: export it there"
    if order != BYTE_ORDER:
        return None, "its header is damaged"
    if version != VERSION:
        return None, f"version {version} of the journal; this oomguard reads version {VERSION}"
    body = data[:HEADER_BYTES - CRC.size]
    if header_bytes != HEADER_BYTES or CRC.unpack_from(data, len(body))[0] != crc32(body):
        return None, "its header is damaged"
    if body[HEADER.size:].rstrip(b"\0") != COLUMNS:
        return None, "it has other columns than this oomguard knows"
    return Header(*facts), ""


def frames(data: bytes) -> Iterator[Frame | Damage]:
    """Yield the frames of a segment whose header is sound, and what lies between them.

    After damage the next frame is searched for by its marker and checksum. The search is bounded, so that a file
    made to be slow is not: what lies beyond the bound counts as damaged.
    """
    seed, at, end = seed_of(data), HEADER_BYTES, len(data)
    budget = SEARCH_MAX_BYTES
    while at < end:
        size = _frame_size(data, at, seed)
        if size:
            head = at + HEAD.size
            yield Frame(data[at + 1], data[head:at + size - CRC.size])
            at += size
            continue
        begin = at
        while budget > 0 and not size:
            at = data.find(MARKER.to_bytes(), at + 1)
            if at < 0:
                break
            budget -= _cost(data, at)
            size = _frame_size(data, at, seed)
        if not size:
            at = end
        yield Damage(begin, at - begin, at == end)


def _cost(data: bytes, at: int) -> int:
    """Return what looking there for a frame costs, in bytes that could be checksummed instead."""
    length = int.from_bytes(data[at + 2:at + 4], sys.byteorder)
    is_likely = data[at + 1:at + 2] <= LOST.to_bytes() and length <= PAYLOAD_MAX_BYTES
    return LOOK_BYTES + (length if is_likely else 0)


def _frame_size(data: bytes, at: int, seed: int) -> int:
    """Return the size of the frame there, 0 if there is none."""
    if at + FRAME_OVERHEAD_BYTES > len(data):
        return 0
    marker, kind, length = HEAD.unpack_from(data, at)
    tail = at + HEAD.size + length
    if marker != MARKER or not 0 < kind <= LOST or length > PAYLOAD_MAX_BYTES or tail + CRC.size > len(data):
        return 0
    return tail + CRC.size - at if crc32(data[at:tail], seed) == CRC.unpack_from(data, tail)[0] else 0
