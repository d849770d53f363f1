"""What figures depend on, beside the code: the machine, how fast its cores run now, and who else is at work."""

from __future__ import annotations

import glob
import os
import platform

from oomguard._version import __version__
from oomguard.kernel import HAS_KERNEL
from oomguard.measure.timing import clock_us
from oomguard.sense.files import read_if_there

CACHES = "/sys/devices/system/cpu/cpu0/cache/index*"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def this_machine(model: str) -> dict[str, object]:
    """Return what figures depend on, the load of others included. Unknown words are empty, unknown numbers null."""
    return {"cpu": _in_cpuinfo("model name", "Hardware") or platform.processor() or "unknown",
            "cores": os.cpu_count(), "architecture": platform.machine(),
            "mhz": _mhz(), "governor": _word(GOVERNOR), "caches": _caches(), "is_virtual": _is_virtual(),
            "ram_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": platform.release(), "libc": "-".join(platform.libc_ver()), "python": platform.python_version(),
            "oomguard": __version__, "model": model, "scorer": "kernel" if HAS_KERNEL else "reference",
            "clock_us": clock_us(), "load_average": round(os.getloadavg()[0], 2)}


def _mhz() -> float | None:
    """Return the first core's frequency now, as cpufreq or else /proc/cpuinfo (in a guest: the host's) says."""
    khz = _word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    if khz.isdigit():
        return int(khz) / 1000
    said = _in_cpuinfo("cpu MHz")
    return float(said) if said else None


def _caches() -> str:
    """Return what the first core sees, nearest first: `L1d 48K, L1i 64K, L2 2048K, L3 491520K`."""
    found = []
    for folder in sorted(glob.glob(CACHES)):
        kind = {"Data": "d", "Instruction": "i"}.get(_word(f"{folder}/type"), "")
        found.append(f"L{_word(f'{folder}/level')}{kind} {_word(f'{folder}/size')}")
    return ", ".join(found)


def _is_virtual() -> bool:
    return "hypervisor" in _in_cpuinfo("flags").split()


def _in_cpuinfo(*names: str) -> str:
    for line in read_if_there("/proc/cpuinfo").decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def _word(path: str) -> str:
    return read_if_there(path).decode("ascii", "replace").strip()
