"""A cgroup of one's own: real ones where this machine lets us, a fake tree for the places of version 2."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomguard import enclosure as module
from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError

LIMIT_BYTES = 24 << 20


def child_in(enclosure: Enclosure, work: str) -> int:
    """Start a child that joins and then either waits for ever or takes all the memory there is."""
    pid = os.fork()
    if pid:
        return pid
    try:
        enclosure.join()
        held = []
        while work == "eat":
            held.append(b"x" * (1 << 20))
        signal.pause()
    finally:
        os._exit(1)


def until_inside(enclosure: Enclosure, pid: int) -> None:
    """Wait until the child has joined: it ends if it cannot."""
    while pid not in enclosure.pids():
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            raise AssertionError("the child could not join")


@pytest.fixture
def real() -> Iterator[Enclosure]:
    """A real enclosure with a small limit."""
    try:
        made = Enclosure.make("a test", LIMIT_BYTES)
    except NotPermittedError as error:
        pytest.skip(str(error))
    yield made
    made.remove(kill=True)


def test_the_kernel_kills_at_the_limit_and_the_kill_is_counted(real: Enclosure) -> None:
    """Who eats memory in it is killed by the kernel, and the count stands after the group is gone."""
    assert real.kills() == 0
    pid = child_in(real, "eat")
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert real.remove()
    assert not os.path.exists(real.directory)
    assert real.kills() == 1


def test_a_group_in_use_stays_and_nobody_is_killed(real: Enclosure) -> None:
    """Removing without `kill` leaves the program and its group alone; with it, both go."""
    pid = child_in(real, "wait")
    until_inside(real, pid)
    assert not real.remove(wait_s=0.0)
    assert real.pids() == (pid,)
    real._kill()
    os.waitpid(pid, 0)
    assert real.remove(kill=True)
    assert real.pids() == ()
    assert real.kills() == 0        # a kill of ours is none of the kernel's


def test_it_is_found_where_the_path_says(real: Enclosure) -> None:
    """`path` is what /proc says of who joined, which is how a target's cgroup is written."""
    pid = child_in(real, "wait")
    until_inside(real, pid)
    text = Path(f"/proc/{pid}/cgroup").read_text()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    lines = [line.split(":", 2) for line in text.splitlines()]
    mine = [path for _number, names, path in lines if names == ("memory" if real.kind == "v1" else "")]
    assert mine == [real.path]


def test_what_is_below_is_removed_with_it(real: Enclosure) -> None:
    """A program may have made groups of its own in it: empty ones go with it."""
    os.makedirs(real.directory + "/one/two")
    assert real.remove()
    assert not os.path.exists(real.directory)


class FakeKernel:
    """A fake v2 tree where a new folder has a cgroup's files."""

    def __init__(self, root: Path, own: str) -> None:
        self.mount = root / "sys/fs/cgroup"
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/mountinfo").write_text(
            "31 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n")
        (root / "proc/self/cgroup").write_text(f"0::{own}\n")

    def group(self, path: str, hands_down: str = "", has: str = "memory pids", procs: str = "") -> Path:
        """Make a group as it stands before we come."""
        folder = self.mount / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("cgroup.procs", procs), ("cgroup.controllers", has), ("memory.events", ""),
                           ("cgroup.subtree_control", hands_down), ("memory.max", "max"),
                           ("memory.swap.max", "max")):
            (folder / name).write_text(text)
        return folder

    def make(self, directory: str) -> str:
        """Make a group as the kernel does, in one that is there."""
        Path(directory).parent.joinpath("cgroup.procs").stat()
        return str(self.group(os.path.relpath(directory, self.mount)))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """A fake tree in which this process sits in /app.slice/app.service."""
    kernel = FakeKernel(tmp_path, "/app.slice/app.service")
    monkeypatch.setattr(module, "_make_directory", kernel.make)
    return kernel


def refuse(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let the kernel refuse that these folders hand the memory controller down, as if processes sat there."""
    real = module._write

    def write(path: str, text: str) -> None:
        if path in [f"{folder}/cgroup.subtree_control" for folder in folders]:
            raise OSError(16, "Device or resource busy")
        real(path, text)

    monkeypatch.setattr(module, "_write", write)


@pytest.mark.usefixtures("fake")
class TestPlacesOfVersion2:
    """Which place is taken, from what the kernel would say of each."""

    def test_a_sibling_where_the_parent_hands_memory_down(
            self, fake: FakeKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A service that shares its cgroup with others gets a sibling, with its limit and no swap."""
        fake.group("/", "memory")
        fake.group("/app.slice", "memory pids")
        refuse(monkeypatch, fake.group("/app.slice/app.service", procs="1\n2\n"))
        made = Enclosure.make("player", LIMIT_BYTES, root=str(tmp_path))
        assert (made.kind, made.path) == ("v2", f"/app.slice/oomguard-player-{os.getpid()}")
        assert Path(made.directory, "memory.max").read_text() == str(LIMIT_BYTES)
        assert Path(made.directory, "memory.swap.max").read_text()[0] == "0"

    def test_no_limit_and_swap_are_left_alone(
            self, fake: FakeKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a limit nothing is written; with one and swap allowed, swap is not touched."""
        fake.group("/", "memory")
        fake.group("/app.slice", "memory pids")
        refuse(monkeypatch, fake.group("/app.slice/app.service", procs="1\n2\n"))
        made = Enclosure.make("player", root=str(tmp_path))
        assert Path(made.directory, "memory.max").read_text() == "max"
        made = Enclosure.make("player", LIMIT_BYTES, root=str(tmp_path), is_swapless=False)
        assert Path(made.directory, "memory.swap.max").read_text() == "max"

    def test_alone_in_a_delegated_cgroup_it_moves_down(self, fake: FakeKernel, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
        """A service with Delegate=yes and one process leaves its cgroup for a leaf, and divides it."""
        fake.group("/", "memory")
        fake.group("/app.slice", "memory")
        own = fake.group("/app.slice/app.service", procs=f"{os.getpid()}\n")
        monkeypatch.setattr(module.os, "getxattr", lambda path, name: b"1")
        made = Enclosure.make("player", root=str(tmp_path))
        assert made.path == f"/app.slice/app.service/oomguard-player-{os.getpid()}"
        assert (own / "oomguard-self/cgroup.procs").read_text() == "0"
        assert (own / "cgroup.subtree_control").read_text() == "+memory"

    def test_alone_in_a_container_it_moves_down(self, fake: FakeKernel, tmp_path: Path) -> None:
        """The only process of a container divides the container's cgroup: there is nothing above to ask."""
        (tmp_path / "proc/self/cgroup").write_text("0::/\n")
        top = fake.group("/", procs=f"{os.getpid()}\n")
        made = Enclosure.make("player", root=str(tmp_path))
        assert made.path == f"/oomguard-player-{os.getpid()}"
        assert (top / "oomguard-self/cgroup.procs").read_text() == "0"

    def test_what_was_not_given_is_not_divided(self, fake: FakeKernel, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
        """Alone in a unit without Delegate= a sibling is made: systemd would stop the unit at the first kill."""
        fake.group("/", "memory")
        fake.group("/app.slice", "memory")
        own = fake.group("/app.slice/app.service", procs=f"{os.getpid()}\n")
        refuse(monkeypatch, own)
        made = Enclosure.make("player", root=str(tmp_path))
        assert made.path == f"/app.slice/oomguard-player-{os.getpid()}"
        assert not (own / "oomguard-self").exists()

    def test_at_the_root_as_a_last_resort(self, fake: FakeKernel, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
        """Where neither the own group nor the parent can hand memory down, the root may."""
        fake.group("/", "memory")
        refuse(monkeypatch, fake.group("/app.slice", procs="7\n"),
               fake.group("/app.slice/app.service", procs="8\n9\n"))
        assert Enclosure.make("player", root=str(tmp_path)).path == f"/oomguard-player-{os.getpid()}"

    def test_every_refusal_is_told(self, fake: FakeKernel, tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no place is left, the error says what stood in the way of each and what would help."""
        refuse(monkeypatch, fake.group("/app.slice/app.service", procs="8\n9\n"))
        fake.group("/app.slice", has="pids")
        fake.group("/")
        monkeypatch.setattr(module.os, "access", lambda path, *rest, **more: "app.slice" in path)
        with pytest.raises(NotPermittedError) as refused:
            Enclosure.make("player", root=str(tmp_path))
        said = str(refused.value)
        assert "app.service: cannot hand the memory controller down (processes sit in it)" in said
        assert "app.slice: it does not get the memory controller itself" in said
        assert "cgroup: its cgroup.procs is not ours to write" in said
        assert "Delegate=yes" in said


def test_without_a_memory_controller_it_says_so(tmp_path: Path) -> None:
    """A machine without memory cgroups is told apart from one without rights."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("")
    with pytest.raises(NotPermittedError, match="no memory controller is mounted"):
        Enclosure.make("player", root=str(tmp_path))


def test_a_read_only_v1_hierarchy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose cgroups are mounted read-only gets an error that names the folder and the right."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(
        "35 31 0:32 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n")
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/docker/abc\n")

    def make(directory: str) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(module, "_make_directory", make)
    with pytest.raises(NotPermittedError, match="below /sys/fs/cgroup/memory/docker/abc: Read-only file"):
        Enclosure.make("player", root=str(tmp_path))


def test_a_name_cannot_leave_its_place(real: Enclosure) -> None:
    """Whatever a program is called, its group is one folder right below the parent's."""
    made = Enclosure.make("../..//ev il")
    try:
        assert os.path.dirname(made.directory) == os.path.dirname(real.directory)
        assert os.path.basename(made.path) == f"oomguard-.._..__ev_il-{os.getpid()}"
    finally:
        made.remove()
