"""What `exec` puts around a program: made before it starts, removed after it ends."""

from __future__ import annotations

import os
import select
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oomguard.act.hooks import Request
from oomguard.briefing import Options
from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError, UsageError
from oomguard.sidecar import Sidecar, remove_folder


@pytest.fixture
def told() -> list[tuple[str, dict[str, Any]]]:
    """What the sidecar said."""
    return []


@pytest.fixture
def begin(tmp_path: Path, told: list[tuple[str, dict[str, Any]]]) -> Iterator[Any]:
    """Start a program in a sidecar of which everything is given back."""
    made: list[Sidecar] = []

    def tell(event: str, severity: str = "info", /, **fields: Any) -> None:
        told.append((event, fields))

    def start(*argv: str, limit_bytes: int = 0) -> Sidecar:
        made.append(Sidecar(Options(str(tmp_path), "/the/socket", argv=argv, limit_bytes=limit_bytes), "app", tell))
        return made[-1]

    yield start
    for one in made:
        if one.poll() is None:
            one.forward(9)
            wait(one)
        one.close()


def wait(sidecar: Sidecar) -> int | None:
    """Wait for the program's end; return its exit code."""
    fd = os.pidfd_open(sidecar._app.pid)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(20_000)
    os.close(fd)
    return sidecar.poll()


def no_cgroup(name: str, limit_bytes: int | None = None) -> Enclosure:
    """Refuse, as a kernel without rights for us does."""
    raise NotPermittedError("no memory cgroup can be made here")


def test_without_a_cgroup_the_process_is_the_target(
    begin: Any, told: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is said once; the count of kills is then unknown."""
    monkeypatch.setattr(Enclosure, "make", no_cgroup)
    sidecar = begin("sh", "-c", "exit 6")
    assert (sidecar.target.kind, sidecar.target.name) == ("pid", "app")
    assert told[0][0] == "no-cgroup"
    assert wait(sidecar) == 6
    assert told[-1] == ("end", {"target": "app", "ended": "exit", "app_exit_code": 6, "oom_kills": -1})


def test_a_limit_without_a_cgroup_is_refused_before_the_program_starts(
    begin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    """A limit is no wish."""
    monkeypatch.setattr(Enclosure, "make", no_cgroup)
    with pytest.raises(NotPermittedError):
        begin("touch", str(tmp_path / "mark"), limit_bytes=64 << 20)
    assert not (tmp_path / "mark").exists()


def test_what_was_made_for_a_program_that_cannot_start_is_removed(begin: Any, tmp_path: Path) -> None:
    """FIFO and cgroup go with the error."""
    before = cgroups()
    with pytest.raises(UsageError):
        begin("nonexistent-program")
    assert os.listdir(tmp_path) == [] and cgroups() == before


def cgroups() -> set[str]:
    """Return the cgroups of this process's own making."""
    found = subprocess.run(["find", "/sys/fs/cgroup", "-name", f"oomguard-*-{os.getpid()}", "-type", "d"],
                           capture_output=True, text=True, check=False)
    return set(found.stdout.split())


def test_the_environment_and_the_hook(begin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program finds the FIFO and the socket; the hook writes to the FIFO and never blocks."""
    monkeypatch.setenv("NOTIFY_SOCKET", "@other")
    script = ('echo "$MEMORY_PRESSURE_WATCH $OOMGUARD_SOCKET $NOTIFY_SOCKET" > "$0"; '
              'read line <> "$MEMORY_PRESSURE_WATCH"')
    sidecar = begin("sh", "-c", script, str(tmp_path / "said"))
    assert stat.S_ISFIFO(os.stat(tmp_path / "pressure").st_mode)
    assert sidecar.hook.executor == "inline"
    for _ in range(100):
        sidecar._ask(Request(level=3, needed_bytes=1))
    assert wait(sidecar) == 0           # a byte ended its wait
    assert (tmp_path / "said").read_text().split() == [str(tmp_path / "pressure"), "/the/socket"]


def test_a_rule_without_a_level_still_tells(begin: Any) -> None:
    """Level 0 has no word in the protocol; who is asked at level 0 is told of level 1."""
    sidecar = begin("sh", "-c", 'read line <> "$MEMORY_PRESSURE_WATCH"; exit 2')
    sidecar._ask(Request(level=0, needed_bytes=1))
    assert wait(sidecar) == 2


def test_a_folder_with_something_of_others_in_it_is_no_error(tmp_path: Path) -> None:
    """What cannot be removed stays; what is not there is gone."""
    remove_folder(str(tmp_path / "none"))
    (tmp_path / "rt" / "windows").mkdir(parents=True)
    (tmp_path / "rt" / "windows" / "x").write_text("")
    remove_folder(str(tmp_path / "rt"))
    assert not (tmp_path / "rt").exists()
