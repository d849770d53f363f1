"""Memory runs out with the guard inside: others are killed, and it has seen it coming."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from guarded import MIB, Guard, Holder, until

from oomguard.enclosure import Enclosure

Start = Callable[..., Guard]
Child = Callable[..., "subprocess.Popen[str]"]
MakeEnclosure = Callable[..., Enclosure]


def test_a_cgroup_that_is_full_with_the_guard_in_it(start: Start, child: Child, enclosure: MakeEnclosure) -> None:
    """Its neighbour is killed and not the guard, which told the alarm before and counts the kill."""
    if os.geteuid() != 0:
        pytest.skip("an ordinary user's guard is killed as any other program")
    group = enclosure("full", 96 * MIB)
    guard = start("run", "--model", "none", "--target", f"cgroup:{group.path}", preexec_fn=group.join)
    guard.samples(3)
    hog = Holder(child, join=group.join)
    hog.take(60)
    assert guard.event("level")["level"] >= 1
    with pytest.raises((AssertionError, BrokenPipeError)):
        hog.take(60)
    assert guard.event("kill")["kills"] >= 1
    assert guard.process.poll() is None
    assert guard.samples(guard.samples(1) + 5)
    until(lambda: guard.target()["level"] == 0, "quiet again", guard.said)


def test_a_guard_that_gets_no_more_memory_itself(start: Start, folder: Path) -> None:
    """Its address space is closed at what it has: no thread, no mapping, and it ticks on."""
    guard = start("run", "--model", "none", "--target", f"pid:{os.getpid()}", "--target", "system")
    before = guard.samples(3)
    pages = int(Path(f"/proc/{guard.pid}/statm").read_text().split()[0])
    _soft, hard = resource.prlimit(guard.pid, resource.RLIMIT_AS)
    resource.prlimit(guard.pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), hard))
    assert guard.samples(before + 20)
    assert guard.process.poll() is None
    assert guard.stop() == 0
