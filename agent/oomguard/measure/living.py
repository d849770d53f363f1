"""A real daemon beside a bare interpreter: how soon it guards, what it weighs, how fast it answers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns, sleep
from typing import NamedTuple

from oomguard.clock import now_s
from oomguard.errors import OomguardError
from oomguard.measure.stages import SkippedError, inhabited_cgroup
from oomguard.measure.timing import Figures, time_each
from oomguard.profile import Profile
from oomguard.sense.files import read_if_there
from oomguard.sense.machine import Machine
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import Found
from oomguard.tell.client import ask
from oomguard.window import Window

STARTS, ASKS, RELOADS = 10, 500, 10
SETTLED_TICKS = 30          # at a cadence of 0.1 s
PATIENCE_S = 20.0
BARE = ("-I", "-c", "import sys; sys.stdin.read()")
# The peak of all a child was, the checking of rules and bundle before it became the daemon included. Asked by a
# process of its own: what we weigh ourselves would count in a child of ours between fork and exec.
PEAK = """\
import os, resource, sys
os.waitpid(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"""


class Weight(NamedTuple):
    """What a process holds of memory, shared pages counted whole (rss) and by share (pss)."""

    rss_bytes: int
    pss_bytes: int


class Footprint(NamedTuple):
    """The daemon's weight, and that of an interpreter of the same version that does nothing, in the same minute."""

    daemon: Weight
    bare: Weight
    peak_rss_bytes: int         # start-up included
    scorer: str                 # who scored: `forest`, or `plain` where no model is shipped


def command(folder: str, cgroup: str, *more: str) -> list[str]:
    """Return the command line of a daemon that guards a cgroup and keeps everything in `folder`."""
    return [sys.executable, "-m", "oomguard", "run", "--target", f"cgroup:{cgroup}", "--runtime-dir", folder,
            "--log", os.path.join(folder, "log"), *more]


def leave_window(folder: str, cgroup: str) -> None:
    """Leave a window of five minutes, so that the daemon's first tick ends in a forecast as after a restart."""
    machine, name = Machine(), cgroup.rpartition("/")[2]
    try:
        sensor = open_sensor(Found("cgroup", 0, cgroup, name), machine, Profile())
        os.makedirs(os.path.join(folder, "windows"))
        start_s, rng = now_s() - 305, random.Random(1)  # noqa: S311  no secret
        window = Window.open(os.path.join(folder, "windows", f"{name}.window"), sensor.identity, start_s)
        sample = sensor.read(0.0, 0.0, machine.read(), float("nan"), None)
        for t_s in range(300):
            headroom_bytes = sample.headroom_bytes * rng.uniform(0.99, 1)
            window.push(sample._replace(t_s=float(t_s), headroom_bytes=headroom_bytes))
        window.close()
        sensor.close()
    finally:
        machine.close()


@contextmanager
def daemon(*more: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a daemon; give it and the path of its control socket. Raises SkippedError when it does not come up."""
    with inhabited_cgroup() as cgroup, _folder() as folder:
        leave_window(folder, cgroup)
        child = subprocess.Popen(command(folder, cgroup, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            socket = os.path.join(folder, "control.sock")
            wait_for(lambda: os.path.exists(socket) or child.poll() is not None)
            if child.poll() is not None:
                raise SkippedError(f"the daemon did not start: {child.stderr and child.stderr.read(500)!r}")
            yield child, socket
        finally:
            child.terminate()
            child.communicate()


def start(quick: int = 1) -> Figures:
    """From `oomguard run` to the end of the first tick, which forecasts; the daemon's orderly end is included."""
    took_ns = array("q")
    with inhabited_cgroup() as cgroup:
        for _ in range(max(3, STARTS // quick)):
            with _folder() as folder:
                leave_window(folder, cgroup)
                start_ns = perf_counter_ns()
                done = subprocess.run(command(folder, cgroup, "--ticks", "1"), capture_output=True, check=False)
                took_ns.append(perf_counter_ns() - start_ns)
            if done.returncode:
                raise SkippedError(f"the daemon did not start: {done.stderr[:500]!r}")
    return Figures.of(took_ns)


def control_status(quick: int = 1) -> Figures:
    """One `status` over the control socket, from connecting to the parsed answer, by a daemon at work."""
    with daemon() as (_child, socket):
        wait_for(lambda: _answers(socket))
        return time_each(ask, [(socket, {"op": "status"})], ASKS // quick)


def reload_command(quick: int = 1) -> Figures:
    """`oomguard reload`: a process that checks everything again and hands it to a daemon at work."""
    took_ns = array("q")
    with daemon() as (_child, socket):
        wait_for(lambda: _answers(socket))
        for _ in range(max(3, RELOADS // quick)):
            start_ns = perf_counter_ns()
            done = subprocess.run([sys.executable, "-m", "oomguard", "reload", "--socket", socket], capture_output=True,
                                  check=False)
            took_ns.append(perf_counter_ns() - start_ns)
            if done.returncode:
                raise SkippedError(f"it was not reloaded: {done.stderr[:500]!r}")
    return Figures.of(took_ns)


def footprint() -> Footprint:
    """Weigh a daemon that has settled, and a bare interpreter beside it."""
    bare = subprocess.Popen([sys.executable, *BARE], stdin=subprocess.PIPE)
    try:
        with daemon("--cadence", "100ms") as (child, socket):
            wait_for(lambda: _samples(socket) >= 300 + SETTLED_TICKS)
            scorer = _first_target(socket)["scorer"]
            weights = weight(child.pid), weight(bare.pid)
    finally:
        bare.communicate()
    with inhabited_cgroup() as cgroup, _folder() as folder:
        asked = [sys.executable, "-I", "-c", PEAK, *command(folder, cgroup, "--ticks", "3", "--cadence", "100ms")]
        peak = subprocess.run(asked, capture_output=True, check=True).stdout
    return Footprint(*weights, int(peak.split()[-1]), str(scorer))


def weight(pid: int) -> Weight:
    """Return what a process weighs, by its page tables (VmRSS lags behind by some pages per core)."""
    rows = dict(line.split(b":", 1) for line in read_if_there(f"/proc/{pid}/smaps_rollup").splitlines()[1:])
    try:
        return Weight(*(int(rows[name].split()[0]) * 1024 for name in (b"Rss", b"Pss")))
    except KeyError:
        raise SkippedError("/proc/PID/smaps_rollup cannot be read here") from None


def wait_for(is_there: Callable[[], bool]) -> None:
    """Wait until it is; raise SkippedError after PATIENCE_S."""
    until_s = now_s() + PATIENCE_S
    while not is_there():
        if now_s() > until_s:
            raise SkippedError(f"the daemon did not get ready within {PATIENCE_S:.0f} s")
        sleep(0.02)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="oomguard-bench-")


def _answers(socket: str) -> bool:
    try:
        return bool(_first_target(socket))
    except OomguardError:
        return False


def _samples(socket: str) -> int:
    return int(_first_target(socket)["samples"]) if _answers(socket) else 0


def _first_target(socket: str) -> dict[str, int | str]:
    targets = ask(socket, {"op": "status"})["targets"]
    return dict(targets[0]) if isinstance(targets, list) and targets else {"samples": 0, "scorer": "none"}
