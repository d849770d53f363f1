"""Real guards over real programs, watched through their log and their socket."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oomguard.errors import OomguardError
from oomguard.tell.client import ask

PATIENCE_S = 60.0           # how long a test waits for what must come; nothing is asserted about the time it took
MIB = 1 << 20
PROGRAMS = Path(__file__).parent / "programs"
Event = dict[str, Any]


def until(is_true: Callable[[], Any], what: str, said: Callable[[], str] = str) -> Any:
    """Wait for something to become true and return it; `said` tells more where it never does."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (found := is_true()):
        assert time.monotonic() < give_up_s, f"waited in vain for {what}; {said()}"
        time.sleep(0.01)
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Guard:
    """A running `oomguard run` or `oomguard exec`."""

    def __init__(self, folder: Path, *argv: str, **more: Any) -> None:
        """Start it; its runtime files stand below `folder`. `prefix` names what starts it, such as `unshare --time`."""
        self.folder, self.log_file, self.errors = folder, folder / "log", folder / "errors"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OOMGUARD_", "MEMORY_P"))}
        environ |= {"RUNTIME_DIRECTORY": str(folder / "rt"), "STATE_DIRECTORY": str(folder / "state")}
        environ |= more.pop("environ", {})
        cadence = () if "--cadence" in argv else ("--cadence", "100ms")
        command = [*more.pop("prefix", ()), sys.executable, "-m", "oomguard", argv[0], *cadence,
                   "--log-json", str(self.log_file), *argv[1:]]
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(command, stderr=more.pop("stderr", errors), env=environ, **more)
        self.pid = self.process.pid

    def events(self, name: str = "") -> list[Event]:
        """Return what the log holds so far: every line of it is one JSON object."""
        try:
            lines = self.log_file.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in found if name in ("", event["event"])]

    def event(self, name: str, at: int = 0) -> Event:
        """Wait for the event of that name (the first one, or the one at `at`)."""
        def is_there() -> bool:
            assert len(self.events(name)) > at or self.process.poll() is None, f"it ended; {self.said()}"
            return len(self.events(name)) > at

        until(is_there, name, self.said)
        return self.events(name)[at]

    def said(self) -> str:
        """Return everything that it wrote, for people."""
        log = self.log_file.read_text() if self.log_file.exists() else ""
        return f"log:\n{log}\nstandard error:\n{self.errors.read_text()}"

    @property
    def socket(self) -> str:
        """Where it listens."""
        return str(self.event("start")["socket"])

    def status(self) -> dict[str, Any]:
        """Ask it, as soon as it answers."""
        def answer() -> dict[str, Any] | None:
            try:
                return ask(self.socket, {"op": "status"})
            except OomguardError:
                return None

        return until(answer, "an answer of the guard")

    def target(self, name: str = "") -> dict[str, Any]:
        """Return what `status` shows of a target."""
        targets = self.status()["targets"]
        return next((target for target in targets if name in ("", target["name"])), {})

    def samples(self, at_least: int) -> int:
        """Wait until so many samples have been taken; return how many they are."""
        return until(lambda: (n := self.target().get("samples", 0)) >= at_least and n, f"{at_least} samples", self.said)

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        return self.process.wait(timeout=PATIENCE_S)

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self.process.terminate()
        return self.wait()

    def end(self) -> None:
        """End it, however it stands."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Holder:
    """A program that takes and drops memory when told."""

    def __init__(self, begin: Callable[..., subprocess.Popen[str]], *, join: Callable[[], None] | None = None) -> None:
        """Start it by the fixture `child`; `join` is called between fork and exec."""
        self.process = begin(sys.executable, "-S", str(PROGRAMS / "holder.py"), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, preexec_fn=join)
        self.pid = self.process.pid
        assert self._out().readline() == "ready\n"

    def take(self, mib: float) -> None:
        """Let it take so much more, and wait until it has."""
        self._say(f"take {mib}")

    def drop(self) -> None:
        """Let it give everything back."""
        self._say("drop")

    def end(self) -> None:
        """Kill and reap it."""
        self.process.kill()
        self.process.wait()

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self._out().readline() == "ok\n", "it was killed"

    def _out(self) -> Any:
        assert self.process.stdout is not None
        return self.process.stdout
