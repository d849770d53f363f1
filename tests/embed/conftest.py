"""Fixtures of the embedded guard's tests, and the check that none leaves anything behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedding import URGENT, Events

from inside import until


@pytest.fixture
def events() -> Events:
    """A log function that remembers."""
    return Events()


@pytest.fixture
def urgent(tmp_path: Path) -> str:
    """Return a rule file by which everything is always urgent."""
    path = tmp_path / "urgent.yaml"
    path.write_text(URGENT)
    return str(path)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After each test no thread of a guard's is left but those that user code holds, and no descriptor more."""
    before = set(threading.enumerate())
    fds = len(os.listdir("/proc/self/fd"))
    yield
    until(lambda: not [t for t in set(threading.enumerate()) - before if t.name == "oomguard"])
    until(lambda: len(os.listdir("/proc/self/fd")) <= fds)
