"""What the tests of the embedded guard share: waiting for what must come, programs of their own, quick rules."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PATIENCE_S = 20.0       # how long a test waits for what must come; no assertion depends on the time it took
AGENT = str(Path(__file__).parents[2] / "agent")

# Any process of a machine is at level 5 by these: whatever hook there is, is asked at the first tick, and each second.
URGENT = """\
version: 1
targets: [self]
model: none
plain_levels: [100%, 99.99%, 99.98%, 99.97%, 99.96%]
bounds: {actions_per_minute: 60, minimum_gap: 0s}
rules:
  - name: always
    when: {level_at_least: 1}
    then: [{hook: any, release: needed}]
    cooldown: 100ms
"""


def until(is_true: Callable[[], object]) -> None:
    """Wait until something is true."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.005)


class Events:
    """A log function that remembers."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, Mapping[str, object]]] = []

    def __call__(self, event: str, severity: str, fields: Mapping[str, object]) -> None:
        """Take an event in."""
        self.all.append((event, severity, fields))

    def of(self, name: str) -> list[Mapping[str, object]]:
        """Return the fields of each event of that name."""
        return [fields for event, _severity, fields in self.all if event == name]


def run(code: str, *args: str, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter, warnings shown."""
    environ = {**os.environ, "PYTHONPATH": AGENT, "PYTHONWARNINGS": "always", "PYTHONUNBUFFERED": "1"}
    return subprocess.run([sys.executable, "-X", "dev", "-c", code, *args], capture_output=True, text=True,
                          timeout=timeout_s, env=environ)
