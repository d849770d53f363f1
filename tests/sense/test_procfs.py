"""One process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from faketree import MIB, FakeTree

from oomguard.errors import TargetGoneError
from oomguard.sense.procfs import Process, is_called, parse_stat, pids


def test_memory_is_anon_and_shared_and_swapped(tmp_path: Path) -> None:
    """File pages are left out: they can be dropped."""
    tree = FakeTree(tmp_path)
    tree.process(7, anon=10, shmem=4, swap=2)
    assert Process(7, tree.root).memory_bytes() == (14 * MIB, 2 * MIB)


@pytest.mark.parametrize("name", ["app", "a b", "x) R 1 1 (y", ")", "", "\udcff\udcfe"])
def test_any_name_is_parsed(tmp_path: Path, name: str) -> None:
    """A process may call itself what it likes, brackets and numbers included."""
    tree = FakeTree(tmp_path)
    tree.process(7, comm=name, start=77, faults=5)
    life = Process(7, tree.root).read()
    assert (life.is_dead, life.start_ticks, life.major_faults) == (False, 77, 5)


@pytest.mark.parametrize("text", [b"", b"7 (app", b"7 (app) S 1 2", b"7 (app) S " + b"x " * 40, b"\0" * 50])
def test_a_torn_stat_is_unknown(text: bytes) -> None:
    """What cannot be parsed is no life and no death."""
    assert parse_stat(text) is None


def test_a_torn_read_does_not_end_the_run(tmp_path: Path) -> None:
    """The same process is read again at the next tick."""
    tree = FakeTree(tmp_path)
    tree.process(7, start=77)
    process = Process(7, tree.root)
    tree.file("/proc/7/stat", "")
    assert process.read().major_faults != process.read().major_faults
    tree.process(7, start=77)
    assert process.read().start_ticks == 77


def test_a_reused_pid_is_another_process(tmp_path: Path) -> None:
    """The start time tells them apart."""
    tree = FakeTree(tmp_path)
    tree.process(7, start=77)
    process = Process(7, tree.root)
    tree.process(7, start=78)
    with pytest.raises(TargetGoneError, match="another one"):
        process.read()


def test_a_zombie_is_gone_and_a_leader_without_its_thread_is_not(tmp_path: Path) -> None:
    """A thread group goes on when its first thread has ended; its status then tells no memory."""
    tree = FakeTree(tmp_path)
    tree.process(7, state="Z")
    with pytest.raises(TargetGoneError, match="has ended"):
        Process(7, tree.root)
    tree.process(7, state="Z", threads=3)
    resident_bytes, _swapped_bytes = Process(7, tree.root).memory_bytes()
    assert resident_bytes != resident_bytes


def test_no_such_process() -> None:
    """A pid nobody has is a target gone, exit code 6."""
    with pytest.raises(TargetGoneError, match="process 4194304") as caught:
        Process(4194304)
    assert caught.value.exit_code == 6


def test_a_kept_descriptor_stays_with_a_dead_process(eater: object) -> None:
    """After the end the kernel answers ESRCH on the descriptor, whoever has the pid then."""
    child = eater()
    process = Process(child.pid)
    process.read()
    child.end()
    with pytest.raises(TargetGoneError):
        process.read()
    process.close()


def test_ourselves() -> None:
    """Our own numbers are plausible and our name is found."""
    process = Process(os.getpid())
    resident_bytes, swapped_bytes = process.memory_bytes()
    assert resident_bytes > MIB
    assert swapped_bytes >= 0
    assert os.getpid() in list(pids())
    comm = Path("/proc/self/comm").read_text().strip()
    assert is_called(os.getpid(), comm)
    assert not is_called(os.getpid(), comm + "-not")
    process.close()
