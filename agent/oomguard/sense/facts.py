"""Static facts of this machine: its profile, and which senses its kernel gives us."""

from __future__ import annotations

import os
from typing import NamedTuple

from oomguard.profile import NAN, Profile
from oomguard.sense.ends import open_end_fd
from oomguard.sense.fields import numbers_in
from oomguard.sense.files import below, read_if_there
from oomguard.sense.mounts import find_hierarchies
from oomguard.sense.psi import open_system_pressure


class Senses(NamedTuple):
    """What can be read here. What is not there is lost, and `doctor` says so."""

    cgroup_version: int         # 2, 1, or 0: no memory cgroups
    has_pressure: bool          # /proc/pressure/memory: Linux 4.20, not started with psi=0
    has_pidfd: bool             # the end of a process wakes us: Linux 5.3
    has_available: bool         # MemAvailable: Linux 3.14
    swap_bytes: float
    zram_devices: tuple[str, ...]
    has_arc: bool               # ZFS, whose cache MemAvailable does not know


def detect_profile(root: str = "/") -> Profile:
    """Return the profile of this machine. Its type stays `generic`: only its owner can name it."""
    ram_bytes, swap_bytes, _available = _meminfo(root)
    return Profile(ram_bytes=ram_bytes, swap_bytes=swap_bytes, cores=_cores(root))


def detect_senses(root: str = "/") -> Senses:
    """Return what this machine's kernel can tell us."""
    pressure = open_system_pressure(root)
    if pressure is not None:
        pressure.close()
    _ram_bytes, swap_bytes, available_bytes = _meminfo(root)
    swaps = read_if_there(below(root, "/proc/swaps")).decode("utf-8", "replace").splitlines()[1:]
    names = [line.split()[0].rpartition("/")[2] for line in swaps if line.strip()]
    return Senses(find_hierarchies(root).version, pressure is not None, _has_pidfd(),
                  available_bytes == available_bytes, swap_bytes,
                  tuple(name for name in names if name.startswith("zram")),
                  os.path.exists(below(root, "/proc/spl/kstat/zfs/arcstats")))


def _meminfo(root: str) -> tuple[float, float, float]:
    text = read_if_there(below(root, "/proc/meminfo"))
    ram, swap, available = numbers_in(text, (b"MemTotal:", b"SwapTotal:", b"MemAvailable:"))
    return ram * 1024, swap * 1024, available * 1024


def _cores(root: str) -> float:
    """Return the cores that are online, from the kernel's list: `0-3,6`."""
    cores = 0
    for part in read_if_there(below(root, "/sys/devices/system/cpu/online"), 4096).strip().split(b","):
        first, _dash, last = part.partition(b"-")
        if not first.isdigit() or (last and not last.isdigit()):
            return float(os.cpu_count() or NAN) if root == "/" else NAN
        cores += int(last or first) - int(first) + 1
    return float(cores)


def _has_pidfd() -> bool:
    """Return whether the kernel gives a pidfd: asked for our own."""
    fd = open_end_fd(os.getpid())
    if fd >= 0:
        os.close(fd)
    return fd >= 0
