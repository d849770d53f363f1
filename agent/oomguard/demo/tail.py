"""Reads a growing file of JSON lines, whole lines only."""

from __future__ import annotations

import json
import os
from typing import Any

_CHUNK_BYTES = 1 << 20


class Tail:
    """What another process appends to a file; the file may come later."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._read_bytes = 0

    def lines(self) -> list[dict[str, Any]]:
        """Return the objects that came since the last call. A line that is none is passed over."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        try:
            fresh = os.pread(fd, _CHUNK_BYTES, self._read_bytes)
        finally:
            os.close(fd)
        whole = fresh[:fresh.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        return [line for line in map(_event, whole.splitlines()) if line is not None]


def _event(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:          # something else writes there as well: a traceback, a warning
        return None
    return line if isinstance(line, dict) and "event" in line else None
