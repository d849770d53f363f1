"""The whole tick, one target and a thousand of them, over real sensors and window files."""

from __future__ import annotations

import resource
import subprocess
import time
from contextlib import ExitStack, contextmanager

import pytest

from oomguard.decide.plan import TargetPlan
from oomguard.enclosure import Enclosure
from oomguard.errors import OomguardError
from oomguard.measure import stages

COUNTS = (1, 10, 100, 1000)
DESCRIPTORS = 16_384        # nine a cgroup and one a window, with room


@pytest.fixture(scope="module", autouse=True)
def descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def cgroups(count):
    with ExitStack() as stack:
        made = [_cgroup(f"scale{i}", stack) for i in range(count)]
        yield [TargetPlan(f"t{i}", "cgroup", each.path) for i, each in enumerate(made)]


def _cgroup(name, stack):
    try:
        made = Enclosure.make(name, 256 << 20)
    except OomguardError as error:
        pytest.skip(str(error))
    stack.callback(made.remove, kill=True)
    return made


@contextmanager
def processes(count):
    made = [subprocess.Popen(["sleep", "600"]) for _ in range(count)]
    try:
        yield [TargetPlan(f"t{i}", "pid", str(each.pid)) for i, each in enumerate(made)]
    finally:
        for each in made:
            each.kill()
        for each in made:
            each.wait()


@pytest.mark.parametrize("kind", ["process", "cgroup", "system"])
def test_one_target(kind, bench, benchmark, figure):
    took = stages.STAGES[f"tick_{kind}"](bench)
    budget = kind == "cgroup"
    how = "the machine's reading included; quiet; 20 000 ticks in a row"
    figure(f"tick of one {kind}, p50", took.p50_us, "us", at_most=20 if budget else None, how=how)
    figure(f"tick of one {kind}, p99", took.p99_us, "us", at_most=60 if budget else None)
    benchmark.pedantic(lambda: None, rounds=1)      # measured by itself: quantiles of single ticks


@pytest.mark.parametrize("many", [processes, cgroups])
def test_many_targets(many, bench, benchmark, figure):
    kind = "process" if many is processes else "cgroup"
    each_us = {}
    with many(COUNTS[-1]) as targets:
        for count in COUNTS:
            with ExitStack() as stack:
                ticking = stages.Ticking(targets[:count], bench.model, bench.plan, stack)
                each_us[count] = median_us(ticking, max(15, 2000 // count)) / count
                if many is cgroups and count == COUNTS[-1]:
                    awake_us = median_us(kept_awake(ticking), 15) / count
                    figure(f"tick per {kind} target at {count}, none at rest", awake_us, "us",
                           how="every group's memory.stat at every tick, as where all of them are at work")
        benchmark.pedantic(lambda: None, rounds=1)
    how = "empty groups, which rest: sense/cgroup.py" if many is cgroups else ""
    for count, took_us in each_us.items():
        budget_us = 15 if count == COUNTS[-1] else None
        figure(f"tick per {kind} target at {count}", took_us, "us", at_most=budget_us, how=how)
    figure(f"{kind} targets: cost each at 1000 / at 100", each_us[1000] / each_us[100], "x", at_most=1.5,
           how="linear: about 1")


def kept_awake(ticking):
    """Let no group rest from now on."""
    for guard in ticking.guards.by_name.values():
        guard.sensor._own.may_rest = False
    return ticking


def median_us(function, rounds):
    took = []
    for _ in range(rounds + 5):
        start_ns = time.perf_counter_ns()
        function()
        took.append(time.perf_counter_ns() - start_ns)
    return sorted(took[5:])[rounds // 2] / 1000
