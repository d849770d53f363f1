"""One cgroup's numbers, both versions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faketree import MIB, FakeTree, tick

from oomguard.profile import Profile
from oomguard.sense.cgroup import REST_TICKS, Cgroup
from oomguard.sense.constraints import Constraint
from oomguard.sense.files import KeptFile
from oomguard.sense.machine import Machine
from oomguard.sense.memory_stat import tally_v1, tally_v2
from oomguard.sense.sensor import Sensor
from oomguard.sense.target import Found


def measured(tree: FakeTree, path: str = "/app", room: float | None = None) -> Constraint | None:
    """Read a group of the tree once."""
    machine = Machine(tree.root)
    reading = machine.read()
    group = machine.groups.chain(path)[-1]
    group.read_limits(reading)
    group.read(reading, reading.swap_room_bytes if room is None else room)
    return group.constraint


def test_version_2_counts_what_cannot_be_reclaimed(tmp_path: Path) -> None:
    """anon + shmem + sock + kernel without reclaimable slab + locked file: 10+20+1+(8-5)+4 = 38 of 100 MiB."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100, anon=10, shmem=20, sock=1, kernel=8, slab_reclaimable=5, file=30, locked=4)
    assert measured(tree) == Constraint("cgroup:/app", 100 * MIB, 38 * MIB, 62 * MIB, 69 * MIB, 9 * MIB, 0, 0, 0)


def test_version_1_keeps_kernel_memory_apart(tmp_path: Path) -> None:
    """total_rss + total_shmem + locked file; the kernel's 8 MiB are told beside it."""
    tree = FakeTree(tmp_path, 1)
    tree.cgroup("/app", 100, anon=10, shmem=20, kernel=8, file=30, locked=4)
    assert measured(tree) == Constraint("cgroup:/app", 100 * MIB, 34 * MIB, 66 * MIB, 68 * MIB, 8 * MIB, 0, 0, 0)


@pytest.mark.parametrize("version", [1, 2])
def test_page_cache_is_charged_but_not_used(tmp_path: Path, version: int) -> None:
    """A group full of page cache is not near a kill."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, anon=5, file=95)
    group = measured(tree)
    assert group is not None
    assert (group.used_bytes, group.charged_bytes, group.headroom_bytes) == (5 * MIB, 100 * MIB, 95 * MIB)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("limit", [None, 1000, 5000])
def test_a_limit_that_cannot_be_reached_is_none(tmp_path: Path, version: int, limit: float | None) -> None:
    """`max`, 9223372036854771712 and what exceeds the machine bound nothing."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", limit, anon=5)
    assert measured(tree) is None


@pytest.mark.parametrize("version", [1, 2])
def test_a_limit_holds_when_the_machine_is_unknown(tmp_path: Path, version: int) -> None:
    """A blind meminfo does not blind the cgroup's own limit."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, anon=5)
    tree.file("/proc/meminfo", "")
    group = measured(tree)
    assert group is not None
    assert group.headroom_bytes == 95 * MIB


@pytest.mark.parametrize(("swap_limit", "room_mib"), [(None, 80), (30, 20), (10, 0), (5, 0)])
def test_version_2_swap_has_a_limit_of_its_own(tmp_path: Path, swap_limit: float | None, room_mib: int) -> None:
    """With 10 MiB swapped, a limit of 30 leaves 20, and none leaves what the machine has free."""
    tree = FakeTree(tmp_path, 2)
    tree.meminfo(swap_total=100, swap_free=80)
    tree.cgroup("/app", 100, anon=60, swap=10, swap_limit=swap_limit)
    group = measured(tree)
    assert group is not None
    assert (group.headroom_bytes, group.swap_free_bytes) == ((40 + room_mib) * MIB, room_mib * MIB)


@pytest.mark.parametrize(("both", "headroom_mib"), [(None, 40 + 80), (130, 130 - 60 - 10), (100, 100 - 60 - 10)])
def test_version_1_bounds_memory_and_swap_together(tmp_path: Path, both: float | None, headroom_mib: int) -> None:
    """memsw - used - swapped is the headroom where it is shorter; without memsw the machine's free swap counts."""
    tree = FakeTree(tmp_path, 1)
    tree.meminfo(swap_total=100, swap_free=80)
    tree.cgroup("/app", 100, anon=60, swap=10, swap_limit=both)
    group = measured(tree)
    assert group is not None
    assert group.headroom_bytes == headroom_mib * MIB


def test_swappiness_0_keeps_a_group_out_of_swap(tmp_path: Path) -> None:
    """Reclaim in such a group never swaps, however much is free."""
    tree = FakeTree(tmp_path, 2)
    tree.meminfo(swap_total=100, swap_free=80)
    tree.cgroup("/app", 100, anon=60)
    assert measured(tree).headroom_bytes == 120 * MIB
    tree.file("/proc/sys/vm/swappiness", "0\n")
    assert measured(tree).headroom_bytes == 40 * MIB


def test_a_parent_without_limit_still_bounds_swap(tmp_path: Path) -> None:
    """Version 2: the slice above may take 5 MiB of swap, so the unit below gains no more."""
    tree = FakeTree(tmp_path, 2)
    tree.meminfo(swap_total=100, swap_free=80)
    tree.cgroup("/slice", None, swap_limit=5)
    tree.cgroup("/slice/app", 100, anon=60)
    machine = Machine(tree.root)
    reading, room = machine.read(), 80.0 * MIB
    for group in machine.groups.chain("/slice/app"):
        group.read_limits(reading)
        room = group.read(reading, room)
    assert (group.constraint.headroom_bytes, room) == (45 * MIB, 5 * MIB)


def test_a_group_is_read_once_per_tick(tmp_path: Path) -> None:
    """Whoever shares it sees the same numbers in one tick, and new ones in the next."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100, anon=10)
    machine = Machine(tree.root)
    (group,) = machine.groups.chain("/app")
    reading = machine.read()
    group.read_limits(reading)
    group.read(reading, 0.0)
    tree.cgroup("/app", 100, anon=20)
    group.read(reading, 0.0)
    assert group.constraint.used_bytes == 10 * MIB
    group.read(machine.read(), 0.0)
    assert group.constraint.used_bytes == 20 * MIB


def test_a_failed_read_is_a_value_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input/output error is no end: the numbers are unknown, the reason is told, the next tick reads again."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100, anon=10)
    machine = Machine(tree.root)
    (group,) = machine.groups.chain("/app")
    reading = machine.read()
    group.read_limits(reading)
    broken = OSError(5, "Input/output error")

    def fail(*_args: object) -> tuple[float, ...]:
        raise broken

    with monkeypatch.context() as patch:
        patch.setattr(KeptFile, "numbers", fail)
        group.read(reading, 0.0)
    assert (group.constraint, group.trouble, group.is_gone) == (None, "cgroup:/app: Input/output error", False)
    group.read(machine.read(), 0.0)
    assert (group.constraint.used_bytes, group.trouble) == (10 * MIB, "")


@pytest.fixture
def stat(tmp_path: Path) -> Iterator[object]:
    """Give what makes a memory.stat of a text."""
    made: list[KeptFile] = []

    def make(text: bytes) -> KeptFile:
        (tmp_path / "memory.stat").write_bytes(text)
        made.append(KeptFile(str(tmp_path / "memory.stat")))
        return made[-1]

    yield make
    for file in made:
        file.close()


def test_older_kernels_tell_less(stat: object) -> None:
    """Before 5.18 v2 has no `kernel`, before 5.9 one refault number, before 4.13 v1 has no shmem: sums still come."""
    old_v2 = (b"anon 100\nfile 50\nkernel_stack 3\nslab 7\nsock 0\nshmem 10\nunevictable 0\nslab_reclaimable 5\n"
              b"workingset_refault 9\npgmajfault 2\n")
    old_v1 = (b"rss 1\ntotal_cache 50\ntotal_rss 100\ntotal_pgmajfault 2\ntotal_inactive_file 20\n"
              b"total_active_file 10\ntotal_unevictable 0\ntotal_workingset_refault 9\n")
    two, one = tally_v2(stat(old_v2)), tally_v1(stat(old_v1))
    assert (two.used_bytes, two.kernel_bytes, two.refaults, two.major_faults) == (100 + 10 + (10 - 5), 10, 9, 2)
    assert (one.used_bytes, one.refaults, one.major_faults) == (100 + 20, 9, 2)


@pytest.mark.parametrize("tally", [tally_v1, tally_v2])
@pytest.mark.parametrize("text", [b"", b"anon x\n", b"\0\xff\n", b"total_rss\n"])
def test_torn_stat_is_unknown(stat: object, tally: object, text: bytes) -> None:
    """Nonsense gives NaN, never an error and never 0 used."""
    used_bytes = tally(stat(text)).used_bytes
    assert used_bytes != used_bytes


def test_shared_groups_are_opened_once(tmp_path: Path) -> None:
    """Two targets below one slice share its reader, and it is closed with the last of them."""
    tree = FakeTree(tmp_path, 2)
    for path in ("/slice", "/slice/a", "/slice/b"):
        tree.cgroup(path, 100)
    groups = Machine(tree.root).groups
    before = len(os.listdir("/proc/self/fd"))
    first, second = groups.chain("/slice/a"), groups.chain("/slice/b")
    assert first[0] is second[0]
    groups.release(first)
    assert isinstance(second[0], Cgroup)
    assert groups.chain("/slice")[0] is second[0]
    groups.release(second[:1])
    groups.release(second)
    assert len(os.listdir("/proc/self/fd")) == before


def test_version_1_without_hierarchy_stops_there(tmp_path: Path) -> None:
    """Where use_hierarchy is 0 the parent's limit does not hold below it."""
    tree = FakeTree(tmp_path, 1)
    tree.cgroup("/", None)
    tree.cgroup("/slice", 50)
    tree.cgroup("/slice/app", 100)
    groups = Machine(tree.root).groups
    assert [group.path for group in groups.chain("/slice/app")] == ["/", "/slice", "/slice/app"]
    tree.file("/sys/fs/cgroup/memory/slice/memory.use_hierarchy", "0\n")
    assert [group.path for group in groups.chain("/slice/app")] == ["/slice/app"]


class Group:
    """A group of a fake tree that is read tick by tick."""

    def __init__(self, tree: FakeTree, path: str = "/app") -> None:
        self.tree, self.machine = tree, Machine(tree.root)
        self.group = self.machine.groups.chain(path)[-1]

    def read(self) -> Constraint:
        """Read it once more."""
        reading = self.machine.read()
        self.group.read_limits(reading)
        self.group.read(reading, reading.swap_room_bytes)
        return self.group.constraint

    def change_under_the_same_charge(self, anon: float, file: float) -> None:
        """Let page cache become other memory, or the other way round."""
        self.tree.cgroup("/app", 100, anon=anon, file=file)


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_rests_while_its_charge_stands_still(tmp_path: Path, version: int) -> None:
    """Half of the limit is free and the charge is the same to the byte: memory.stat is read every fourth tick."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, anon=10, file=40)
    app = Group(tree)
    for _tick in range(REST_TICKS + 1):             # groups take turns: the first rest may be shorter
        assert app.read().used_bytes == 10 * MIB
    app.change_under_the_same_charge(anon=30, file=20)
    seen = [app.read().used_bytes for _tick in range(2 * REST_TICKS)]
    assert seen.index(30 * MIB) < REST_TICKS
    assert seen[-1] == 30 * MIB
    looks = 0
    for anon in range(20, 20 + REST_TICKS):
        app.change_under_the_same_charge(anon=anon, file=50 - anon)
        looks += app.read().used_bytes == anon * MIB
    assert looks == 1                               # whose turn it is, is its name's hash


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_does_not_rest_while_its_charge_moves(tmp_path: Path, version: int) -> None:
    """One page more, and everything is read at that tick."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, anon=10, file=30)
    app = Group(tree)
    for mib in range(11, 11 + 3 * REST_TICKS):
        tree.cgroup("/app", 100, anon=mib, file=30)
        assert app.read().used_bytes == mib * MIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_near_its_limit_does_not_rest(tmp_path: Path, version: int) -> None:
    """More than half of the limit is charged, be it page cache: each tick reads everything."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, anon=10, file=41)
    app = Group(tree)
    for anon in (11, 12, 13, 30, 20, 21):
        app.change_under_the_same_charge(anon=anon, file=51 - anon)
        assert app.read().used_bytes == anon * MIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_new_limit_ends_the_rest(tmp_path: Path, version: int) -> None:
    """The charge stands still and the limit is lowered: the headroom is that below the new one, at once."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, anon=10)
    app = Group(tree)
    for _tick in range(2):
        app.read()
    tree.cgroup("/app", 40, anon=10)
    assert app.read().headroom_bytes == 30 * MIB


def test_swap_that_fills_ends_the_rest(tmp_path: Path) -> None:
    """What swap can still take is part of the headroom: when others fill it, the group is looked at."""
    tree = FakeTree(tmp_path, 2)
    tree.meminfo(swap_total=100, swap_free=80)
    tree.cgroup("/app", 100, anon=10)
    app = Group(tree)
    assert [app.read().headroom_bytes for _tick in range(2)][-1] == (90 + 80) * MIB
    tree.meminfo(swap_total=100, swap_free=20)
    assert app.read().headroom_bytes == (90 + 20) * MIB


def test_kernel_memory_of_version_1_is_read_in_turn(tmp_path: Path) -> None:
    """It is a file of its own: while the charge moves it is as old as REST_TICKS - 1 ticks, and no older."""
    tree = FakeTree(tmp_path, 1)
    tree.cgroup("/app", 100, anon=10, kernel=1)
    app, ages = Group(tree), []
    for mib in range(1, 4 * REST_TICKS):
        tree.cgroup("/app", 100, anon=10, kernel=mib)
        ages.append(mib - app.read().kernel_bytes / MIB)
    assert min(ages) == 0 and max(ages) == REST_TICKS - 1


def test_without_a_limit_on_swap_a_group_is_left_alone(tmp_path: Path) -> None:
    """Version 1 says 9223372036854771712 for none: a group above the target without limits is not read."""
    tree = FakeTree(tmp_path, 1)
    tree.meminfo(swap_total=100, swap_free=80)
    tree.cgroup("/slice", None, anon=60)
    tree.cgroup("/slice/app", 100, anon=60)
    app = Group(tree, "/slice/app")
    app.group.nearest(app.machine.read())
    above = app.group.above
    above.read_limits(app.machine.read())
    assert above.swap_limit_bytes == float("inf")
    app.read()
    assert above.tally.used_bytes != above.tally.used_bytes


def test_a_profiles_limit_keeps_a_group_awake(tmp_path: Path) -> None:
    """The device bounds the app's own memory beside the group: it is read at every tick."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100, anon=10, file=30)
    machine = Machine(tree.root)
    sensor = Sensor(Found("cgroup", 0, "/app", "/app"), machine, Profile(limit_bytes=50.0 * MIB), tree.root)
    for anon in (10, 11, 12, 13, 14, 15):
        tree.cgroup("/app", 100, anon=anon, file=40 - anon)
        assert tick(sensor, machine).headroom_bytes == (50 - anon) * MIB
