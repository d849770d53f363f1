"""What a consumer of systemd's memory-pressure protocol is to watch, by its environment or by default."""

from __future__ import annotations

import os
from collections.abc import Mapping

from oomguard.sense.files import below, read_if_there
from oomguard.sense.mounts import cgroups_of, find_hierarchies
from oomguard.sense.psi import SYSTEM
from oomguard.tell.pressure import WATCH, WRITE
from oomguard.typed import NamedTuple

DEFAULT_TRIGGER = b"some 200000 2000000\0"      # sd-event's, and not the documents' 100 ms in 1 s
WRITE_MAX_BYTES = 4096


class Watched(NamedTuple):
    """A path to be watched, and what is to be written there first."""

    path: str
    write: bytes = b""


class Span(NamedTuple):
    """A trigger in numbers: so much stall within a window."""

    is_full: bool
    stall_us: float
    window_s: float


def watched(environ: Mapping[str, str], root: str = "/", is_setuid: bool = False) -> tuple[Watched, ...]:
    """Return what to watch: MEMORY_PRESSURE_WATCH, else the own cgroup; and the machine, unless switched off.

    Args:
        environ: With MEMORY_PRESSURE_WATCH (empty or /dev/null: switched off) and _WRITE.
        root: Where /proc and /sys are looked for.
        is_setuid: Whether the program has other rights than who started it: the variables are then ignored.

    Raises:
        ValueError: The variables are against the protocol.
    """
    system = Watched(below(root, SYSTEM), DEFAULT_TRIGGER)
    path = None if is_setuid else environ.get(WATCH)
    if path is None:
        own = own_pressure_path(root)
        return (Watched(own, DEFAULT_TRIGGER), system) if own else (system,)
    if path in ("", "/dev/null"):
        return ()
    if not path.startswith("/") or os.path.normpath(path) != path:
        raise ValueError(f"{WATCH}: {path[:200]!r} is not an absolute, normalised path")
    given = Watched(path, decoded(environ.get(WRITE, "")))
    return (given,) if path == system.path else (given, system)


def decoded(text: str) -> bytes:
    """Return the bytes of MEMORY_PRESSURE_WRITE. Raises ValueError where it is not base64, or too long."""
    from binascii import a2b_base64

    try:
        data = a2b_base64(text.encode("ascii"), strict_mode=True) if text else b""
    except ValueError as error:
        raise ValueError(f"{WRITE} is not base64: {error}") from None
    if len(data) > WRITE_MAX_BYTES:
        raise ValueError(f"{WRITE} holds more than {WRITE_MAX_BYTES} bytes")
    return data


def own_pressure_path(root: str = "/") -> str:
    """Return our own cgroup's memory.pressure; empty where there is none, or where it is the machine's own."""
    found = find_hierarchies(root)
    _memory, own = cgroups_of(read_if_there(below(root, "/proc/self/cgroup")), found)
    if found.unified is None or not own or (own == "/" and found.unified.top == "/"):
        return ""
    path = below(root, f"{found.unified.path}{own.rstrip('/')}/memory.pressure")
    return path if os.path.exists(path) else ""


def span_of(trigger: bytes) -> Span:
    """Return what a trigger asks for as the kernel reads it; the default's where it cannot be read."""
    words = trigger.rstrip(b"\0\n").split(b" ")
    if len(words) == 3 and words[0] in (b"some", b"full") and words[1].isdigit() and words[2].isdigit():
        stall_us, window_us = int(words[1][:12]), int(words[2][:12])
        if 0 < stall_us <= window_us:
            return Span(words[0] == b"full", float(stall_us), window_us / 1e6)
    return Span(False, 200_000.0, 2.0)
