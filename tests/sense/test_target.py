"""Finding targets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from faketree import FakeTree

from oomguard.decide.plan import TargetPlan
from oomguard.errors import NotPermittedError, TargetGoneError, UsageError
from oomguard.sense.target import Found, resolve


def find(tree: FakeTree, kind: str, value: str = "") -> Found:
    """Resolve in the fake tree."""
    return resolve(TargetPlan("app", kind, value), tree.root)


def test_the_system(tmp_path: Path) -> None:
    """It needs no name."""
    assert find(FakeTree(tmp_path), "system") == Found("system", 0, "", "system")


def test_ourselves(tmp_path: Path) -> None:
    """`self` is the calling process, with the cgroup it sits in."""
    tree = FakeTree(tmp_path, 2)
    tree.process(os.getpid(), cgroup="/app")
    assert find(tree, "self") == Found("process", os.getpid(), "/app", f"self (pid {os.getpid()})")
    assert resolve(TargetPlan("me", "self")).pid == os.getpid()


@pytest.mark.parametrize("version", [1, 2])
def test_a_pid(tmp_path: Path, version: int) -> None:
    """A process by its number."""
    tree = FakeTree(tmp_path, version)
    tree.process(7, cgroup="/a/b")
    assert find(tree, "pid", "7") == Found("process", 7, "/a/b", "process (pid 7)")


@pytest.mark.parametrize("value", ["0", "-1", "x", "7x", " 7", "٣", "99999999", "7.0", ""])
def test_what_is_no_pid(tmp_path: Path, value: str) -> None:
    """Only a number the kernel can give is one: exit code 2."""
    with pytest.raises(UsageError) as caught:
        find(FakeTree(tmp_path), "pid", value)
    assert caught.value.exit_code == 2


def test_a_pid_nobody_has(tmp_path: Path) -> None:
    """Exit code 6."""
    with pytest.raises(TargetGoneError) as caught:
        find(FakeTree(tmp_path), "pid", "7")
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("name", ["player", "/opt/player-bin", "player-bin"])
def test_a_command_by_name_path_or_program(tmp_path: Path, name: str) -> None:
    """Its comm, its argv[0] or the last part of that."""
    tree = FakeTree(tmp_path)
    tree.process(7, comm="player", argv=("/opt/player-bin", "--full"))
    tree.process(8, comm="player-old", argv=("/bin/sh", "player-bin"))
    assert find(tree, "command", name).pid == 7


def test_of_several_the_first_that_started(tmp_path: Path) -> None:
    """Workers come after their main process, whatever their pids; zombies are none."""
    tree = FakeTree(tmp_path)
    tree.process(5, start=300)
    tree.process(9, start=100)
    tree.process(7, start=200)
    tree.process(4, start=1, state="Z")
    assert find(tree, "command", "app") == Found("process", 9, "/", "app (pid 9, first of 3)")


def test_no_such_command(tmp_path: Path) -> None:
    """We are not our own target by name."""
    tree = FakeTree(tmp_path)
    tree.process(os.getpid(), comm="app")
    with pytest.raises(TargetGoneError, match="'app'"):
        find(tree, "command", "app")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("value", ["/a/b", "a/b", "/a//b/", "MOUNT/a/b"])
def test_a_cgroup_in_any_spelling(tmp_path: Path, version: int, value: str) -> None:
    """As /proc/PID/cgroup shows it, or as a folder."""
    tree = FakeTree(tmp_path, version)
    tree.cgroup("/a/b", 10)
    mount = "/sys/fs/cgroup/memory" if version == 1 else "/sys/fs/cgroup"
    assert find(tree, "cgroup", value.replace("MOUNT", mount)) == Found("cgroup", 0, "/a/b", "/a/b")


def test_a_cgroup_that_makes_no_sense(tmp_path: Path) -> None:
    """`..`, a NUL, nothing, or a machine without cgroups: exit code 2; one that is not there: 6."""
    tree = FakeTree(tmp_path / "a")
    for value in ("/../etc", "a/../../b", "a\0b", ""):
        with pytest.raises(UsageError):
            find(tree, "cgroup", value)
    with pytest.raises(TargetGoneError):
        find(tree, "cgroup", "/none")
    with pytest.raises(UsageError, match="no memory cgroups"):
        resolve(TargetPlan("app", "cgroup", "/a"), str(tmp_path / "none"))


def test_a_forbidden_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What we may not look into is not permitted: exit code 5."""
    tree = FakeTree(tmp_path)

    def forbid(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "stat", forbid)
    with pytest.raises(NotPermittedError) as caught:
        find(tree, "cgroup", "/app")
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("value", ["player", "player.service", "work@1.service", "app-x.scope", "system.slice"])
def test_a_unit_anywhere_in_systemds_layout(tmp_path: Path, version: int, value: str) -> None:
    """Found by its folder's name: in a slice, in a template's slice, in a user's session, or a slice itself."""
    tree = FakeTree(tmp_path, version)
    paths = {"player": "/system.slice/player.service",
             "work@1.service": "/system.slice/system-work.slice/work@1.service",
             "app-x.scope": "/user.slice/user-1.slice/user@1.service/app.slice/app-x.scope",
             "system.slice": "/system.slice"}
    paths["player.service"] = paths["player"]
    for path in paths.values():
        tree.cgroup(path)
    found = find(tree, "unit", value)
    assert (found.kind, found.cgroup, found.label) == ("cgroup", paths[value], paths[value].rpartition("/")[2])


def test_the_nearest_unit_of_a_name(tmp_path: Path) -> None:
    """The system's own comes before one inside of a container's tree."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/a.slice/container.scope/system.slice/player.service")
    tree.cgroup("/system.slice/player.service")
    assert find(tree, "unit", "player").cgroup == "/system.slice/player.service"


def test_a_unit_that_does_not_run(tmp_path: Path) -> None:
    """Gone, and a name with a slash is no unit."""
    tree = FakeTree(tmp_path, 2)
    with pytest.raises(TargetGoneError, match="not running"):
        find(tree, "unit", "player")
    with pytest.raises(UsageError):
        find(tree, "unit", "../player")


def test_a_unit_without_memory_accounting(tmp_path: Path) -> None:
    """Version 1: the unit is in systemd's hierarchy only; the error says what to set."""
    tree = FakeTree(tmp_path, 1)
    tree.cgroup("/")
    tree.folder("/sys/fs/cgroup/systemd/system.slice/player.service")
    with pytest.raises(UsageError, match="MemoryAccounting=yes"):
        find(tree, "unit", "player")


def test_a_kind_that_is_none(tmp_path: Path) -> None:
    """The error names what is allowed."""
    with pytest.raises(UsageError, match="unit, cgroup, pid, command, self, system"):
        find(FakeTree(tmp_path), "pod", "x")
