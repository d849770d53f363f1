"""Errors of disks and of the kernel's own files: a value with a reason, never a stop, and it is mended by itself."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broken import OPENING, READING, SYNCING, WRITING, Broken
from faulted import guard_of_us, recording_of, runs_of
from guarded import MIB, Guard, Holder, until
from journals import SMALL, Told, facts, read, walk

from oomguard.enclosure import Enclosure
from oomguard.record.journal import Journal

Start = Callable[..., Guard]
Child = Callable[..., "subprocess.Popen[str]"]
MakeEnclosure = Callable[..., Enclosure]


@pytest.mark.parametrize("where", ["/proc/meminfo", "memory.stat", "all of the group's files"])
def test_a_kernel_file_that_cannot_be_read_blinds_for_so_long(
    start: Start, child: Child, enclosure: MakeEnclosure, broken: Broken, where: str,
) -> None:
    """EIO from the kernel: the guard says that it is blind, or goes by what is left; and it sees again by itself."""
    group = enclosure("eio", 64 * MIB)
    Holder(child, join=group.join).take(20)
    guard = start("run", "--model", "none", "--target", f"cgroup:{group.path}", environ=broken.environ)
    before = guard.samples(3)
    prefix = {"memory.stat": f"{group.directory}/memory.stat"}.get(where, where if where[0] == "/" else group.directory)
    broken.fail(READING, errno.EIO, prefix)
    if where == "/proc/meminfo":        # the group's own limit is known all the same
        assert guard.samples(before + 5)
        assert guard.target()["is_blind"] is False
    else:                               # only the machine is left, and it is far from full
        assert guard.event("constraint")["constraint"] == "machine"
        assert guard.samples(before + 5)
    assert guard.process.poll() is None
    broken.mend()
    until(lambda: guard.target()["constraint"] == f"cgroup:{group.path}", "the group's own limit", guard.said)


def test_nothing_can_be_read_at_all(start: Start, child: Child, enclosure: MakeEnclosure, broken: Broken) -> None:
    """EIO from every file of the kernel: blind, said once, no storm in the log; then it sees again."""
    group = enclosure("blind", 64 * MIB)
    Holder(child, join=group.join).take(20)
    guard = start("run", "--model", "none", "--target", f"cgroup:{group.path}", environ=broken.environ)
    guard.samples(3)
    broken.fail(READING, errno.EIO, "/")
    assert guard.event("blind")["readings"] == 5
    broken.mend()
    assert guard.event("sees-again")
    assert len(guard.events("blind")) == 1
    assert guard.samples(5)
    assert guard.target()["level"] == 0


def test_a_log_that_cannot_be_written_is_done_without(start: Start, folder: Path, broken: Broken) -> None:
    """EIO at each line: dropped and counted, and the first line that gets through says how many."""
    guard = guard_of_us(start, environ=broken.environ)
    before = guard.samples(2)
    broken.fail(WRITING, errno.EIO, str(guard.log_file))
    guard.process.send_signal(1)        # SIGHUP: a reload, which is told
    assert guard.samples(before + 10)
    until(lambda: guard.status()["started"], "an answer")
    broken.mend()
    assert guard.stop() == 0
    lines = guard.events()
    assert lines[-1]["event"] == "stop" and lines[-1]["dropped"] >= 1


def test_a_window_that_cannot_be_read_back_is_begun_anew(start: Start, folder: Path, broken: Broken) -> None:
    """EIO on the window's file at a restart: the guard goes on with one in memory, and says what that costs."""
    assert guard_of_us(start, "--ticks", "3").wait() == 0
    broken.fail(READING | OPENING, errno.EIO, str(folder / "rt" / "windows"))
    guard = guard_of_us(start, environ=broken.environ)
    assert "Input/output error" in guard.event("window-in-memory")["because"]
    assert guard.samples(3)
    assert guard.event("guarding", 1)["is_continued"] is False


@pytest.mark.parametrize("what", [WRITING, SYNCING | WRITING], ids=["write", "write and flush"])
def test_a_journal_whose_disk_errs_pauses_and_goes_on(
    start: Start, folder: Path, broken: Broken, what: int,
) -> None:
    """EIO from the disk of the journal: the guard ticks on; the recording counts each sample that was refused."""
    guard = guard_of_us(start, environ=broken.environ)
    guard.samples(5)
    broken.fail(what, errno.EIO, str(folder / "state"))
    assert guard.event("recording-paused")["because"] == "Input/output error"
    before = guard.samples(1)
    assert guard.samples(before + 5)
    broken.mend()
    assert guard.event("recording-resumed")["lost_samples"] >= 5
    total = guard.samples(before + 20)
    assert guard.stop() == 0
    (run,) = runs_of(folder)
    assert len(run) + run.lost_samples >= total
    assert run.lost_samples == recording_of(folder).losses.unwritten_samples


# -- a real block device whose writes fail -------------------------------------------------------------------------

@pytest.fixture
def failing_disk(folder: Path, disk: Callable[..., Path]) -> Iterator[tuple[Path, Path]]:
    """An ext4 on a loop device whose sparse file lies on a tmpfs: once that is full, the device's writes fail (EIO).

    Gives the mounted folder, and the file to fill the tmpfs with.
    """
    if not (shutil.which("mkfs.ext4") and shutil.which("losetup")):
        pytest.skip("needs mkfs.ext4 and losetup")
    below = disk("4m", "below")
    image, place = below / "image", folder / "ext4"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", image], check=True)
    place.mkdir()
    if subprocess.run(["mount", "-o", "loop", image, place], capture_output=True).returncode:
        pytest.skip("no loop device can be had")
    yield place, below / "fill"
    subprocess.run(["umount", "-l", place], check=True)


def test_a_block_device_whose_writes_fail_is_noticed_at_the_flush(failing_disk: tuple[Path, Path]) -> None:
    """The kernel took the samples, the device did not: told at the next flush, and a new segment is begun."""
    place, fill = failing_disk
    told = Told()
    journal = Journal.open(str(place / "journal"), SMALL._replace(total_bytes=16 << 20, segment_bytes=2 << 20), told)
    run, samples = journal.run(facts()), list(walk(20_000))
    for sample in samples[:100]:
        run.sample(sample)
        journal.tick(0.0)
    os.fsync(journal._fd)
    with fill.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 4096)
    at = 100
    while not told.names and at < 19_000:       # what lies in blocks that the file has already is still taken
        for sample in samples[at:at + 2000]:
            run.sample(sample)
            journal.tick(0.0)
        at += 2000
        journal.tick(journal._house_s)          # hands the flush to its thread, or finds what came of the last one
        until(lambda: not journal._flushes, "the flush")
    due_s = journal._house_s
    assert told.names[:1] == ["recording-paused"]
    assert "at a flush" in told.events[0][2]["because"]
    fill.unlink()
    for second, sample in enumerate(samples[19_000:]):
        run.sample(sample)
        journal.tick(due_s + second)
    journal.close()
    assert "recording-resumed" in told.names
    kept = read(place / "journal")[0]["app"]
    assert len(kept) >= 100 + 900               # what was on the disk before, and what came after
