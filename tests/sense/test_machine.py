"""The machine's reading."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from faketree import MIB, FakeTree

from oomguard.sense.machine import Machine, open_machine
from oomguard.sense.psi import Pressure


def test_used_is_what_is_not_available(tmp_path: Path) -> None:
    """1000 MiB with 800 available and 500 free: 200 used, 500 charged, headroom 800."""
    tree = FakeTree(tmp_path)
    reading = Machine(tree.root).read()
    machine = reading.constraint
    assert machine[:5] == ("machine", 1000 * MIB, 200 * MIB, 800 * MIB, 500 * MIB)
    assert (reading.available_bytes, reading.trouble) == (800 * MIB, "")


def test_pressure_is_read_once_per_tick_and_only_if_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets that have none of their own share one reading; where all have their own there is none."""
    tree = FakeTree(tmp_path)
    tree.pressure("/proc/pressure/memory", 70, 30)
    machine, reads, read = Machine(tree.root), [], Pressure.read
    monkeypatch.setattr(Pressure, "read", lambda pressure: reads.append(1) or read(pressure))
    machine.read()
    assert reads == []
    assert machine.pressure() == machine.pressure() == (70, 30)
    assert reads == [1]
    tree.pressure("/proc/pressure/memory", 80, 30)
    assert machine.pressure() == (70, 30)
    machine.read()
    assert machine.pressure() == (80, 30)
    machine.close()


def test_swap_adds_headroom_not_limit(tmp_path: Path) -> None:
    """60 MiB of free swap are 60 more MiB until a kill; memory's limit stays."""
    tree = FakeTree(tmp_path)
    tree.meminfo(swap_total=100, swap_free=60)
    tree.swaps(("/dev/sda2", 100, 40))
    machine = Machine(tree.root).read().constraint
    assert (machine.limit_bytes, machine.headroom_bytes) == (1000 * MIB, 860 * MIB)
    assert (machine.swap_used_bytes, machine.swap_free_bytes, machine.swap_limit_bytes) \
        == (40 * MIB, 60 * MIB, 100 * MIB)


def test_zram_adds_only_what_it_saves(tmp_path: Path) -> None:
    """100 MiB of zram at 1/4 give the machine 75."""
    tree = FakeTree(tmp_path)
    tree.meminfo(swap_total=200, swap_free=100)
    tree.swaps(("/dev/zram0", 200, 100))
    tree.zram("zram0", stored=100, compressed=25)
    assert Machine(tree.root).read().constraint.headroom_bytes == 875 * MIB


def test_the_zfs_cache_above_its_minimum_is_available(tmp_path: Path) -> None:
    """MemAvailable does not know ARC: 150 MiB of it, 50 at least, are 100 MiB more."""
    tree = FakeTree(tmp_path)
    tree.file("/proc/spl/kstat/zfs/arcstats",
              "13 1 0x01 147 39984 4 5\nname type data\nhits 4 9\n"
              f"c_min 4 {50 * MIB}\nc_max 4 {500 * MIB}\nsize 4 {150 * MIB}\n")
    reading = Machine(tree.root).read()
    assert (reading.available_bytes, reading.constraint.used_bytes) == (900 * MIB, 100 * MIB)


@pytest.mark.parametrize("text", ["", "size 4 x\nc_min 4 1\n", "\nsize 4\n"])
def test_a_torn_zfs_table_changes_nothing(tmp_path: Path, text: str) -> None:
    """Without both numbers the cache stays used, the safe side."""
    tree = FakeTree(tmp_path)
    tree.file("/proc/spl/kstat/zfs/arcstats", text)
    assert Machine(tree.root).read().available_bytes == 800 * MIB


@pytest.mark.parametrize("text", ["", "MemTotal: many kB\n", "\0\0", "MemTotal:       1024 kB\n"])
def test_an_unreadable_meminfo_is_unknown(tmp_path: Path, text: str) -> None:
    """A reading always comes back; what is not known is NaN."""
    tree = FakeTree(tmp_path)
    tree.file("/proc/meminfo", text)
    machine = Machine(tree.root).read().constraint
    assert machine.headroom_bytes != machine.headroom_bytes
    assert machine.used_bytes != machine.used_bytes


def test_meminfo_comes_back(tmp_path: Path) -> None:
    """One bad read does not blind later ones."""
    tree = FakeTree(tmp_path)
    machine = Machine(tree.root)
    good = tree.path("/proc/meminfo")
    text = Path(good).read_text()
    tree.file("/proc/meminfo", "")
    machine.read()
    tree.file("/proc/meminfo", text)
    assert machine.read().available_bytes == 800 * MIB


def test_an_empty_machine_is_read(tmp_path: Path) -> None:
    """With no file at all everything is unknown and nothing raises."""
    machine = Machine(str(tmp_path))
    assert machine.read().available_bytes != machine.read().available_bytes
    assert not machine.has_pressure
    machine.close()


def test_this_machine_agrees_with_psutil() -> None:
    """MemTotal is the same number, and available within 64 MiB of another witness a moment later."""
    machine = open_machine()
    reading, other = machine.read(), psutil.virtual_memory()
    assert reading.constraint.limit_bytes == other.total
    assert abs(reading.available_bytes - other.available) < 64 * MIB
    machine.close()


def test_reading_opens_nothing() -> None:
    """A thousand readings leave the descriptors as they were, and closing gives all back."""
    before = len(os.listdir("/proc/self/fd"))
    machine = Machine()
    machine.read()
    held = len(os.listdir("/proc/self/fd"))
    for _time in range(1000):
        machine.read()
    assert len(os.listdir("/proc/self/fd")) == held
    machine.close()
    assert len(os.listdir("/proc/self/fd")) == before
