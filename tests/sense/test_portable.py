"""psutil's readings against our own, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from faketree import MIB, NAN

from oomguard.decide.plan import TargetPlan
from oomguard.errors import TargetGoneError, UsageError
from oomguard.profile import Profile
from oomguard.sense.machine import open_machine
from oomguard.sense.portable import pids_called
from oomguard.sense.procfs import Process
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import Found, resolve


def test_the_machine_reads_alike() -> None:
    """The same limit, and headroom within 64 MiB a moment later."""
    ours, theirs = open_machine().read().constraint, open_machine(is_portable=True).read().constraint
    assert theirs.limit_bytes == ours.limit_bytes
    assert abs(theirs.headroom_bytes - ours.headroom_bytes) < 64 * MIB


def test_a_process_reads_alike(eater: object) -> None:
    """Against the profile's limit, a child's memory agrees but for its mapped files (below 32 MiB)."""
    child = eater()
    assert child.take("anon", 16 * MIB)
    assert child.take("shmem", 8 * MIB)
    profile = Profile(limit_bytes=256.0 * MIB)
    found = resolve(TargetPlan("x", "pid", str(child.pid)))
    samples = []
    for is_portable in (False, True):
        machine = open_machine(is_portable=is_portable)
        sensor = open_sensor(found, machine, profile)
        samples.append(sensor.read(0.0, 0.0, machine.read(), NAN, "menu"))
        assert sensor.constraints()[0].name == "profile"
        sensor.close()
    ours, theirs = samples
    assert (ours.constraint, theirs.constraint, theirs.phase) == ("profile", "profile", "menu")
    assert 0 <= theirs.used_bytes - ours.used_bytes < 32 * MIB
    assert ours.used_bytes > 24 * MIB


def test_the_end_is_noticed(eater: object) -> None:
    """A process that ended is gone, reaped or not."""
    child = eater()
    machine = open_machine(is_portable=True)
    sensor = open_sensor(Found("process", child.pid, "", "x"), machine, Profile())
    sensor.read(0.0, 0.0, machine.read(), NAN, None)
    assert (sensor.pids(), sensor.kills(), sensor.end_fd) == ((child.pid,), -1, -1)
    child.end()
    with pytest.raises(TargetGoneError):
        sensor.read(1.0, 0.0, machine.read(), NAN, None)


def test_what_it_cannot_read() -> None:
    """Cgroups need Linux's own readings; a pid nobody has is gone."""
    machine = open_machine(is_portable=True)
    with pytest.raises(UsageError):
        open_sensor(Found("cgroup", 0, "/app", "/app"), machine, Profile())
    with pytest.raises(TargetGoneError):
        open_sensor(Found("process", 4194304, "", "x"), machine, Profile())


def test_the_system_reads_alike() -> None:
    """The machine is its only constraint."""
    machine = open_machine(is_portable=True)
    sensor = open_sensor(Found("system", 0, "", "system"), machine, Profile(limit_bytes=1.0))
    assert sensor.read(0.0, 0.0, machine.read(), NAN, None).constraint == "machine"


def test_processes_are_found_by_name(eater: object) -> None:
    """Both ways of looking find the same child by its program, and neither finds what is not there."""
    child = eater()
    assert child.pid in [pid for _start, pid in pids_called(sys.executable)]
    assert pids_called("no-such-program-anywhere") == []
    assert Process(child.pid).start_ticks > 0


def test_identities_differ(eater: object) -> None:
    """Two processes are two runs."""
    machine = open_machine(is_portable=True)
    one, two = (open_sensor(Found("process", eater().pid, "", "x"), machine, Profile()) for _n in range(2))
    assert one.identity != two.identity


def test_the_devices_path_stays_cheap() -> None:
    """Reading on Linux imports neither psutil nor what costs memory (dataclasses, subprocess, threading …)."""
    program = ("import sys; from oomguard.decide.plan import TargetPlan; from oomguard.profile import Profile\n"
               "from oomguard.sense.machine import open_machine; from oomguard.sense.sensor import open_sensor\n"
               "from oomguard.sense.target import resolve; import oomguard.sense.facts\n"
               "m = open_machine(); s = open_sensor(resolve(TargetPlan('x', 'self')), m, Profile())\n"
               "s.read(0.0, 0.0, m.read(), 0.0, None); s.constraints(); s.kills()\n"
               "dear = {'psutil', 'dataclasses', 'inspect', 'logging', 'argparse', 'subprocess', 'threading',"
               " 'selectors', 'pathlib', 'asyncio', 'numpy', 'yaml', 'msgspec', 'ctypes'}\n"
               "print(sorted(dear & set(sys.modules)))")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
