"""Static facts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from faketree import MIB, FakeTree

from oomguard.sense.facts import detect_profile, detect_senses


@pytest.mark.parametrize(("online", "cores"), [("0-3\n", 4), ("0\n", 1), ("0-1,3,6-7\n", 5)])
def test_the_profile_of_a_machine(tmp_path: Path, online: str, cores: int) -> None:
    """RAM, swap and cores are read; the type is nobody's guess."""
    tree = FakeTree(tmp_path)
    tree.meminfo(total=512, swap_total=64, swap_free=64)
    tree.file("/sys/devices/system/cpu/online", online)
    profile = detect_profile(tree.root)
    assert (profile.device_type, profile.ram_bytes, profile.swap_bytes, profile.cores) \
        == ("generic", 512 * MIB, 64 * MIB, cores)


@pytest.mark.parametrize("online", ["", "many", "0-", "0-x", "-"])
def test_unknown_cores_are_nan(tmp_path: Path, online: str) -> None:
    """A list that cannot be parsed is unknown."""
    tree = FakeTree(tmp_path)
    tree.file("/sys/devices/system/cpu/online", online)
    assert detect_profile(tree.root).cores != detect_profile(tree.root).cores or online == "0-"


def test_this_machines_profile() -> None:
    """The real numbers are there."""
    profile = detect_profile()
    assert profile.ram_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") or profile.ram_bytes > MIB
    assert profile.cores >= 1


def test_what_this_kernel_can_tell(tmp_path: Path) -> None:
    """Doctor's list: version 2 with zram and ZFS, then a kernel with nothing."""
    tree = FakeTree(tmp_path / "new", 2)
    tree.meminfo(swap_total=100, swap_free=100)
    tree.swaps(("/dev/zram0", 100, 0), ("/dev/sda1", 1, 0))
    tree.file("/proc/spl/kstat/zfs/arcstats", "")
    senses = detect_senses(tree.root)
    assert (senses.cgroup_version, senses.has_pressure, senses.has_available, senses.zram_devices, senses.has_arc) \
        == (2, True, True, ("zram0",), True)
    nothing = detect_senses(str(tmp_path / "none"))
    assert (nothing.cgroup_version, nothing.has_pressure, nothing.has_available, nothing.zram_devices) \
        == (0, False, False, ())
