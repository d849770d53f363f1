"""The proof: a real program in a real cgroup, killed by the kernel alone, alive with `with guard:` and one hook."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inside import AGENT
from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError

LIMIT_BYTES = 128 << 20
PLANNED_S = 8.0
PROGRAM = str(Path(__file__).with_name("leaky_app.py"))


@pytest.fixture
def enclosures() -> Iterator[dict[str, Enclosure]]:
    """One cgroup per way."""
    try:
        made = {way: Enclosure.make(f"embed {way}", LIMIT_BYTES) for way in ("alone", "guarded")}
    except NotPermittedError as error:
        pytest.skip(str(error))
    yield made
    for enclosure in made.values():
        enclosure.remove(kill=True)


def test_the_same_program_is_killed_alone_and_lives_with_the_guard(enclosures: dict[str, Enclosure]) -> None:
    """Alone: ended by SIGKILL, the kernel counts a kill. Guarded: its planned end, no kill, its cache given up."""
    environ = {**os.environ, "PYTHONPATH": AGENT}
    running = {way: subprocess.Popen(
        [sys.executable, PROGRAM, enclosure.directory, str(LIMIT_BYTES), str(PLANNED_S), way],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
        for way, enclosure in enclosures.items()}
    said = {way: program.communicate(timeout=120) for way, program in running.items()}
    assert running["alone"].returncode == -signal.SIGKILL, said["alone"]
    assert enclosures["alone"].kills() == 1
    assert running["guarded"].returncode == 0, said["guarded"]
    assert enclosures["guarded"].kills() == 0
    assert int(said["guarded"][0]) < LIMIT_BYTES // 2 >> 20
    assert "decision" in said["guarded"][1]
