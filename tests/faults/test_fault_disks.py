"""Full and read-only disks under a whole guard: it guards on, counts what it could not keep, and goes on by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from faulted import guard_of_us
from guarded import Guard
from journals import read

from oomguard.record.reader import read_journals

Start = Callable[..., Guard]
Disk = Callable[..., Path]


def fill(place: Path) -> Path:
    """Leave not a byte; return the file to remove."""
    path = place / "fill"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return path
    raise AssertionError("it was not full")


def test_a_disk_that_fills_up_while_recording(start: Start, disk: Disk) -> None:
    """The samples that it refused are counted in the recording itself; none is unaccounted for."""
    place = disk("256k")
    guard = guard_of_us(start, "--journal", str(place / "journal"))
    guard.samples(5)
    filler = fill(place)
    assert guard.event("recording-paused")["because"] == "No space left on device"
    guard.samples(guard.samples(1) + 5)
    filler.unlink()
    assert guard.event("recording-resumed")["lost_samples"] >= 5
    total = guard.samples(guard.samples(1) + 5)
    assert guard.stop() == 0
    (run,) = read_journals(str(place)).runs
    assert total <= len(run) + run.lost_samples <= total + 20


def test_a_read_only_disk_from_the_start(start: Start, disk: Disk) -> None:
    """Journal, runtime files and window can be written nowhere: guarded all the same, and said, each once."""
    place = disk("256k")
    (place / "rt").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    guard = guard_of_us(start, "--runtime-dir", str(place / "rt"), "--journal", str(place / "journal"))
    assert "Read-only file system" in guard.event("window-in-memory")["because"]
    assert guard.event("recording-paused")["because"] == "Read-only file system"
    assert "Read-only file system" in guard.event("no-socket")["because"]
    assert guard.process.poll() is None
    assert guard.stop() == 0
    assert len(guard.events("recording-paused")) == len(guard.events("window-in-memory")) == 1


def test_a_disk_that_becomes_writable_is_used(start: Start, disk: Disk) -> None:
    """The counterpart: once it may be written, the recording begins, with the count of what came before."""
    place = disk("256k")
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    guard = guard_of_us(start, "--journal", str(place / "journal"))
    guard.event("recording-paused")
    subprocess.run(["mount", "-o", "remount,rw", place], check=True)
    assert guard.event("recording-resumed")["lost_samples"] >= 1
    guard.samples(guard.samples(1) + 5)
    assert guard.stop() == 0
    assert len(read(place)[0][str(os.getpid())]) >= 5
