"""What swap can still take."""

from __future__ import annotations

from pathlib import Path

import pytest
from faketree import MIB, FakeTree

from oomguard.sense.swap import Swaps, zram_cost


def test_a_disk_takes_what_is_free(tmp_path: Path) -> None:
    """Disk swap frees as much memory as it takes."""
    tree = FakeTree(tmp_path)
    tree.swaps(("/dev/sda2", 100, 40))
    assert Swaps(tree.root).room(100 * MIB, 60 * MIB, 500 * MIB) == (60 * MIB, 60 * MIB)


def test_zram_counts_at_its_compressed_cost(tmp_path: Path) -> None:
    """At a ratio of 1/4 the machine gains three quarters; a cgroup may use all of it while memory is there."""
    tree = FakeTree(tmp_path)
    tree.swaps(("/dev/zram0", 200, 100))
    tree.zram("zram0", stored=100, compressed=25)
    assert Swaps(tree.root).room(200 * MIB, 100 * MIB, 500 * MIB) == (75 * MIB, 100 * MIB)


def test_zram_takes_no_more_than_memory_can_hold(tmp_path: Path) -> None:
    """With 10 MiB available and a ratio of 1/4, a cgroup can put 40 MiB there, not 100."""
    tree = FakeTree(tmp_path)
    tree.swaps(("/dev/zram0", 200, 100))
    tree.zram("zram0", stored=100, compressed=25)
    assert Swaps(tree.root).room(200 * MIB, 100 * MIB, 10 * MIB).free_bytes == 40 * MIB


def test_zram_and_disk_together(tmp_path: Path) -> None:
    """Each device counts in its own way."""
    tree = FakeTree(tmp_path)
    tree.swaps(("/dev/zram0", 200, 100), ("/swapfile", 50, 0))
    tree.zram("zram0", stored=100, compressed=50)
    assert Swaps(tree.root).room(250 * MIB, 150 * MIB, 500 * MIB) == (100 * MIB, 150 * MIB)


def test_a_zram_memory_limit_ends_it_sooner(tmp_path: Path) -> None:
    """mem_limit bounds the pool: 5 MiB more at 1/2 take 10 MiB, whatever the disk size says."""
    tree = FakeTree(tmp_path)
    tree.swaps(("/dev/zram0", 200, 100))
    tree.zram("zram0", stored=100, compressed=50, limit=55)
    assert Swaps(tree.root).room(200 * MIB, 100 * MIB, 500 * MIB) == (5 * MIB, 10 * MIB)


def test_room_is_in_whole_bytes(tmp_path: Path) -> None:
    """A ratio of 1/3 makes fractions of bytes; they are rounded down, so that a recording holds what was seen."""
    tree = FakeTree(tmp_path)
    tree.swaps(("/dev/zram0", 200, 100))
    tree.zram("zram0", stored=99.7, compressed=33.3, limit=60.1)
    room = Swaps(tree.root).room(200.0 * MIB, 100.0 * MIB, 10.0 * MIB + 1)
    assert room.gain_bytes > 0 and room.free_bytes > 0
    assert [each.is_integer() for each in room] == [True, True]


def test_a_device_that_comes_is_noticed(tmp_path: Path) -> None:
    """When the total of swap changes, the devices are looked at again."""
    tree = FakeTree(tmp_path)
    tree.swaps()
    swaps = Swaps(tree.root)
    assert swaps.room(0, 0, 500 * MIB) == (0, 0)
    tree.swaps(("/dev/zram0", 100, 0))
    tree.zram("zram0", stored=10, compressed=5)
    assert swaps.room(100 * MIB, 100 * MIB, 500 * MIB) == (50 * MIB, 100 * MIB)


@pytest.mark.parametrize("text", [b"", b"1 2", b"a b c d e", b"0 0 0 0 0 0 0 0 0", b"1 2 3 0"])
def test_an_unmeasured_ratio_is_one_half(text: bytes) -> None:
    """Without numbers worth a ratio, the kernel's own expectation of 2:1 holds."""
    assert zram_cost(text) == (0.5, float("inf"))


def test_ratios_stay_in_their_range() -> None:
    """Incompressible pages cost themselves, never more; nothing is free."""
    assert zram_cost(b"%d %d 0 0" % (10 * MIB, 11 * MIB)).ratio == 1.0
    assert zram_cost(b"%d %d 0 0" % (10 * MIB, 1)).ratio == 0.01


@pytest.mark.parametrize("row", ["", "/dev/zram0", "/dev/zram0 partition x y -2", "\0"])
def test_a_torn_swaps_table_counts_as_a_disk(tmp_path: Path, row: str) -> None:
    """What cannot be parsed falls back to meminfo's own free."""
    tree = FakeTree(tmp_path)
    tree.file("/proc/swaps", "Filename Type Size Used Priority\n" + row)
    assert Swaps(tree.root).room(100 * MIB, 60 * MIB, 500 * MIB) == (60 * MIB, 60 * MIB)
