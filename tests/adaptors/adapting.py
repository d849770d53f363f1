"""What the tests of the adaptors share: requests, waiting for what must come, programs of their own, quick rules."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from oomguard.act.hooks import Request

PATIENCE_S = 30.0       # how long a test waits for what must come; no assertion depends on the time it took
AGENT = str(Path(__file__).parents[2] / "agent")

# Any process of a machine is at level 5 by these: whatever hook there is, is asked at the first tick, and on and on.
URGENT = """\
version: 1
targets: [self]
model: none
plain_levels: [100%, 99.99%, 99.98%, 99.97%, 99.96%]
bounds: {actions_per_minute: 60, minimum_gap: 0s}
rules:
  - name: always
    when: {level_at_least: 1}
    then: [{hook: any, release: all}]
    cooldown: 100ms
"""


def ask(needed_bytes: int, *, release_all: bool = False, deadline_s: float = 20.0) -> Request:
    """Return a request for so many bytes."""
    return Request(3, needed_bytes, release_all, deadline_s)


def until(is_true: Callable[[], object]) -> None:
    """Wait until something is true."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.005)


def run(*command: str, python_path: str = AGENT) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a fresh interpreter, warnings shown."""
    environ = {**os.environ, "PYTHONPATH": python_path, "PYTHONWARNINGS": "always", "PYTHONUNBUFFERED": "1"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, env=environ)
