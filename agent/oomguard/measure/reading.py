"""Stages of sensing: one sample of each source, by kept descriptors, and by psutil as other systems read it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

from oomguard.measure.stages import TICKS, Bench, SkippedError, Stage, inhabited_cgroup
from oomguard.measure.timing import Figures, time_each
from oomguard.sense.machine import Machine, open_machine
from oomguard.sense.sample import NAN
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import Found

PSUTIL_TIMES_FEWER = 5


def sample_machine(bench: Bench) -> Figures:
    """The machine alone, once a tick for all targets: memory, swap and pressure."""
    machine = Machine()
    try:
        return time_each(lambda: (machine.read(), machine.pressure()), [()], TICKS // bench.quick)
    finally:
        machine.close()


def sample_process(bench: Bench) -> Figures:
    """One process and all constraints above it; the machine's reading is there already."""
    return _sample(bench, Found("process", os.getpid(), "", "self"))


def sample_cgroup(bench: Bench) -> Figures:
    """One cgroup and those above it."""
    with inhabited_cgroup() as path:
        return _sample(bench, Found("cgroup", 0, path, "bench"))


def sample_system(bench: Bench) -> Figures:
    """The whole system as a target: what is made of the machine's reading."""
    return _sample(bench, Found("system", 0, "", "system"))


def sample_psutil(bench: Bench) -> Figures:
    """One process by psutil, as on systems that are not Linux; the machine's reading is there already."""
    try:
        import psutil  # noqa: F401  what the portable sensor reads with
    except ImportError:
        raise SkippedError("psutil is not installed") from None
    return _sample(bench, Found("process", os.getpid(), "", "self"), is_portable=True)


def _sample(bench: Bench, found: Found, *, is_portable: bool = False) -> Figures:
    with ExitStack() as stack:
        machine = open_machine(is_portable=is_portable)
        stack.callback(machine.close)
        sensor = open_sensor(found, machine, bench.plan.profile)
        stack.callback(sensor.close)
        reading = machine.read()
        read: Callable[[], object] = lambda: sensor.read(1.0, 0.0, reading, NAN, None)  # noqa: E731
        return time_each(read, [()], TICKS // bench.quick // (PSUTIL_TIMES_FEWER if is_portable else 1))


STAGES: dict[str, Stage] = {
    "sample_machine": sample_machine, "sample_process": sample_process, "sample_cgroup": sample_cgroup,
    "sample_system": sample_system, "sample_psutil": sample_psutil}
