"""Ticks and scores of a real daemon while the machine is saturated, with and without real-time scheduling and mlock.

    python bench/load.py SECONDS        of each of four loads, in both ways

Loads: none; processors (two busy loops a core); reclaim (a memory cgroup of its own, the daemon in it, whose reader
goes through more file than the limit holds); disk (writers that wait for it). The daemon guards a cgroup at 50 Hz.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from oomguard.enclosure import Enclosure
from oomguard.errors import OomguardError
from oomguard.measure import living
from oomguard.measure.stages import inhabited_cgroup
from oomguard.measure.timing import Figures

HERE = Path(__file__).parent
SQUEEZED_BYTES, READ_BYTES, WRITTEN_BYTES = 48 << 20, 160 << 20, 16 << 20
PATIENCE_S = 30.0
BUSY = "while True: pass"
READER = """\
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
held = bytearray(24 << 20)
while True:
    for at in range(0, {bytes}, 1 << 20):
        os.pread(fd, 1 << 20, at)
    for at in range(0, len(held), 4096): held[at] = 1
"""
WRITER = """\
import os, sys, tempfile
fd, path = tempfile.mkstemp(dir=sys.argv[1])
os.unlink(path)
block = os.urandom(1 << 20)
while True:
    os.lseek(fd, 0, 0)
    for _ in range({bytes} >> 20): os.write(fd, block)
    os.fsync(fd)
"""
LOADS = ("none", "processors", "reclaim", "disk")
WAYS = ("as it is", "SCHED_FIFO and mlock")
QUANTITIES = ("late_us", "took_us", "score_us")


@contextmanager
def load(kind: str, folder: str) -> Iterator[Enclosure | None]:
    """Saturate one thing of the machine; give the cgroup that the daemon is to be in, if any."""
    with ExitStack() as stack:
        enclosure, argvs = None, []
        if kind == "processors":
            argvs = [[sys.executable, "-I", "-S", "-c", BUSY]] * (2 * (os.cpu_count() or 1))
        elif kind == "disk":
            argvs = [[sys.executable, "-I", "-S", "-c", WRITER.format(bytes=WRITTEN_BYTES), folder]] * 2
        elif kind == "reclaim":
            enclosure = Enclosure.make("squeezed", SQUEEZED_BYTES, is_swapless=False)
            stack.callback(enclosure.remove, kill=True)
            path = f"{folder}/read"
            with open(path, "wb") as file:
                for _ in range(READ_BYTES >> 20):
                    file.write(os.urandom(1 << 20))
            argvs = [[sys.executable, "-I", "-S", "-c", READER.format(bytes=READ_BYTES), path]]
        for argv in argvs:
            child = subprocess.Popen(argv, preexec_fn=enclosure.join if enclosure else None)  # noqa: PLW1509
            stack.callback(child.wait)
            stack.callback(child.kill)
        yield enclosure


def ticks(kind: str, way: str, seconds: float) -> dict[str, list[float]]:
    """Return how late each tick was, how long it and its score took, in microseconds."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="oomguard-load-"))
        target = stack.enter_context(inhabited_cgroup())
        living.leave_window(folder, target)
        enclosure = stack.enter_context(load(kind, folder))
        more = [target, "fifo"] if way != WAYS[0] else [target]
        argv = [sys.executable, str(HERE / "timed_daemon.py"), f"{folder}/s", *more]
        daemon = subprocess.Popen(argv, stdout=subprocess.PIPE, preexec_fn=enclosure.join if enclosure else None)  # noqa: PLW1509
        give_up_s = time.monotonic() + PATIENCE_S
        while not os.path.exists(f"{folder}/s"):
            if daemon.poll() is not None or time.monotonic() > give_up_s:
                raise OomguardError(f"the daemon did not start under load: {kind}, {way}")
            time.sleep(0.05)
        time.sleep(seconds)
        daemon.terminate()
        told = json.loads(daemon.communicate(timeout=PATIENCE_S)[0])
    return {name: told[name][3:] for name in QUANTITIES}


def measure(seconds: float) -> dict[str, dict[str, dict[str, object]]]:
    """Return, by load and way, the distributions of QUANTITIES."""
    told: dict[str, dict[str, dict[str, object]]] = {}
    for kind in LOADS:
        for way in WAYS:
            try:
                taken = ticks(kind, way, seconds)
            except OomguardError as problem:
                told.setdefault(kind, {})[way] = {"skipped": str(problem)}
                continue
            figures = {name: Figures.of([us * 1000 for us in values]) for name, values in taken.items() if values}
            told.setdefault(kind, {})[way] = {name: one.plain() | {"curve_us": list(one.curve_us)}
                                              for name, one in figures.items()}
    return told


if __name__ == "__main__":
    for each, ways in measure(float(sys.argv[1]) if sys.argv[1:] else 8.0).items():
        for name, one in ways.items():
            for quantity in QUANTITIES:
                figures = one.get(quantity, {})
                sys.stdout.write(f"{each:<11} {name:<21} {quantity:<9} "
                                 f"{ {key: value for key, value in figures.items() if key != 'curve_us'} }\n")
            if "skipped" in one:
                sys.stdout.write(f"{each} {name}: {one['skipped']}\n")
