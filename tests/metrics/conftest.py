"""Guards of the end-to-end tests, whose helpers are used here too."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))

from guarded import Guard


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's may have 96 bytes."""
    made = Path(tempfile.mkdtemp(prefix="og-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Guard]]:
    """Start guards that are ended with the test."""
    made: list[Guard] = []

    def begin(*argv: str, **more: Any) -> Guard:
        made.append(Guard(folder, *argv, **more))
        return made[-1]

    yield begin
    for guard in made:
        guard.end()
