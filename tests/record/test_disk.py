"""A disk that is full, read-only, broken or pulled out from under: recording pauses, counts, and goes on."""

import errno
import os
import subprocess

import pytest
from journals import SMALL, Told, facts, read, row, rows, walk

from oomguard.record import journal as journal_module
from oomguard.record.journal import Journal


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    with open(folder / "others", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC


def drive(journal, run, samples, at_s):
    for at, sample in enumerate(samples):
        run.sample(sample)
        journal.tick(at_s + at)


def test_a_full_disk_costs_samples_and_nothing_else(small_disk):
    """They are counted, the end that came meanwhile is kept, it is said once, and it goes on by itself."""
    told, folder = Told(), small_disk / "journal"
    journal = Journal.open(str(folder), SMALL, told)
    run, other = journal.run(facts("a")), journal.run(facts("b"))
    samples = list(walk(900))
    other.sample(samples[0])
    drive(journal, run, samples[:100], 0.0)
    fill(small_disk)
    drive(journal, run, samples[100:600], 100.0)
    assert journal.is_paused and told.names == ["recording-paused"]
    assert told.events[0][2]["because"] == "No space left on device"
    other.end("exit", 555.0)
    ticket = run.action(556.0, "rule", "hook", 4, 1.0)
    journal.tick(650.0)
    os.unlink(small_disk / "others")
    drive(journal, run, samples[600:], 700.0)
    run.acted(ticket, 2.0, 3.0)
    run.end("stopped", 900.0)
    journal.close()
    assert told.names == ["recording-paused", "recording-resumed"]
    found, losses = read(folder)
    kept = rows(found["a"])
    lost = losses.unwritten_samples
    assert lost > 0 and found["a"].lost_samples == lost == told.events[1][2]["lost_samples"]
    assert len(kept) + lost == 900
    head = next(at for at in range(900) if kept[at] != row(samples[at]))
    assert kept == [row(sample) for sample in samples[:head] + samples[head + lost:]]
    assert found["b"].ended == "exit" and found["b"].ended_after_s == 555.0
    assert found["a"].actions[0][:4] == (556.0, "rule", "hook", 4) and found["a"].actions[0].freed_bytes == 2.0
    assert losses.lines() == [f"{lost} samples had not been written: the disk refused them"]


def test_a_disk_that_is_full_from_the_start_is_waited_for(small_disk):
    """The guard starts all the same."""
    told = Told()
    fill(small_disk)
    journal = Journal.open(str(small_disk), SMALL, told)
    run, samples = journal.run(facts()), list(walk(20))
    start_s = journal._house_s
    drive(journal, run, samples[:10], start_s - 100)
    os.unlink(small_disk / "others")
    drive(journal, run, samples[10:], start_s)
    journal.close()
    found, losses = read(small_disk)
    assert rows(found["app"]) == [row(sample) for sample in samples[11:]]    # the tick that tries is still counted
    assert losses.unwritten_samples == 11 and told.names == ["recording-paused", "recording-resumed"]


def test_a_read_only_disk_is_waited_for(small_disk):
    """Every try costs some microseconds, at most once a minute; it is said once."""
    told = Told()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    journal = Journal.open(str(small_disk / "journal"), SMALL, told)
    run, samples = journal.run(facts()), list(walk(1200))
    start_s = journal._house_s
    drive(journal, run, samples[:1000], start_s)
    assert told.names == ["recording-paused"]
    assert told.events[0][2]["because"] == "Read-only file system"
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    drive(journal, run, samples[1000:], start_s + 1000)
    journal.close()
    assert told.names == ["recording-paused", "recording-resumed"]
    found, losses = read(small_disk)
    assert len(found["app"]) + losses.unwritten_samples == 1200 and len(found["app"]) >= 130


def test_an_error_of_the_disk_is_no_error_of_the_guard(tmp_path, monkeypatch):
    """EIO in the midst of a batch: those samples are counted, the torn frame is cut off."""
    told = Told()
    journal = Journal.open(str(tmp_path), SMALL, told)
    run, samples = journal.run(facts()), list(walk(30))
    drive(journal, run, samples[:10], 0.0)

    def half(fd, data):
        os.write(fd, data[:7])
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(journal_module, "write_all", half)
    drive(journal, run, samples[10:11], 10.0)
    monkeypatch.undo()
    drive(journal, run, samples[11:], 20.0)
    journal.close()
    found, losses = read(tmp_path)
    assert rows(found["app"]) == [row(sample) for sample in samples[:10] + samples[12:]]
    assert losses.unwritten_samples == 2 and losses.torn_tails == 0
    assert told.names == ["recording-paused", "recording-resumed"]


def test_tries_become_rarer(tmp_path, monkeypatch):
    """1, 2, 4 … 60 s: a disk that stays broken is not asked at each tick."""
    tries = []

    def refuse(path, limits):
        tries.append(1)
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(journal_module, "Folder", refuse)
    journal = Journal.open(str(tmp_path), SMALL)
    start_s = journal._house_s
    for second in range(600):
        journal.tick(start_s + second)
    assert 12 <= len(tries) <= 16


def test_events_that_wait_are_bounded(tmp_path, monkeypatch):
    """A disk that never comes back costs 64 KiB of memory at most."""
    monkeypatch.setattr(journal_module, "Folder", lambda path, limits: os.open("/nonexistent", 0))
    told = Told()
    journal = Journal.open(str(tmp_path), SMALL, told)
    run = journal.run(facts())
    for at in range(5000):
        run.kill(float(at))
    assert journal._events_bytes <= journal_module.KEPT_MAX_BYTES
    monkeypatch.undo()
    run.sample(next(walk(1)))
    journal.tick(journal._house_s)
    run.sample(next(walk(1)))
    journal.close()
    kept = len(read(tmp_path)[0]["app"].kills)
    assert told.events[-1][2]["lost_events"] == 5000 - kept > 0


def test_a_folder_that_somebody_deletes_is_made_again(tmp_path):
    """What was in it is gone; what comes after is kept."""
    told, folder = Told(), tmp_path / "journal"
    journal = Journal.open(str(folder), SMALL, told)
    run, samples = journal.run(facts()), list(walk(10))
    drive(journal, run, samples[:5], 0.0)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    later_s = journal._house_s
    drive(journal, run, samples[5:], later_s)
    for second in range(3):
        journal.tick(later_s + 10 + second)
    run.sample(samples[0])
    journal.close()
    assert told.names == ["recording-paused", "recording-resumed"]
    assert told.events[0][2]["because"] == "the file was deleted"
    assert rows(read(folder)[0]["app"])[-1] == row(samples[0])


def test_a_flush_that_fails_is_told_and_begins_anew(tmp_path, monkeypatch):
    """After a failed flush the kernel may have dropped what it was given: what follows goes elsewhere."""
    told = Told()
    journal = Journal.open(str(tmp_path), SMALL, told)
    run, samples = journal.run(facts()), list(walk(10))

    def refuse(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(journal_module.os, "fdatasync", refuse)
    run.sample(samples[0])
    journal._write()
    journal._flush()
    while journal._flushes:
        os.sched_yield()
    monkeypatch.undo()
    drive(journal, run, samples[1:], journal._house_s)
    assert "at a flush" in told.events[0][2]["because"]
    journal.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert rows(read(tmp_path)[0]["app"])[0] == row(samples[0])
