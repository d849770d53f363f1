"""What the tests of the embedded guard share beside inside.py: a log that remembers, programs in development mode."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

import inside

URGENT = inside.always_asked("1MiB")    # `needed` would be nothing: there is room enough


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


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter in development mode, warnings shown."""
    return inside.run("-X", "dev", "-c", code, *args)
