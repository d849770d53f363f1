"""A guard that says what a test wants, and a real terminal (tmux) in which the view runs."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from oomguard.errors import UsageError
from oomguard.tell.control import ControlServer
from oomguard.tell.log import Log

PATIENCE_S = 20.0
AGENT = str(Path(__file__).resolve().parents[2] / "agent")
TARGET: dict[str, Any] = {
    "name": "player", "limit_bytes": 64 << 20, "used_bytes": 48 << 20, "headroom_bytes": 16 << 20, "level": 3,
    "probabilities": {"p60": 0.02, "p300": 0.9}, "time_to_limit_s": 150.0, "scorer": "forest",
    "constraint": "cgroup:/player", "releases": 2, "freed_bytes": 5 << 20, "last_freed_bytes": 3 << 20, "kills": 1,
    "hooks": [{"name": "image-cache", "cost": 0.5, "yield_bytes": 3 << 20, "calls": 2, "failures": 1,
               "on_hold_until_s": 1e12}]}
SYSTEM = TARGET | {"name": "system", "used_bytes": 1 << 30, "limit_bytes": 4 << 30, "level": 0, "hooks": [],
                   "probabilities": None, "time_to_limit_s": None, "abstains_because": "short window"}
STATUS: dict[str, Any] = {"targets": [TARGET, SYSTEM], "model": {"id": "default-1"}, "warnings": [], "pid": 1,
                          "waiting_for": [], "dry_run": False, "agent_version": "0.1.0"}


def until(is_true: Callable[[], Any], said: Callable[[], Any]) -> Any:
    """Wait for something to become true and return it."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (found := is_true()):
        assert time.monotonic() < give_up_s, f"waited in vain; there is\n{said()}"
        time.sleep(0.02)
    return found


class FakeGuard:
    """A control socket that answers with `status`, `histories`; `publish` sends an event."""

    def __init__(self, path: str) -> None:
        self.status, self.histories = dict(STATUS), {}
        self._events: list[Mapping[str, object]] = []
        self._epoll, self._end = select.epoll(), threading.Event()
        self._server = ControlServer(path, {"status": lambda _request, _client: self.status, "history": self._history},
                                     self._epoll, Log(os.open("/dev/null", os.O_WRONLY)))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def subscribers(self) -> int:
        """How many listen."""
        return self._server.subscribers

    def publish(self, **event: object) -> None:
        """Send an event soon."""
        self._events.append(event)

    def stop(self) -> None:
        """End it, as often as you like."""
        if not self._end.is_set():
            self._end.set()
            self._thread.join()
            self._server.close()
            self._epoll.close()

    def _history(self, request: Mapping[str, Any], _client: object) -> Mapping[str, object]:
        if request["target"] not in self.histories:
            raise UsageError("none")
        return {"target": request["target"], "every_s": 5.0, **self.histories[request["target"]]}

    def _serve(self) -> None:
        while not self._end.is_set():
            for fd, events in self._epoll.poll(0.02):
                self._server.handle(fd, events)
            while self._events:
                self._server.publish(self._events.pop(0))


class Terminal:
    """A shell in a tmux of its own."""

    def __init__(self, folder: Path, width: int = 80, height: int = 24) -> None:
        self._socket = str(folder / "tmux")
        environ = {name: value for name, value in os.environ.items() if name not in ("TMUX", "OOMGUARD_SOCKET")}
        environ |= {"LC_ALL": "C.UTF-8", "PYTHONPATH": AGENT, "PS1": "$ ", "SHELL": "/bin/sh"}
        subprocess.run(["tmux", "-S", self._socket, "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y",
                        str(height), "-s", "t", "env -u ENV sh"], env=environ, check=True)

    def top(self, *argv: str) -> None:
        """Start the view; the shell then says how it ended, and whether the terminal echoes again."""
        command = shlex.join([sys.executable, "-m", "oomguard", "top", *argv])
        self.type(f"{command}; echo ended $?; stty -a | grep -o ' echo '", "Enter")

    def type(self, *keys: str) -> None:
        """Press keys, in tmux's words."""
        self._run("send-keys", "-t", "t", *keys)

    def resize(self, width: int, height: int) -> None:
        """Change the size, as a user who drags a corner."""
        self._run("resize-window", "-t", "t", "-x", str(width), "-y", str(height))

    def shown(self) -> str:
        """Return what a user sees."""
        return self._run("capture-pane", "-p", "-t", "t")

    def sees(self, *texts: str, without: str = "") -> str:
        """Wait until all of these are seen, and return the page."""
        def is_there() -> str:
            page = self.shown()
            return page if all(text in page for text in texts) and (not without or without not in page) else ""

        found: str = until(is_there, self.shown)
        return found

    def end(self) -> None:
        """End it and all that runs in it."""
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)

    def _run(self, *argv: str) -> str:
        return subprocess.run(["tmux", "-S", self._socket, *argv], check=True, capture_output=True, text=True).stdout
