"""One target, read once per tick."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest
from faketree import MIB, NAN, FakeTree, tick

from oomguard.decide.plan import TargetPlan
from oomguard.errors import NotPermittedError, TargetGoneError, UsageError
from oomguard.profile import Profile
from oomguard.sense.machine import Machine
from oomguard.sense.sensor import Sensor, open_sensor
from oomguard.sense.target import Found, resolve

GENERIC = Profile()


def opened(tree: FakeTree, found: Found, profile: Profile = GENERIC) -> tuple[Sensor, Machine]:
    """Open a target of the fake tree."""
    machine = Machine(tree.root)
    return Sensor(found, machine, profile, tree.root), machine


def cgroup(path: str) -> Found:
    """Name a cgroup target."""
    return Found("cgroup", 0, path, path)


def process(pid: int) -> Found:
    """Name a process target."""
    return Found("process", pid, "", str(pid))


@pytest.mark.parametrize("version", [1, 2])
def test_the_own_limit_binds_an_ordinary_group(tmp_path: Path, version: int) -> None:
    """90 of 100 MiB used: the group's own 10 MiB are nearer than the machine's 800."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, anon=90, refaults=5, faults=2)
    sample = tick(*opened(tree, cgroup("/app")), t_s=3.0)
    assert sample[:5] == (3.0, "cgroup:/app", 100 * MIB, 10 * MIB, 90 * MIB)
    assert (sample.refaults, sample.major_faults, sample.available_bytes) == (5, 2, 800 * MIB)


@pytest.mark.parametrize("version", [1, 2])
def test_a_sibling_that_fills_the_parent_makes_it_binding(tmp_path: Path, version: int) -> None:
    """At 0.3 of its own limit a child is killed when the parent is full: the parent binds, then the child again."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/slice", 200, anon=190)
    tree.cgroup("/slice/app", 100, anon=30)
    sensor, machine = opened(tree, cgroup("/slice/app"))
    assert tick(sensor, machine)[1:5] == ("cgroup:/slice", 200 * MIB, 10 * MIB, 190 * MIB)
    tree.cgroup("/slice", 200, anon=60)
    assert tick(sensor, machine).constraint == "cgroup:/slice/app"
    assert [constraint.name for constraint in sensor.constraints()] == ["cgroup:/slice/app", "cgroup:/slice", "machine"]


def test_the_machine_binds_when_it_is_nearest(tmp_path: Path) -> None:
    """With 5 MiB available in the machine, a group at half of its limit is about to be killed by it."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100, anon=50)
    sensor, machine = opened(tree, cgroup("/app"))
    tree.meminfo(available=5)
    assert tick(sensor, machine)[1:4] == ("machine", 1000 * MIB, 5 * MIB)


@pytest.mark.parametrize("version", [1, 2])
def test_new_limits_are_noticed_in_turn(tmp_path: Path, version: int) -> None:
    """A limit set on any level is seen within as many ticks as there are levels, and so is its removal."""
    tree = FakeTree(tmp_path, version)
    for path in ("/a", "/a/b", "/a/b/c"):
        tree.cgroup(path, None, anon=10)
    sensor, machine = opened(tree, cgroup("/a/b/c"))
    assert tick(sensor, machine).constraint == "machine"
    for path in ("/a/b/c", "/a/b", "/a"):
        tree.cgroup(path, 50, anon=10)
        assert [tick(sensor, machine).constraint for _tick in range(4)][-1] == f"cgroup:{path}"
        tree.cgroup(path, None, anon=10)
        assert [tick(sensor, machine).constraint for _tick in range(4)][-1] == "machine"


def test_the_profiles_limit_is_a_constraint(tmp_path: Path) -> None:
    """The device kills the app at 100 MiB of its own, swapped or not: 60 + 30 leave 10."""
    tree = FakeTree(tmp_path)
    tree.process(7, anon=40, shmem=20, swap=30)
    sample = tick(*opened(tree, process(7), Profile(limit_bytes=100.0 * MIB)))
    assert sample[1:5] == ("profile", 100 * MIB, 10 * MIB, 90 * MIB)
    tree.cgroup("/app", None, anon=70)
    assert tick(*opened(tree, cgroup("/app"), Profile(limit_bytes=100.0 * MIB))).headroom_bytes == 30 * MIB
    assert tick(*opened(tree, Found("system", 0, "", ""), Profile(limit_bytes=1.0))).constraint == "machine"


@pytest.mark.parametrize("version", [1, 2])
def test_a_process_is_bound_by_where_it_sits(tmp_path: Path, version: int) -> None:
    """Its cgroup's limit is its constraint; its faults are its own."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, anon=80, faults=99, refaults=4)
    tree.process(7, cgroup="/app", faults=3)
    sample = tick(*opened(tree, process(7)))
    assert (sample.constraint, sample.headroom_bytes, sample.major_faults, sample.refaults) \
        == ("cgroup:/app", 20 * MIB, 3, 4)


@pytest.mark.parametrize("version", [1, 2])
def test_a_move_is_noticed(tmp_path: Path, version: int) -> None:
    """A process put into another cgroup is bound there a few ticks later, and its run goes on."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/one", 100, anon=80)
    tree.cgroup("/two", 50, anon=45)
    tree.process(7, cgroup="/one")
    sensor, machine = opened(tree, process(7))
    identity = sensor.identity
    assert tick(sensor, machine).constraint == "cgroup:/one"
    tree.process(7, cgroup="/two")
    assert [tick(sensor, machine).constraint for _tick in range(4)][-1] == "cgroup:/two"
    assert sensor.identity == identity


def test_a_container_sees_its_limit_at_the_root(tmp_path: Path) -> None:
    """In a cgroup namespace the process sits in `/`, and the limit is in the visible root's files."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/", 100, anon=70)
    tree.process(7, cgroup="/")
    sensor, machine = opened(tree, process(7))
    assert tick(sensor, machine)[1:4] == ("cgroup:/", 100 * MIB, 30 * MIB)
    assert sensor.pressure_of == "cgroup"


def test_a_container_without_a_namespace(tmp_path: Path) -> None:
    """/proc/PID/cgroup says /docker/abc, and that is what the mount shows as its root."""
    tree = FakeTree(tmp_path, 1, top="/docker/abc")
    tree.cgroup("/", 100, anon=70)
    tree.process(7, cgroup="/docker/abc")
    assert tick(*opened(tree, process(7)))[1:4] == ("cgroup:/", 100 * MIB, 30 * MIB)


@pytest.mark.parametrize(("version", "unified", "some_us", "of"), [
    (2, "/", 1000, "cgroup"), (1, "/", 70, "system"), (1, "/app", 500, "cgroup")])
def test_whose_pressure_is_told(tmp_path: Path, version: int, unified: str, some_us: float, of: str) -> None:
    """The cgroup's own where it has one (v1: in the unified hierarchy), else the system's."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100)
    tree.process(7, cgroup="/app", unified=unified)
    tree.pressure("/proc/pressure/memory", 70, 30)
    if version == 1:
        tree.pressure("/sys/fs/cgroup/unified/memory.pressure", 70, 30)
        tree.pressure("/sys/fs/cgroup/unified/app/memory.pressure", 500, 10)
    sensor, machine = opened(tree, process(7))
    assert (tick(sensor, machine).psi_some_us, sensor.pressure_of) == (some_us, of)


def test_without_any_pressure(tmp_path: Path) -> None:
    """An old kernel's samples have none, and say so."""
    tree = FakeTree(tmp_path, 1)
    tree.remove("/proc/pressure/memory")
    tree.cgroup("/app", 100)
    sensor, machine = opened(tree, cgroup("/app"))
    sample = tick(sensor, machine)
    assert sample.psi_some_us != sample.psi_some_us
    assert sensor.pressure_of == "none"


def test_when_nothing_is_known_it_says_so(tmp_path: Path) -> None:
    """No limit and no meminfo: the constraint is `unknown`, its numbers NaN, and nothing raises."""
    tree = FakeTree(tmp_path, 1)
    tree.file("/proc/meminfo", "")
    tree.cgroup("/app", None)
    sample = tick(*opened(tree, cgroup("/app")))
    assert sample.constraint == "unknown"
    assert sample.headroom_bytes != sample.headroom_bytes
    assert sample.limit_bytes != sample.limit_bytes


def test_what_is_passed_in_comes_out(tmp_path: Path) -> None:
    """Lateness, evictable bytes and the phase are the caller's."""
    tree = FakeTree(tmp_path)
    sensor, machine = opened(tree, Found("system", 0, "", "system"))
    sample = sensor.read(9.0, 0.25, machine.read(), 5.0, "playback")
    assert (sample.t_s, sample.late_s, sample.evictable_bytes, sample.phase) == (9.0, 0.25, 5.0, "playback")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("found", [cgroup("/app"), process(7), Found("system", 0, "", "")])
def test_bytes_are_whole(tmp_path: Path, version: int, found: Found) -> None:
    """Recordings hold int64: zram at an odd ratio, a limit and hooks that speak in fractions leave none in a sample."""
    tree = FakeTree(tmp_path, version)
    tree.meminfo(swap_total=200, swap_free=100.3)
    tree.swaps(("/dev/zram0", 200, 99.7))
    tree.zram("zram0", stored=99.7, compressed=33.3)
    tree.process(7, cgroup="/app", anon=20.7, swap=3.3)
    for limit_mib, app_limit_bytes in ((100.3, NAN), (None, NAN), (100.3, 30.5 * MIB + 0.5)):
        tree.cgroup("/app", limit_mib, anon=60.7, swap=10.1, swap_limit=150.9)
        sensor, machine = opened(tree, found, Profile(limit_bytes=app_limit_bytes))
        sample = sensor.read(0.0, 0.0, machine.read(), 12345.6, None)._asdict()
        sizes = {name: size for name, size in sample.items() if name.endswith("_bytes") and size == size}
        assert sizes["headroom_bytes"] and sizes["evictable_bytes"] == 12345
        assert [name for name, size in sizes.items() if not float(size).is_integer()] == []


def test_identity_is_the_run(tmp_path: Path) -> None:
    """Another start time, another inode or another boot is another run."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100)
    tree.process(7, start=5)
    first = [opened(tree, found)[0].identity for found in (process(7), cgroup("/app"), Found("system", 0, "", ""))]
    again = [opened(tree, found)[0].identity for found in (process(7), cgroup("/app"), Found("system", 0, "", ""))]
    assert first == again
    assert len(set(first)) == 3
    tree.process(7, start=6)
    assert opened(tree, process(7))[0].identity != first[0]
    tree.file("/proc/sys/kernel/random/boot_id", "other\n")
    assert opened(tree, cgroup("/app"))[0].identity != first[1]


def test_a_reused_pid_ends_the_run(tmp_path: Path) -> None:
    """Another process of the same pid is not read as ours."""
    tree = FakeTree(tmp_path)
    tree.process(7, start=5)
    sensor, machine = opened(tree, process(7))
    tick(sensor, machine)
    tree.process(7, start=6)
    with pytest.raises(TargetGoneError):
        tick(sensor, machine)


@pytest.mark.parametrize(("version", "after", "kills"), [(1, 3, 0), (1, 4, 1), (2, 4, 1)])
def test_whether_a_process_was_killed(tmp_path: Path, version: int, after: int, kills: int) -> None:
    """While it lives 0; after it ended, a kill counted in its cgroup meanwhile is taken for its own."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, kills=3)
    tree.process(7, cgroup="/app")
    sensor, machine = opened(tree, process(7))
    for t_s in range(12):
        tick(sensor, machine, float(t_s))
    tree.cgroup("/app", 100, kills=after)
    assert sensor.kills() == 0
    tree.process(7, cgroup="/app", state="Z")
    assert sensor.kills() == kills


@pytest.mark.parametrize("version", [1, 2])
def test_how_a_process_ended_that_was_never_read_is_not_known(tmp_path: Path, version: int) -> None:
    """Kills of others, long ago, are not taken for its own: without a reading there is no count to compare with."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, kills=3)
    tree.process(7, cgroup="/app")
    sensor, _machine = opened(tree, process(7))
    assert sensor.kills() == 0
    tree.process(7, cgroup="/app", state="Z")
    assert sensor.kills() == -1


@pytest.mark.parametrize("version", [1, 2])
def test_counts_of_two_cgroups_are_not_compared(tmp_path: Path, version: int) -> None:
    """One that moved and ended before it was read there: the new group's old kills are not its own."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/app", 100, kills=0)
    tree.cgroup("/other", 100, kills=3)
    tree.process(7, cgroup="/app")
    sensor, machine = opened(tree, process(7))
    tick(sensor, machine)
    tree.process(7, cgroup="/other")
    for t_s in range(1, 9):
        if tick(sensor, machine, float(t_s)).constraint == "cgroup:/other":
            break
    tree.process(7, cgroup="/other", state="Z")
    assert sensor.kills() == -1


def test_kills_in_a_cgroup_are_counted(tmp_path: Path) -> None:
    """The kernel's own number, those before us included; the system's is the machine's."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100, kills=3)
    assert opened(tree, cgroup("/app"))[0].kills() == 3
    tree.file("/proc/vmstat", "oom_kill 9\n")
    assert opened(tree, Found("system", 0, "", ""))[0].kills() == 9


def test_a_group_that_is_not_there(tmp_path: Path) -> None:
    """Gone (6), and a group without the memory controller is a usage error (2)."""
    tree = FakeTree(tmp_path, 2)
    with pytest.raises(TargetGoneError):
        opened(tree, cgroup("/none"))
    tree.folder("/sys/fs/cgroup/bare")
    with pytest.raises(UsageError, match="memory controller"):
        opened(tree, cgroup("/bare"))


def test_a_forbidden_group_is_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory.stat may not be read the error says so (5)."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100)
    real = os.open

    def guarded(path: str, flags: int, *rest: int) -> int:
        if str(path).endswith("/app/memory.stat"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", guarded)
    with pytest.raises(NotPermittedError, match="Permission denied"):
        opened(tree, cgroup("/app"))


@pytest.mark.parametrize("found", [process(7), cgroup("/slice/app"), Found("system", 0, "", "")])
def test_descriptors_are_constant_and_all_given_back(tmp_path: Path, found: Found) -> None:
    """Reading opens nothing, moving leaks nothing, closing leaves nothing."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/slice", 200)
    tree.cgroup("/slice/app", 100)
    tree.process(7, cgroup="/slice/app")
    before = len(os.listdir("/proc/self/fd"))
    sensor, machine = opened(tree, found)
    tick(sensor, machine)
    held = len(os.listdir("/proc/self/fd"))
    for _tick in range(50):
        tree.process(7, cgroup="/slice")
        tick(sensor, machine)
        tree.process(7, cgroup="/slice/app")
        tick(sensor, machine)
    assert len(os.listdir("/proc/self/fd")) <= held
    sensor.close()
    sensor.close()
    machine.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_descriptors_it_still_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of open files everything is opened on demand, with the same numbers."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100, anon=30)
    tree.process(7, cgroup="/app")
    kept = tick(*opened(tree, process(7)))
    monkeypatch.setattr(os, "sysconf", lambda _name: 0)
    before = len(os.listdir("/proc/self/fd"))
    sensor, machine = opened(tree, process(7))
    assert str(tick(sensor, machine)) == str(kept)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_real_group_is_read(real_group: object, eater: object) -> None:
    """A child takes 8 MiB of its own and 6 shared in a group of 64: used grows by as much, headroom shrinks so."""
    group = real_group("sense_real", 64)
    child = eater(group.procs)
    machine = Machine()
    sensor = open_sensor(cgroup(group.path), machine, GENERIC)
    before = tick(sensor, machine)
    assert (before.constraint, before.limit_bytes) == (f"cgroup:{group.path}", 64 * MIB)
    assert child.take("anon", 8 * MIB)
    assert child.take("shmem", 6 * MIB)
    after = tick(sensor, machine)
    assert abs(after.used_bytes - before.used_bytes - 14 * MIB) < 2 * MIB
    assert after.headroom_bytes == after.limit_bytes - after.used_bytes
    assert after.charged_bytes >= after.used_bytes
    assert sensor.pids() == (child.pid,)
    sensor.close()


def test_a_real_sibling_binds_the_parent(real_group: object, eater: object) -> None:
    """A sibling takes 40 of the parent's 64 MiB: the target, far from its own limit, is bound by the parent."""
    parent = real_group("sense_parent", 64)
    app, sibling = real_group("app", 48, parent), real_group("sibling", None, parent)
    eater(app.procs)
    machine = Machine()
    sensor = open_sensor(cgroup(app.path), machine, GENERIC)
    assert tick(sensor, machine).constraint == f"cgroup:{app.path}"
    assert eater(sibling.procs).take("anon", 40 * MIB)
    assert tick(sensor, machine).constraint == f"cgroup:{parent.path}"
    sensor.close()


def test_a_real_limit_is_lowered(real_group: object) -> None:
    """The new limit is seen within as many ticks as the group sits deep."""
    group = real_group("sense_lower", 64)
    machine = Machine()
    sensor = open_sensor(cgroup(group.path), machine, GENERIC)
    assert tick(sensor, machine).limit_bytes == 64 * MIB
    group.write("memory.limit_in_bytes", 32 * MIB)
    assert [tick(sensor, machine).limit_bytes for _tick in range(2)][-1] == 32 * MIB
    group.write("memory.limit_in_bytes", -1)
    assert [tick(sensor, machine).constraint for _tick in range(2)][-1] == "machine"
    sensor.close()


def test_a_real_group_vanishes(real_group: object) -> None:
    """Removed, and even made anew under the same name, it is another run."""
    group = real_group("sense_gone", 64)
    machine = Machine()
    sensor = open_sensor(cgroup(group.path), machine, GENERIC)
    tick(sensor, machine)
    os.rmdir(group.folder)
    os.mkdir(group.folder)
    with pytest.raises(TargetGoneError, match="sense_gone"):
        tick(sensor, machine)
    sensor.close()
    again = open_sensor(cgroup(group.path), machine, GENERIC)
    assert again.identity != sensor.identity
    again.close()


def test_a_real_process_moves_and_its_old_group_goes(real_group: object, eater: object) -> None:
    """The run goes on under the new group's limit, though the old one is removed in between."""
    old, new = real_group("sense_old", 64), real_group("sense_new", 48)
    child = eater(old.procs)
    machine = Machine()
    sensor = open_sensor(resolve(TargetPlan("x", "pid", str(child.pid))), machine, GENERIC)
    assert tick(sensor, machine).constraint == f"cgroup:{old.path}"
    new.write("cgroup.procs", child.pid)
    old.remove()
    tick(sensor, machine)
    assert tick(sensor, machine).limit_bytes == 48 * MIB
    sensor.close()


def test_a_real_kill_ends_a_process(real_group: object, eater: object) -> None:
    """The pidfd wakes us, the read says gone, and the kernel's count says that it was killed."""
    group = real_group("sense_oom", 32)
    child = eater(group.procs)
    machine = Machine()
    sensor = open_sensor(resolve(TargetPlan("x", "pid", str(child.pid))), machine, GENERIC)
    tick(sensor, machine)
    assert sensor.kills() == 0
    assert not child.take("anon", 96 * MIB)
    if sensor.end_fd >= 0:
        assert select.select([sensor.end_fd], [], [], 10)[0] == [sensor.end_fd]
    child.process.wait()
    with pytest.raises(TargetGoneError):
        tick(sensor, machine, 1.0)
    assert sensor.kills() == 1
    sensor.close()


def test_a_real_process_that_ends_by_itself_was_not_killed(real_group: object, eater: object) -> None:
    """An ordinary end leaves the count as it was."""
    child = eater(real_group("sense_exit", 64).procs)
    machine = Machine()
    sensor = open_sensor(resolve(TargetPlan("x", "pid", str(child.pid))), machine, GENERIC)
    tick(sensor, machine)
    child.end()
    with pytest.raises(TargetGoneError):
        tick(sensor, machine, 1.0)
    assert sensor.kills() == 0
    sensor.close()


def test_ourselves_are_a_target() -> None:
    """`self` is this process, bound by the cgroups it sits in or by the machine."""
    machine = Machine()
    sensor = open_sensor(resolve(TargetPlan("me", "self")), machine, GENERIC)
    sample = tick(sensor, machine)
    assert sample.limit_bytes > 0
    assert sample.headroom_bytes == sample.headroom_bytes
    assert sensor.pids() == (os.getpid(),)
    assert sample.evictable_bytes != NAN
    sensor.close()
