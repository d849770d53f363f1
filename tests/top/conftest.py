"""Guards and terminals that end with the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from terminal import FakeGuard, Terminal


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's may have 96 bytes."""
    made = Path(tempfile.mkdtemp(prefix="og-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def socket(folder: Path) -> str:
    """Where the guard listens, once there is one."""
    return str(folder / "s")


@pytest.fixture
def guard(socket: str) -> Iterator[Callable[[], FakeGuard]]:
    """Start guards at the socket, one after the other."""
    made: list[FakeGuard] = []

    def begin() -> FakeGuard:
        made.append(FakeGuard(socket))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    """A terminal of 80x24."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    made = Terminal(folder)
    yield made
    made.end()
