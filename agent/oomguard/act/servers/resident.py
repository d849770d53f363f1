"""The resident memory of processes, as the kernel counts it: what a server's garbage collection gave it back."""

from __future__ import annotations

import os
from collections.abc import Iterable

from oomguard.act.servers.ask import Task
from oomguard.clock import now_s

COUNTED = (b"RssAnon:", b"RssShmem:")       # ZGC's heap and Chromium's canvases are shared memory
LOOK_AGAIN_S = 0.05
STILL_S = 0.5                               # G1 gives its free regions back over some tenths of a second
STILL_BYTES = 256 << 10


def resident_bytes(pids: Iterable[int]) -> int | None:
    """Return anonymous and shared memory of these processes together; None when none can be read."""
    known = [found for pid in pids if (found := _of(pid)) is not None]
    return sum(known) if known else None


def settle_bytes(pids: Iterable[int], goal_bytes: int, task: Task) -> int:
    """Return the resident memory once it has reached a goal, stands still, or time is up; 0 when all are gone."""
    pids = list(pids)
    lowest, lowest_s = resident_bytes(pids) or 0, now_s()
    now = lowest
    while now > goal_bytes and now_s() < lowest_s + STILL_S and not task.is_over():
        task.rest(LOOK_AGAIN_S)
        now = resident_bytes(pids) or 0
        if now < lowest - STILL_BYTES:
            lowest, lowest_s = now, now_s()
    return now


def _of(pid: int) -> int | None:
    try:
        fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        lines = [line.split() for line in os.read(fd, 8192).splitlines() if line.startswith(COUNTED)]
    except OSError:
        return None
    finally:
        os.close(fd)
    return sum(int(line[1]) << 10 for line in lines) if lines else None
