"""What tests of a guard inside an app share: waiting for what must come, programs of their own, quick rules."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 30.0       # how long a test waits for what must come; no assertion depends on the time it took
PROGRAM_S = 120.0       # how long a program of a test may take
AGENT = str(Path(__file__).parents[1] / "agent")


def always_asked(release: str) -> str:
    """Return rules by which any process is at level 5: any hook is asked for `release` at the first tick, and on."""
    return f"""\
version: 1
targets: [self]
model: none
plain_levels: [100%, 99.99%, 99.98%, 99.97%, 99.96%]
bounds: {{actions_per_minute: 60, minimum_gap: 0s}}
rules:
  - name: always
    when: {{level_at_least: 1}}
    then: [{{hook: any, release: {release}}}]
    cooldown: 100ms
"""


def until(is_true: Callable[[], object]) -> None:
    """Wait until something is true."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.005)


def run(*command: str, python_path: str = AGENT) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a fresh interpreter, warnings shown."""
    environ = {**os.environ, "PYTHONPATH": python_path, "PYTHONWARNINGS": "always", "PYTHONUNBUFFERED": "1"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=PROGRAM_S, env=environ)
