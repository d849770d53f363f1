"""What tests of faults share: guards and programs of the end-to-end tests, and a system that can be broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))
sys.path.insert(0, str(Path(__file__).parents[1] / "record"))

from broken import Broken

from end_to_end.conftest import child, enclosure, folder, rules, start

__all__ = ["child", "enclosure", "folder", "rules", "start"]


@pytest.fixture
def broken(folder: Path) -> Iterator[Broken]:
    """A system that can be broken under a guard: start(…, environ=broken.environ)."""
    made = Broken(folder)
    yield made
    made.close()


@pytest.fixture
def disk(folder: Path) -> Iterator[Callable[..., Path]]:
    """Mount small file systems that are gone with the test: disk("256k")."""
    made: list[Path] = []

    def mount(size: str, name: str = "disk") -> Path:
        place = folder / name
        place.mkdir()
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)],
                                               capture_output=True).returncode:
            pytest.skip("may not mount a tmpfs")
        made.append(place)
        return place

    yield mount
    for place in made:
        subprocess.run(["umount", "-l", str(place)], check=True)
