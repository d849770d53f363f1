"""How runs end, and who was killed."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest
from faketree import MIB, FakeTree

from oomguard.sense.ends import FileCount, NoCount, TreeCount, count_in_machine, count_in_tree, open_end_fd


def test_a_pidfd_is_readable_at_the_end(eater: object) -> None:
    """It sleeps while the process lives and wakes when it ended."""
    child = eater()
    end_fd = open_end_fd(child.pid)
    if end_fd < 0:
        pytest.skip("this kernel has no pidfd (Linux 5.3)")
    assert select.select([end_fd], [], [], 0)[0] == []
    child.process.kill()
    assert select.select([end_fd], [], [], 10)[0] == [end_fd]
    os.close(end_fd)


def test_no_process_has_no_end_fd() -> None:
    """A pid nobody has gives -1, not an error."""
    assert open_end_fd(4194304) == -1


@pytest.mark.parametrize(("text", "kills"), [
    (b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3), (b"max 1\noom 2\noom_kill 4\noom_group_kill 5\n", 4),
    (b"oom_kill 6", -1), (b"oom_kill_disable 0\nunder_oom 0\n", -1), (b"", -1), (b"oom_kill x\n", -1),
    (b"my_oom_kill 3\noom_kill 2\n", 2), (b"\xff\0", -1)])
def test_the_kernels_count(tmp_path: Path, text: bytes, kills: int) -> None:
    """Only the line `oom_kill` counts, and only a whole one; a kernel before 4.13 has none."""
    (tmp_path / "memory.events").write_bytes(text)
    count = FileCount(str(tmp_path / "memory.events"))
    assert count.read() == kills
    count.close()


def test_version_2_counts_for_its_whole_tree(tmp_path: Path) -> None:
    """memory.events is the tree's sum by itself."""
    tree = FakeTree(tmp_path, 2)
    tree.cgroup("/app", 100, kills=2)
    count = count_in_tree(tree.path("/sys/fs/cgroup/app"), 2)
    assert count.read() == 2
    tree.cgroup("/app", 100, kills=5)
    assert count.read() == 5


def test_version_1_sums_its_groups(tmp_path: Path) -> None:
    """The kernel counts in the victim's group; the tree's sum follows, groups that come and go included."""
    tree = FakeTree(tmp_path, 1)
    tree.cgroup("/app", 100, kills=1)
    tree.cgroup("/app/worker", 50, kills=2)
    count = count_in_tree(tree.path("/sys/fs/cgroup/memory/app"), 1)
    assert count.read() == 3
    tree.cgroup("/app/worker", 50, kills=3)
    tree.cgroup("/app/other", 50)
    assert count.read() == 4
    tree.cgroup("/app/other", 50, kills=7)
    assert count.read() == 11
    assert count.read() == 11


def test_a_large_tree_is_read_in_turn(tmp_path: Path) -> None:
    """Forty groups take several calls, and no kill is lost."""
    tree = FakeTree(tmp_path, 1)
    tree.cgroup("/app", 100)
    for number in range(40):
        tree.cgroup(f"/app/w{number}", 10)
    count = TreeCount(tree.path("/sys/fs/cgroup/memory/app"))
    assert count.read() == 0
    for number in range(40):
        tree.cgroup(f"/app/w{number}", 10, kills=1)
    assert [count.read() for _call in range(4)][-1] == 40


def test_where_nothing_is_counted(tmp_path: Path) -> None:
    """-1 says that it cannot be known."""
    tree = FakeTree(tmp_path)
    assert count_in_tree(tree.path("/none"), 1).read() == -1
    assert count_in_tree(tree.path("/none"), 2).read() == -1
    assert count_in_machine(tree.root).read() == -1
    assert NoCount().read() == -1
    tree.file("/proc/vmstat", "pgfault 1\noom_kill 12\n")
    assert count_in_machine(tree.root).read() == 12


def test_a_version_1_group_of_an_old_kernel(tmp_path: Path) -> None:
    """Without the line the count is unknown, not zero."""
    tree = FakeTree(tmp_path, 1)
    tree.cgroup("/app", 100)
    tree.file("/sys/fs/cgroup/memory/app/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")
    assert count_in_tree(tree.path("/sys/fs/cgroup/memory/app"), 1).read() == -1


def test_a_real_kill_is_counted_and_kept(real_group: object, eater: object) -> None:
    """A child in a child group is killed by the kernel: the parent's count rises by one, and stays when the
    group is removed."""
    app = real_group("sense_kills")
    worker = real_group("worker", 24, app)
    count = count_in_tree(app.folder, 1)
    assert count.read() == 0
    child = eater(worker.procs)
    assert not child.take("anon", 64 * MIB)
    assert child.end() in (-9, 137)
    assert count.read() == 1
    worker.remove()
    assert [count.read(), count.read()] == [1, 1]
    count.close()
