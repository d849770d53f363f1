"""Record the guarded runs of this folder anew: real programs, real memory cgroups (version 1), real kills. As root.

    python tests/data/guarded/record.py [NAME …]

All runs go at once and take about three minutes. What comes out: tables/ (all runs), logs/NAME.jsonl, and bundle/, a
copy of the model they were guarded by. Tests replay them: see README.md.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
SHIPPED = Path(__import__("oomguard").__file__).resolve().parent
SHARED = HERE.parents[1] / "end_to_end" / "programs"
PYTHON = [sys.executable, "-S"]
NODE = ["node", "--expose-gc", str(SHARED / "cache_app.js")]
KNOWN = Path("/run/oomguard-recorded")           # what the rule files name
Popen = subprocess.Popen


class Stage:
    """Where one run is recorded: a folder of its own, and everything that was started for it."""

    def __init__(self, name: str, top: Path) -> None:
        self.name, self.folder = name, top / name
        self.folder.mkdir()
        self.helpers: list[Popen[bytes]] = []
        self.groups: list[Path] = []

    def guard(self, verb: str, *argv: str) -> Popen[bytes]:
        """Start `oomguard run` or `exec` with its log and journal in the folder."""
        environ = dict(os.environ) | {"RUNTIME_DIRECTORY": str(self.folder / "rt"), "PYTHONPATH": str(SHIPPED.parent)}
        command = [sys.executable, "-m", "oomguard", verb, "--log-json", str(self.folder / "log"),
                   "--journal", str(self.folder / "journal"), *argv]
        print(f"{self.name}: {' '.join(command[2:]).replace(str(self.folder), '$STAGE')}", flush=True)
        return Popen(command, env=environ, cwd=HERE)

    def exec(self, *argv: str) -> Popen[bytes]:
        """Start `oomguard exec` under the run's name."""
        return self.guard("exec", "--name", self.name, *argv)

    def helper(self, *argv: str, group: Path | None = None) -> None:
        """Start a program beside it, in a cgroup where one is given."""
        def join() -> None:
            if group is not None:
                (group / "cgroup.procs").write_text("0")

        self.helpers.append(Popen(argv, preexec_fn=join, cwd=self.folder))

    def group(self, name: str, limit_mib: int) -> Path:
        """Make the memory cgroup (version 1) /oomguard-recorded-NAME."""
        group = Path(f"/sys/fs/cgroup/memory/oomguard-recorded-{name}")
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(limit_mib << 20))
        self.groups.append(group)
        return group

    def end(self) -> None:
        """End what still runs."""
        for helper in self.helpers:
            helper.terminate()
        for helper in self.helpers:
            helper.wait()
        for group in self.groups:
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            until_s = time.monotonic() + 5.0
            while (group / "cgroup.procs").read_text() and time.monotonic() < until_s:
                time.sleep(0.05)
            group.rmdir()


def redis(stage: Stage) -> Popen[bytes]:
    """Redis that stores for two minutes, and a command hook that empties it: it lives, and is stopped."""
    socket = str(KNOWN / "redis.sock")
    guard = stage.exec("--limit", "96MiB", "--rules", "rules/redis.yaml", "--", "redis-server",
                       "--port", "0", "--unixsocket", socket, "--save", "", "--maxmemory", "0")
    stage.helper(sys.executable, str(PROGRAMS / "feed_redis.py"), socket, "1.2", "140")
    stop_after(guard, 145)
    return guard


def redis_killed(stage: Stage) -> Popen[bytes]:
    """Redis as a process of a cgroup, read ten times a second; its hook finds nothing to give, and it is killed."""
    socket, program = str(KNOWN / "redis-killed.sock"), stage.folder / "redis-killed"
    program.symlink_to(str(shutil.which("redis-server")))
    stage.helper(str(program), "--port", "0", "--unixsocket", socket, "--save", "", "--set-proc-title", "no",
                 "--maxmemory", "0", group=stage.group("redis-killed", 80))
    stage.helper(sys.executable, str(PROGRAMS / "feed_redis.py"), socket, "0.7", "200")
    time.sleep(0.5)
    guard = stage.guard("run", "--rules", "rules/redis-killed.yaml")
    stop_after(guard, 150)          # a command may come again, so it waits for one
    return guard


def node(stage: Stage) -> Popen[bytes]:
    """Node whose cache listens on its pressure FIFO: it lives, under the shipped rules."""
    return stage.exec("--limit", "128MiB", "--", *NODE, "260", "2", "fifo")


def node_killed(stage: Stage) -> Popen[bytes]:
    """The same, read ten times a second, and killed: the app hears nothing."""
    return stage.exec("--limit", "160MiB", "--cadence", "100ms", "--", *NODE, "400", "1.5", "deaf")


def python(stage: Stage) -> Popen[bytes]:
    """Python that rests for a minute, then grows, leaks a little, and listens: it lives to its end."""
    return stage.exec("--limit", "96MiB", "--", *PYTHON, str(PROGRAMS / "leak.py"), "1.5", "0.1", "170", "fifo", "60")


def python_killed(stage: Stage) -> Popen[bytes]:
    """Python that listens and leaks more than it can give back: releases win time, and the kill comes."""
    return stage.exec("--limit", "80MiB", "--cadence", "100ms", "--", *PYTHON, str(PROGRAMS / "leak.py"), "1.4", "0.45",
                      "300", "fifo")


def workers(stage: Stage) -> Popen[bytes]:
    """A cgroup whose workers are killed one after another; the group lives."""
    stage.helper(*PYTHON, str(PROGRAMS / "prefork.py"), "16", "1", group=stage.group("workers", 96))
    guard = stage.guard("run", "--rules", "rules/workers.yaml")
    stop_after(guard, 170)
    return guard


def quiet(stage: Stage) -> Popen[bytes]:
    """Python that grows by next to nothing: nothing is to be said of it."""
    return stage.exec("--limit", "96MiB", "--", *PYTHON, str(PROGRAMS / "leak.py"), "0.02", "1", "90", "fifo")


RUNS: dict[str, Callable[[Stage], Popen[bytes]]] = {
    "redis": redis, "redis-killed": redis_killed, "node": node, "node-killed": node_killed, "python": python,
    "python-killed": python_killed, "workers": workers, "quiet": quiet}
_stops: list[tuple[float, Popen[bytes]]] = []


def stop_after(guard: Popen[bytes], seconds: float) -> None:
    """Have a guard ended by SIGTERM."""
    _stops.append((time.monotonic() + seconds, guard))


def main(names: list[str]) -> None:
    """Record, export, copy."""
    top = Path(tempfile.mkdtemp(prefix="og-"))
    KNOWN.mkdir(exist_ok=True)
    shutil.copy(SHARED / "trim_redis.sh", KNOWN)
    os.chmod(KNOWN / "trim_redis.sh", 0o755)
    stages = [Stage(name, top) for name in names]
    guards = {stage.name: RUNS[stage.name](stage) for stage in stages}
    while any(guard.poll() is None for guard in guards.values()):
        for at_s, guard in _stops:
            if time.monotonic() > at_s and guard.poll() is None:
                guard.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    for stage in stages:
        stage.end()
    (HERE / "logs").mkdir(exist_ok=True)
    for stage in stages:
        (HERE / "logs" / f"{stage.name}.jsonl").write_bytes((stage.folder / "log").read_bytes())
        print(f"{stage.name}: exit status {guards[stage.name].returncode}")
    subprocess.run([sys.executable, "-m", "oomguard", "record", "export", str(top), "--out", str(HERE / "tables")],
                   check=True)
    shutil.copytree(SHIPPED / "model", HERE / "bundle", dirs_exist_ok=True)
    shutil.copy(SHIPPED / "rules" / "default.yaml", HERE / "rules" / "default.yaml")
    shutil.rmtree(KNOWN)
    print(f"the journals are left in {top}")


if __name__ == "__main__":
    main(sys.argv[1:] or list(RUNS))
