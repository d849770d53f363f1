"""Where cgroups are mounted."""

from __future__ import annotations

from pathlib import Path

import pytest
from faketree import FakeTree

from oomguard.sense.mounts import Mount, cgroups_of, find_hierarchies

V1_PROC = b"9:name=systemd:/sys/app\n4:cpu,memory:/app\n0::/uni\n"


def test_version_1_beside_a_unified_hierarchy(tmp_path: Path) -> None:
    """A cgroup2 without the memory controller is for pressure; memory is in version 1."""
    found = find_hierarchies(FakeTree(tmp_path, 1).root)
    assert (found.version, found.memory, found.unified, found.named) == (
        1, Mount("/sys/fs/cgroup/memory", "/"), Mount("/sys/fs/cgroup/unified", "/"),
        Mount("/sys/fs/cgroup/systemd", "/"))
    assert cgroups_of(V1_PROC, found) == ("/app", "/uni")


def test_version_2(tmp_path: Path) -> None:
    """One hierarchy has both."""
    found = find_hierarchies(FakeTree(tmp_path, 2).root)
    assert (found.version, found.memory) == (2, Mount("/sys/fs/cgroup", "/"))
    assert cgroups_of(b"0::/system.slice/app.service\n", found) == ("/system.slice/app.service",) * 2


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    """Without a mount there is no memory hierarchy and a process sits nowhere."""
    found = find_hierarchies(str(tmp_path))
    assert (found.version, found.memory, cgroups_of(V1_PROC, found)) == (0, None, ("", ""))


@pytest.mark.parametrize(("cgroup", "path"), [
    ("/docker/abc", "/"), ("/docker/abc/app", "/app"), ("/docker/abcd", ""), ("/", ""), ("/other", ""),
    ("/../other", ""), ("/docker/abc/app (deleted)", "")])
def test_a_container_without_a_cgroup_namespace(cgroup: str, path: str) -> None:
    """The mount shows /docker/abc as its top, so that part is cut; what lies elsewhere is not seen."""
    assert Mount("/sys/fs/cgroup/memory", "/docker/abc").relative(cgroup) == path


def test_a_mount_on_top_of_another_is_what_is_seen(tmp_path: Path) -> None:
    """A cgroup namespace by unshare(1): the old mount is below, its top is out of sight; elsewhere the first counts."""
    tree = FakeTree(tmp_path)
    tree.file("/proc/self/mountinfo", "30 24 0:27 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
              "95 30 0:27 / /sys/fs/cgroup ro - cgroup2 none rw\n96 30 0:27 / /mnt rw - cgroup2 none rw\n")
    found = find_hierarchies(tree.root)
    assert found.unified == Mount("/sys/fs/cgroup", "/")


def test_escaped_mount_points(tmp_path: Path) -> None:
    """A space in a mount point is written as an octal escape."""
    tree = FakeTree(tmp_path)
    tree.file("/proc/self/mountinfo", "35 31 0:32 / /mnt/my\\040cgroups rw - cgroup cgroup rw,memory\n")
    assert find_hierarchies(tree.root).memory == Mount("/mnt/my cgroups", "/")


@pytest.mark.parametrize("text", [
    "", "garbage\n", "1 2 3 - cgroup2\n", " - \n", "1 2 3 4 5 6 - cgroup2 x\n", "\udcff\n"])
def test_torn_mount_tables_have_no_cgroups(tmp_path: Path, text: str) -> None:
    """Nonsense is no mount."""
    tree = FakeTree(tmp_path)
    tree.file("/proc/self/mountinfo", text)
    assert find_hierarchies(tree.root).version == 0
