"""Real guards and those who listen to them: who is told, what wakes the guard, what a reload keeps."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from end_to_end.guarded import PROGRAMS, Guard, until

ALWAYS = """version: 1
model: none
plain_levels: [99.99%, 99.98%, 99.97%, 99.96%, 99.95%]
bounds: {actions_per_minute: 60, minimum_gap: 0s}
rules:
  - name: tell
    when: {level_at_least: 1}
    then: [{hook: any, release: all}]
    cooldown: 200ms
"""
# A file whose pages nobody else has paid for, read at random from a group that holds a sixth of it.
THRASH = """
import mmap, os, random, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
os.fsync(fd)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
data = mmap.mmap(fd, 0)
while True:
    data[random.randrange(len(data))]
"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.yaml"
    path.write_text(ALWAYS)
    return str(path)


def listen(child, guard: Guard, name: str = "pressure.sock") -> subprocess.Popen[str]:
    """Start an app at the guard's pressure socket."""
    path = guard.event("pressure-socket")["path"]
    app = child(sys.executable, "-S", str(PROGRAMS / "pressure_app.py"), stdout=subprocess.PIPE,
                env={"MEMORY_PRESSURE_WATCH": path})
    assert app.stdout.readline() == "listening\n"
    return app


def test_an_app_is_told_by_any(start, child, folder, rules) -> None:
    """`hook: any` reaches an app on the pressure socket; before it came there was nobody to ask."""
    guard = start("run", rules, "--target", "system")
    guard.event("nobody-to-ask")
    assert any("nobody listens" in warning for warning in guard.status()["warnings"])
    app = listen(child, guard)
    assert app.stdout.readline() == "heard\n"
    status = guard.status()
    assert status["listeners"]["pressure"] == 1
    (consumer,) = status["pressure"]["consumers"]
    assert (consumer["pid"], consumer["wrote"]) == (app.pid, "some 200000 2000000\0")
    assert status["warnings"] == []
    assert guard.event("release")["hook"] == "pressure"
    app.kill()
    guard.event("consumer-gone")
    until(lambda: guard.status()["listeners"]["pressure"] == 0, "nobody")


def test_only_the_apps_of_the_target_are_told(start, child, folder, rules) -> None:
    """Of two apps that listen, the one that is the target hears its alarm, and the other does not."""
    other = child("sleep", "60")
    guard = start("run", rules, "--target", f"pid:{other.pid}")
    deaf = listen(child, guard)
    guard.event("consumer-came")
    until(lambda: len(guard.events("decision")) >= 3, "three decisions")
    assert guard.events("release") == []
    assert guard.stop() == 0
    assert deaf.stdout.read() == ""                 # it was hung up, as no service manager keeps it
    guard = start("run", rules, "--target", f"pid:{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as ours:     # this very process is the target
        ours.settimeout(20)
        until(lambda: len(guard.events("pressure-socket")) == 2, "the second guard")
        ours.connect(guard.events("pressure-socket")[1]["path"])
        assert ours.recv(1) == b"\n"


def test_a_reload_keeps_who_listens(start, child, folder, rules) -> None:
    """After `oomguard reload` the same app is told under the new rules."""
    guard = start("run", rules, "--target", "system")
    app = listen(child, guard)
    assert app.stdout.readline() == "heard\n"
    Path(rules).write_text(ALWAYS.replace("name: tell", "name: tell again"))
    subprocess.run([sys.executable, "-m", "oomguard", "reload", "--socket", guard.socket], check=True, timeout=60,
                   stdout=subprocess.DEVNULL)
    assert app.stdout.readline() == "heard\n"
    until(lambda: any(each["rule"] == "tell again" for each in guard.events("release")), "a release", guard.said)


def test_pressure_wakes_the_guard_before_its_time(start, folder, rules) -> None:
    """At a cadence of 10 s a byte in MEMORY_PRESSURE_WATCH is a sample at once; without one there is none."""
    fifo = str(folder / "watch")
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    guard = start("run", rules, "--target", "system", "--cadence", "10s", "--dry-run",
                  environ={"MEMORY_PRESSURE_WATCH": fifo})
    assert guard.samples(1) == 1
    os.write(fd, b"x")
    assert guard.samples(2) == 2
    assert guard.event("woken")["by"] == fifo
    os.close(fd)
    shown = guard.status()["pressure"]
    assert shown["wakes"] == 1
    assert shown["sources"][0]["how"] == "stream"


def test_the_kernels_trigger_wakes_the_guard(start, child, enclosure, folder, rules) -> None:
    """Real stall, of a program that reads more than its cgroup holds, wakes the guard through /proc/pressure."""
    if not os.access("/proc/pressure/memory", os.W_OK):
        pytest.skip("no PSI here, or not ours to set a trigger in")
    group = enclosure("stall", 16 << 20)
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:      # on a disk, as a rule
        file.write(os.urandom(96 << 20))
        file.flush()
        guard = start("run", rules, "--target", "system", "--cadence", "10s", "--dry-run")
        assert "trigger" in {source["how"] for source in guard.status()["pressure"]["sources"]}
        child(sys.executable, "-S", "-c", THRASH, file.name, preexec_fn=group.join)
        assert guard.event("woken")["how"] == "trigger"
        assert guard.samples(2) >= 2
