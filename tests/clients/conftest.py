"""Guards for the clients' programs, as in the end-to-end tests, and a guard of straw that says what the test wants."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

END_TO_END = Path(__file__).parents[1] / "end_to_end"
sys.path.insert(0, str(END_TO_END))             # for guarded.py
_spec = importlib.util.spec_from_file_location("end_to_end_fixtures", END_TO_END / "conftest.py")
assert _spec is not None and _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
folder, start, rules, child = _fixtures.folder, _fixtures.start, _fixtures.rules, _fixtures.child
enclosure, needs_cgroup = _fixtures.enclosure, _fixtures.needs_cgroup


class Straw:
    """Listens as a guard does, and hears and says what the test wants."""

    def __init__(self, path: str) -> None:
        self.path, self.lines = path, b""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(20)
        self.peer: socket.socket | None = None

    def meet(self) -> None:
        """Wait for the client, anew each time."""
        self.drop()
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(20)

    def hear(self, op: str) -> dict[str, Any]:
        """Return the next message with this op, as it was sent."""
        while (message := self.hear_any())["op"] != op:
            pass
        return message

    def hear_any(self) -> dict[str, Any]:
        """Return the next message."""
        while b"\n" not in self.lines:
            chunk = self._peer().recv(1 << 16)
            assert chunk, "it went away"
            self.lines += chunk
        line, _, self.lines = self.lines.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def say(self, line: bytes) -> None:
        """Say something, sense or not."""
        self._peer().sendall(line)

    def ask(self, hook: str, **more: Any) -> None:
        """Ask a hook."""
        message = {"v": 1, "event": "release", "hook": hook, "ticket": 7, "level": 3, "needed_bytes": 1000,
                   "all": False, "deadline_s": 5.0, "reason": 'rule "a\\b": tab\t, \u00e9'} | more
        self.say(json.dumps(message).encode() + b"\n")

    def drop(self) -> None:
        """Close the connection."""
        if self.peer is not None:
            self.peer.close()
        self.peer, self.lines = None, b""

    def close(self) -> None:
        """Be gone."""
        self.drop()
        self.listener.close()
        Path(self.path).unlink(missing_ok=True)

    def _peer(self) -> socket.socket:
        assert self.peer is not None
        return self.peer


@pytest.fixture
def straw(folder: Path) -> Iterator[Callable[[], Straw]]:
    """Make guards of straw, one after the other, at the same path."""
    made: list[Straw] = []

    def make() -> Straw:
        made.append(Straw(str(folder / "straw.sock")))
        return made[-1]

    yield make
    for each in made:
        each.close()
