"""A child process: its start, its signals, its end."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomguard.app import App
from oomguard.errors import NotPermittedError, UsageError


def nothing() -> None:
    """Do nothing between fork and exec."""


@pytest.fixture
def apps() -> Iterator[list[App]]:
    """Programs that are killed and reaped with the test."""
    made: list[App] = []
    yield made
    for app in made:
        if app.poll() is None:
            os.kill(app.pid, signal.SIGKILL)
            os.waitpid(app.pid, 0)


def ended(app: App) -> int | None:
    """Wait for its end and return its exit code."""
    fd = os.pidfd_open(app.pid)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(20_000)
    os.close(fd)
    return app.poll()


@pytest.mark.parametrize(
    ("code", "expected"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_its_exit_code(apps: list[App], code: str, expected: int) -> None:
    """Its own, or 128 + the signal; asked again it is the same."""
    app = App(("sh", "-c", code), os.environ, nothing)
    apps.append(app)
    assert ended(app) == expected
    assert app.poll() == expected
    app.forward(signal.SIGTERM)         # nobody is signalled any more


def test_it_lives_until_it_ends(apps: list[App]) -> None:
    """While it lives there is no exit code; a forwarded signal reaches it."""
    apps.append(App(("sleep", "100"), os.environ, nothing))
    assert apps[0].poll() is None
    apps[0].forward(signal.SIGTERM)
    assert ended(apps[0]) == 143


def test_its_environment_is_what_was_given(apps: list[App]) -> None:
    """Whole: nothing of ours comes with it."""
    environ = {"ONLY": "this", "PATH": os.environ["PATH"]}
    apps.append(App(("sh", "-c", 'test "$ONLY" = this && test -z "$HOME"'), environ, nothing))
    assert ended(apps[0]) == 0


def test_no_such_program() -> None:
    """A usage error that names it, and no child is left."""
    before = children()
    with pytest.raises(UsageError, match="nonexistent-program: No such file"):
        App(("nonexistent-program",), os.environ, nothing)
    assert children() <= before


def children() -> set[str]:
    """Return the children of this process, zombies too."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_what_may_not_be_run(tmp_path: Path, mode: int) -> None:
    """A file without the right, one of no known format, a folder."""
    (tmp_path / "file").write_bytes(b"\0no program")
    (tmp_path / "file").chmod(mode)
    for name in (tmp_path, tmp_path / "file"):
        with pytest.raises(NotPermittedError, match=r"Permission denied|Exec format error"):
            App((str(name),), os.environ, nothing)


def test_what_fails_before_exec_is_told(apps: list[App]) -> None:
    """An error in the child is the parent's to raise, and nothing of the parent runs on in it."""
    def fail() -> None:
        raise NotPermittedError("cannot move into the cgroup")

    with pytest.raises(NotPermittedError, match="cannot move into the cgroup"):
        App(("true",), os.environ, fail)


def test_signals_are_the_default_ones_in_the_child(apps: list[App]) -> None:
    """Handlers and ignored signals of the guard are not the program's."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        code = "import signal; raise SystemExit(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)"
        apps.append(App((sys.executable, "-S", "-c", code), os.environ, nothing))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended(apps[0]) == 0
