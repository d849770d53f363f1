"""What a soak guards and by what: apps that move memory, a small disk, a guard that is started again when it ends."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oomguard.enclosure import Enclosure
from oomguard.errors import OomguardError
from oomguard.tell.client import ask

REPO = Path(__file__).resolve().parents[2]
MIB = 1 << 20
LIMIT_BYTES = 96 * MIB
DISK = "48m"
PATIENCE_S = 30.0
LONG_PATIENCE_S = 150.0         # a helper, or a disk, that failed some times in a row is tried again after 60 s
LOOK_S = 0.005
NICE = -10                      # Nice= of oomguard.service; tests/deploy/test_units.py compares
SAMPLES_AT = slice(64, 72)      # of a window's header: samples since its run began
RULES = """version: 1
model: none
targets:
  - system
  - {{name: app, cgroup: {group}}}
  - {{name: worker, command: {worker}}}
hooks:
  - {{name: note, command: [sh, -c, 'echo >> {mark}'], deadline: 2s, minimum: 0MiB}}
bounds: {{actions_per_minute: 60, minimum_gap: 0s}}
rules:
  - {{name: note it, when: {{used_above: 10%}}, then: [{{hook: note, release: all}}], cooldown: 1s, targets: [app]}}
"""
# Takes up to 60 MiB and gives it back, over and over; called by the name that the guard looks for.
APP = """
import mmap, random, sys, time
chance, held, most = random.Random(int(sys.argv[1])), [], 40
while True:
    held.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    held[-1].write(bytes([1]) * (1 << 20))
    if len(held) >= most:
        held.clear()
        most = chance.randrange(8, 60)
    time.sleep(0.05)
"""


def as_the_unit_is() -> None:
    """Take the priority that the unit has: between fork and exec of the guard.

    Nice= of oomguard.service holds among its slice; CPUWeight=1000 of the slice, ten times that of others, is what
    a session of its own has at -10 (9.3 times), where the kernel groups processes by session.
    """
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    os.setsid()
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/self/autogroup").write_text(str(NICE))


def until(is_true: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait for something to become true and return it. Raises TimeoutError."""
    give_up_s = time.monotonic() + patience_s
    while not (found := is_true()):
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"waited {patience_s:g} s in vain for {what}")
        time.sleep(LOOK_S)
    return found


class Site:
    """One guard and what is around it."""

    def __init__(self, hz: float, seed: int, environ: dict[str, str]) -> None:
        """Set everything up and start guarding. Needs root: a memory cgroup, and a file system of its own."""
        self._hz, self._seed, self._environ = hz, seed, environ
        self.folder = Path(tempfile.mkdtemp(prefix="og-soak-"))
        self.disk, self.runtime, self.log = self.folder / "disk", self.folder / "rt", self.folder / "log"
        self.journal, self.mark = self.disk / "journal", self.folder / "mark"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", self.disk], check=True)
        self.starts, self._read_bytes, self._said = 0, 0, Counter[str]()
        self.group = Enclosure.make("soak", LIMIT_BYTES)
        self.app = self.start_app()
        self.worker = self.start_worker()
        rules = self.folder / "rules.yaml"
        rules.write_text(RULES.format(group=self.group.path, worker=self.worker_name, mark=self.mark))
        self._command = [sys.executable, "-m", "oomguard", "run", str(rules), "--cadence", f"{1000 / hz:g}ms",
                         "--journal", str(self.journal), "--log-json", str(self.log)]
        self.guard = self.start_guard()

    @property
    def worker_name(self) -> str:
        """What the guard finds the worker by."""
        return f"soak-{os.getpid()}"

    def start_app(self) -> subprocess.Popen[bytes]:
        """Start the program in the cgroup."""
        return subprocess.Popen([sys.executable, "-S", "-c", APP, str(self._seed)],
                                preexec_fn=self.group.join)  # noqa: PLW1509  no threads here

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start the program that is found by its name."""
        return subprocess.Popen([self.worker_name, "-S", "-c", APP, str(self._seed)], executable=sys.executable)

    def start_guard(self) -> subprocess.Popen[bytes]:
        """Start the guard, as a service manager would."""
        self.starts += 1
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OOMGUARD_", "MEMORY_P"))}
        environ |= {"RUNTIME_DIRECTORY": str(self.runtime), "STATE_DIRECTORY": str(self.folder / "state")}
        with (self.folder / "errors").open("ab") as errors:
            return subprocess.Popen(self._command, env=environ | self._environ, stderr=errors,
                                    preexec_fn=as_the_unit_is)  # noqa: PLW1509  no threads here

    def kill_guard(self) -> float:
        """kill -9 it, start it again, and return how long nobody guarded: to the first sample after it."""
        since_s = time.monotonic()
        self.guard.kill()
        self.guard.wait()
        before = self.samples()         # the one it died in may have counted
        self.guard = self.start_guard()
        until(lambda: self.samples() > before, "a sample after a kill")
        return time.monotonic() - since_s

    def bare_start(self) -> float:
        """Return how long a bare interpreter takes to start and end, in the same circumstances."""
        since_s = time.monotonic()
        subprocess.run([sys.executable, "-I", "-c", "pass"], check=True, env=os.environ | self._environ,
                       preexec_fn=as_the_unit_is)
        return time.monotonic() - since_s

    def samples(self, target: str = "system") -> int:
        """Return how many samples a target's window counts: from its file, whoever is alive."""
        path = self.runtime / "windows" / f"{target}.window"
        return int.from_bytes(path.read_bytes()[SAMPLES_AT], sys.byteorder) if path.exists() else 0

    def ticks_on(self, ticks: int = 5) -> None:
        """Wait until so many more samples have been taken."""
        before = self.samples()
        until(lambda: self.samples() >= before + ticks, f"{ticks} more samples")

    def status(self) -> dict[str, Any]:
        """Ask the guard, as soon as it answers."""
        def answer() -> dict[str, Any] | None:
            with contextlib.suppress(OomguardError):
                return ask(str(self.runtime / "control.sock"), {"op": "status"})
            return None

        return until(answer, "an answer of the guard")

    def targets(self) -> set[str]:
        """Return whom it guards now."""
        return {target["name"] for target in self.status()["targets"]}

    def helper(self) -> int:
        """Return the pid of the guard's helper, 0 while there is none."""
        for child in Path(f"/proc/{self.guard.pid}/task/{self.guard.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if b"act.helper" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        return 0

    def said(self, event: str) -> int:
        """Return how often the log has an event; what was read before is not read again."""
        with self.log.open("rb") as file:
            file.seek(self._read_bytes)
            lines = file.read().rpartition(b"\n")[0]
        self._read_bytes += len(lines)
        self._said.update(re.findall(r'"event":"([\w-]+)"', lines.decode()))
        return self._said[event]

    def close(self) -> int:
        """Stop the guard in an orderly way and return its exit status; end the apps."""
        self.guard.send_signal(signal.SIGTERM)
        status = self.guard.wait(PATIENCE_S)
        for process in (self.app, self.worker):
            process.kill()
            process.wait()
        self.group.remove(kill=True)
        return status

    def remove(self) -> None:
        """Leave nothing behind."""
        if self.guard.poll() is None:
            self.guard.kill()
            self.guard.wait()
        for process in (self.app, self.worker):
            process.kill()
            process.wait()
        self.group.remove(kill=True)
        subprocess.run(["umount", "-l", self.disk], check=True)
        shutil.rmtree(self.folder)
