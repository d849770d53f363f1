"""The checks of `doctor` on what the machine and its kernel give to the guard; docs/kernels.md has them by version."""

from __future__ import annotations

import os
import platform
import time

from oomguard.cli.doctor_findings import FAIL, OK, WARN, Check, Finding, Site
from oomguard.clock import now_s
from oomguard.sense.files import below, read_if_there
from oomguard.sense.machine import Machine
from oomguard.units import format_bytes


def kernel(_site: Site) -> Finding:
    """Look at the kernel, and whether the end of a process can be waited for."""
    release = f"{platform.system()} {platform.release()}"
    loss = "the end of a target is seen only at the next tick"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return Finding("kernel", WARN, f"{release}, without pidfd: {loss}",
                       "use Linux 5.3 or newer; a seccomp filter may also forbid pidfd_open")
    return Finding("kernel", OK, f"{release}, with pidfd")


def clock(_site: Site) -> Finding:
    """Look for the clock that goes on in standby, and whether it moves."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return Finding("clock", WARN, "no CLOCK_BOOTTIME: standby does not show as a gap", "use Linux")
    before_s = now_s()
    time.sleep(0.002)
    if now_s() <= before_s:
        return Finding("clock", FAIL, "CLOCK_BOOTTIME stands still", "look at the machine's clock source")
    return Finding("clock", OK, "CLOCK_BOOTTIME runs")


def memory(site: Site) -> Finding:
    """Look whether the machine's own memory can be read."""
    machine = Machine(site.root)
    try:
        reading = machine.read()
    finally:
        machine.close()
    if reading.available_bytes != reading.available_bytes:
        return Finding("memory", FAIL, f"MemAvailable is unknown: {reading.trouble or 'no /proc/meminfo'}",
                       "mount /proc; in a unit, do not set ProcSubset=pid")
    total = format_bytes(reading.constraint.limit_bytes)
    return Finding("memory", OK, f"{format_bytes(reading.available_bytes)} of {total} available")


def pressure(site: Site) -> Finding:
    """Look for pressure stall information."""
    machine = Machine(site.root)
    has_pressure = machine.has_pressure
    machine.close()
    if has_pressure:
        return Finding("pressure", OK, "the kernel tells of memory pressure (PSI)")
    return Finding("pressure", WARN, "no PSI: pressure_above never holds, and the model sees less",
                   "boot with psi=1 (needs CONFIG_PSI, Linux 4.20 or newer)")


def cgroup(site: Site) -> Finding:
    """Look for the memory controller."""
    found = site.hierarchies()
    if found.version == 2:
        return Finding("cgroup", OK, "version 2 with the memory controller")
    if found.version == 1:
        return Finding("cgroup", OK, "version 1 with the memory controller (it tells less than version 2)")
    return Finding("cgroup", WARN, "no memory controller: only processes and the machine can be guarded",
                   "boot with cgroup_enable=memory (Raspberry Pi OS: in /boot/firmware/cmdline.txt)")


def own_limits(site: Site) -> Finding:
    """Look which limits hold for this very process."""
    machine = Machine(site.root)
    try:
        chain = machine.groups.chain(site.own_cgroup()[1])
        reading = machine.read()
        for group in chain:
            group.read_limits(reading)
        limits = [f"{group.path} {format_bytes(group.limit_bytes)}" for group in chain
                  if group.limit_bytes < float("inf")]
        machine.groups.release(chain)
    finally:
        machine.close()
    if not limits:
        return Finding("own limits", OK, "none here: the machine's memory is what binds")
    return Finding("own limits", OK, ", ".join(limits))


def swap(site: Site) -> Finding:
    """Look what swap can take."""
    table = read_if_there(below(site.root, "/proc/swaps")).decode("utf-8", "replace")
    rows = [line.split() for line in table.splitlines()[1:]]
    devices = [f"{row[0]} {format_bytes(float(row[2]) * 1024)}" for row in rows if len(row) >= 4]
    if not devices:
        return Finding("swap", OK, "none: kills come without a slowdown before them")
    has_zram = any("zram" in device for device in devices)
    kind = "zram counts at its compressed cost" if has_zram else "what is free counts as headroom"
    return Finding("swap", OK, f"{', '.join(devices)}; {kind}")


def reclaim(site: Site) -> Finding:
    """Look for memory.reclaim, which hooks of the kind `reclaim` write to."""
    folder, path = site.own_cgroup()
    file = folder + "/memory.reclaim"
    if site.hierarchies().version != 2:
        return Finding("reclaim", WARN, "reclaim hooks do nothing: memory.reclaim is of cgroup version 2",
                       "use command or signal hooks, or boot with systemd.unified_cgroup_hierarchy=1")
    if path == "/":         # the top group has no such file, its children may
        return Finding("reclaim", OK, "not to be seen from the top cgroup")
    if not os.path.exists(file):
        return Finding("reclaim", WARN, "this kernel has no memory.reclaim", "use Linux 5.19 or newer")
    if not os.access(file, os.W_OK):
        return Finding("reclaim", WARN, "memory.reclaim may not be written",
                       "run the hooks as root, or in a unit with Delegate=memory")
    return Finding("reclaim", OK, "memory.reclaim may be used")


def make_cgroup(site: Site) -> Finding:
    """Try to make a cgroup, as `exec` does for an app of several processes."""
    folder, _path = site.own_cgroup()
    loss = "`exec` guards the process alone, not its children"
    if not folder:
        return Finding("make cgroup", WARN, f"there is none to make one in: {loss}", "see cgroup")
    made = f"{folder}/oomguard-doctor-{os.getpid()}"
    try:
        os.mkdir(made)
        os.rmdir(made)
    except OSError as error:
        return Finding("make cgroup", WARN, f"{error.strerror}: {loss}",
                       "run as root, or in a unit with Delegate=memory")
    return Finding("make cgroup", OK, f"allowed below {folder}")


def kill_count(site: Site) -> Finding:
    """Look whether the kernel counts those it kills: else a kill is told from an exit by its signal alone."""
    folder, _path = site.own_cgroup()
    files = {"memory.events": 2, "memory.oom_control": 1}
    where = [f"{folder}/{name}" for name, version in files.items() if folder and site.hierarchies().version == version]
    counting = [path for path in (*where, below(site.root, "/proc/vmstat"))
                if b"\noom_kill " in b"\n" + read_if_there(path)]
    if not counting:
        return Finding("kill count", WARN, "the kernel does not count its kills: a run that ended so is recorded as"
                       " killed by a signal, and one of several processes that is killed is not seen",
                       "use Linux 4.13 or newer")
    return Finding("kill count", OK, f"kills are counted in {os.path.basename(counting[0])}")


NUMBERS = {     # of a cgroup's memory.stat, by version: what the guard does without them (sense/memory_stat.py)
    2: ((b"kernel ", "5.18", "kernel memory is the sum of its parts"),
        (b"workingset_refault_anon ", "5.9", "refaults of files and of swap are one number")),
    1: ((b"total_shmem ", "4.13", "shared memory is worked out from what is on no list"),
        (b"total_workingset_refault_anon ", "5.9", "refaults of files and of swap are one number")),
}


def numbers(site: Site) -> Finding:
    """Look which numbers of a cgroup this kernel leaves out."""
    folder, _path = site.own_cgroup()
    text = b"\n" + read_if_there(f"{folder}/memory.stat") if folder else b""
    if len(text) <= 1:
        return Finding("numbers", OK, "no cgroup's memory.stat to be seen from here")
    missing = [(since, what) for name, since, what in NUMBERS.get(site.hierarchies().version, ())
               if b"\n" + name not in text]
    if not missing:
        return Finding("numbers", OK, "memory.stat has every number the guard uses")
    newest = max((since for since, _what in missing), key=lambda since: [int(part) for part in since.split(".")])
    return Finding("numbers", WARN, f"memory.stat is an older kernel's: {'; '.join(what for _since, what in missing)}",
                   f"nothing needs to be done; Linux {newest} or newer has them")


MACHINE_CHECKS: tuple[Check, ...] = (
    kernel, clock, memory, pressure, cgroup, own_limits, swap, reclaim, make_cgroup, kill_count, numbers)
