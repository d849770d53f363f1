"""What adaptors claim comes back for real: each fills 64 MiB in a process of its own, whose memory then falls."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from inside import AGENT, run

PROGRAM = str(Path(__file__).with_name("yields.py"))
MIB = 1 << 20
DIVISIBLE = ("dict", "small", "numpy", "cachetools", "ttl", "kept", "store")
WHOLE = ("lru_cache", "cache", "gc", "malloc", "pyarrow", "sqlite", "torch")
SEEN_RATIO = 0.85           # of what was claimed; measured: 0.96 to 1.32, numpy the least


def measured(kind: str, share: float) -> dict[str, float]:
    """Run one kind, asked for this share of what it holds."""
    if kind == "store" and not os.path.ismount("/dev/shm"):
        pytest.skip("no tmpfs to keep a store on")
    if kind == "torch":
        pytest.importorskip("torch", reason="torch is 200 MB: optional")
    ended = run(PROGRAM, kind, str(share), python_path=":".join([AGENT, os.environ.get("PYTHONPATH", "")]))
    assert (ended.returncode, ended.stderr) == (0, "")
    said: dict[str, float] = json.loads(ended.stdout)
    return said


@pytest.mark.parametrize("kind", [*DIVISIBLE, *WHOLE])
def test_everything_comes_back_when_all_is_asked_for(kind: str) -> None:
    """The process's memory falls by most of what was claimed, and nothing evictable is left."""
    said = measured(kind, 1.0)
    assert said["claimed"] > 32 * MIB
    assert said["seen"] >= SEEN_RATIO * said["claimed"]
    if said["left"] == said["left"]:            # who can tell
        assert said["left"] < MIB
        assert 0.6 * said["seen"] <= said["evictable"] <= 1.3 * said["seen"]


@pytest.mark.parametrize("kind", DIVISIBLE)
def test_about_so_much_comes_back_as_was_asked_for(kind: str) -> None:
    """Half is asked for: about half goes, by bytes, and the rest stays; the process's memory falls by it."""
    said = measured(kind, 0.5)
    assert said["asked"] <= said["claimed"] <= 1.1 * said["asked"]
    assert said["seen"] >= SEEN_RATIO * said["claimed"]
    assert said["left"] >= 10 * MIB
