"""What a daemon weighs, what of a core it takes, and that neither grows."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from oomguard.measure import living
from oomguard.ring import WINDOW_BYTES
from oomguard.tell.client import ask
from test_tick import cgroups

TICKS, LONG_TICKS = 100_000, 1_000_000
WATCHED_S, LONG_WATCHED_S = 30, 120
TARGETS = 10

# In a process of its own, so that nothing of pytest's is weighed: tick as fast as can be, tell RSS and descriptors
# after a tenth of the ticks and at the end.
GROWTH = """\
import os, sys
from contextlib import ExitStack
from oomguard.decide.plan import TargetPlan
from oomguard.measure import stages
from oomguard.measure.living import weight
from oomguard.measure.stages import Ticking
ticks = int(sys.argv[1])
with ExitStack() as stack:
    plan = stages.load_rules(stages.shipped_pack())._replace(profile=stages.detect_profile())
    targets = [TargetPlan("process", "self"), TargetPlan("system", "system")]
    ticking = Ticking(targets, stages.inputs.model()[0], plan, stack)
    for i in range(ticks):
        if i in (ticks // 10, ticks - 1):
            print(weight(os.getpid()).rss_bytes, len(os.listdir("/proc/self/fd")))
        ticking()
"""


def once(benchmark, function):
    return benchmark.pedantic(function, rounds=1)


def test_weight_beside_a_bare_interpreter(benchmark, figure):
    weighed = once(benchmark, living.footprint)
    assert weighed.scorer == "forest"
    over = (weighed.daemon.rss_bytes - weighed.bare.rss_bytes) / 1e6
    figure("daemon RSS", weighed.daemon.rss_bytes / 1e6, "MB",
           how="one cgroup target, the shipped model, after 30 ticks")
    figure("bare interpreter RSS", weighed.bare.rss_bytes / 1e6, "MB", how="python -I that waits, in the same run")
    figure("daemon RSS over bare", over, "MB", at_most=5)
    figure("daemon PSS", weighed.daemon.pss_bytes / 1e6, "MB")
    figure("bare interpreter PSS", weighed.bare.pss_bytes / 1e6, "MB")
    figure("peak RSS with start-up", weighed.peak_rss_bytes / 1e6, "MB", at_most=48)
    figure("window", WINDOW_BYTES / 1024, "KiB", at_most=32)


def test_start_to_first_forecast(benchmark, figure):
    took = once(benchmark, living.start)
    figure("start to first forecast", took.p50_us / 1000, "ms", at_most=300,
           how="`oomguard run` to the end of the first tick")


def test_status(benchmark, figure):
    took = once(benchmark, living.control_status)
    figure("status over the control socket", took.p50_us, "us", how="connect, ask, parse")


def test_no_growth(benchmark, figure, is_long):
    ticks = LONG_TICKS if is_long else TICKS

    def run():
        return subprocess.check_output([sys.executable, "-c", GROWTH, str(ticks)], text=True)
    early, late = (list(map(int, line.split())) for line in once(benchmark, run).splitlines())
    figure(f"growth over {ticks} ticks", (late[0] - early[0]) / 1024, "KiB", at_most=64,
           how="RSS from a tenth of them on, two targets")
    figure(f"more descriptors after {ticks} ticks", late[1] - early[1], "", at_most=0)


def test_cpu_at_one_hertz(benchmark, figure, is_long):
    watched_s = LONG_WATCHED_S if is_long else WATCHED_S
    with cgroups(TARGETS) as targets, living._folder() as folder:
        more = [word for target in targets[1:] for word in ("--target", f"cgroup:{target.value}")]
        child = subprocess.Popen(living.command(folder, targets[0].value, *more), stderr=subprocess.DEVNULL)
        try:
            socket = f"{folder}/control.sock"
            living.wait_for(lambda: living._samples(socket) >= 2)
            assert len(ask(socket, {"op": "status"})["targets"]) == TARGETS
            before_ns, start_s = cpu_ns(child.pid), time.monotonic()
            once(benchmark, lambda: time.sleep(watched_s))
            share = (cpu_ns(child.pid) - before_ns) / 1e9 / (time.monotonic() - start_s)
        finally:
            child.terminate()
            child.wait()
    figure(f"CPU of one core at 1 Hz, {TARGETS} cgroups", share * 100, "%", at_most=0.05,
           how=f"over {watched_s} s, schedstat; empty groups, which rest: sense/cgroup.py")


def cpu_ns(pid):
    path = Path(f"/proc/{pid}/schedstat")
    if not path.exists():
        pytest.skip("this kernel keeps no schedstat")
    return int(path.read_text().split()[0])
