"""What the tests of the adaptors share beside inside.py: requests."""

from __future__ import annotations

from oomguard.act.hooks import Request


def ask(needed_bytes: int, *, release_all: bool = False, deadline_s: float = 20.0) -> Request:
    """Return a request for so many bytes."""
    return Request(3, needed_bytes, release_all, deadline_s)
