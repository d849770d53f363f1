"""A fake /proc and /sys below a folder, built by what they tell, for kernels and machines we do not have."""

from __future__ import annotations

import os
from pathlib import Path

from oomguard.sense.machine import Machine
from oomguard.sense.sample import Sample
from oomguard.sense.sensor import Sensor

MIB = 1 << 20
NAN = float("nan")
V1_UNLIMITED = 9223372036854771712
MOUNTINFO = {
    1: "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
       "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"
       "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n",
    2: "24 23 0:28 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
}
MEMORY_MOUNT = {1: "/sys/fs/cgroup/memory", 2: "/sys/fs/cgroup"}


class FakeTree:
    """The tree. Every method writes in place, so that descriptors kept on a file see the new text."""

    def __init__(self, folder: Path, version: int = 1, top: str = "/") -> None:
        """Make a machine of 1000 MiB, 800 of them available, without swap, with the given cgroup version."""
        self.root, self.version = str(folder), version
        self.file("/proc/sys/kernel/random/boot_id", "boot\n")
        self.file("/proc/sys/vm/swappiness", "60\n")
        self.file("/proc/self/mountinfo", "23 1 0:2 / / rw - ext4 /dev/vda rw\n" + MOUNTINFO[version].format(top=top))
        self.meminfo()
        self.pressure("/proc/pressure/memory", 0, 0)
        if version == 2:
            self.file("/sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n")
            self.file("/sys/fs/cgroup/cgroup.procs", "")
        else:
            self.file("/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n")
            self.folder("/sys/fs/cgroup/systemd")

    def path(self, path: str) -> str:
        """Return where a path of the tree really is."""
        return self.root + path

    def folder(self, path: str) -> None:
        """Make a folder and all above it."""
        os.makedirs(self.path(path), exist_ok=True)

    def file(self, path: str, text: str) -> None:
        """Write a file in place, its folder made if need be."""
        self.folder(os.path.dirname(path))
        with open(self.path(path), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(self.path(path))

    def meminfo(self, total: float = 1000, available: float = 800, free: float = 500, swap_total: float = 0,
                swap_free: float = 0) -> None:
        """Write /proc/meminfo, in MiB."""
        rows = {"MemTotal": total, "MemFree": free, "MemAvailable": available, "Buffers": 1, "Cached": 300,
                "SwapCached": 0, "SwapTotal": swap_total, "SwapFree": swap_free, "Dirty": 0}
        self.file("/proc/meminfo", "".join(f"{name + ':':<16}{int(mib * 1024):>8} kB\n" for name, mib in rows.items()))

    def pressure(self, path: str, some_us: int, full_us: int) -> None:
        """Write a pressure file."""
        self.file(path, f"some avg10=0.00 avg60=0.00 avg300=0.00 total={some_us}\n"
                        f"full avg10=0.00 avg60=0.00 avg300=0.00 total={full_us}\n")

    def swaps(self, *rows: tuple[str, float, float]) -> None:
        """Write /proc/swaps: path, size and used in MiB."""
        lines = [f"{path}\tpartition\t{int(size * 1024)}\t{int(used * 1024)}\t-2\n" for path, size, used in rows]
        self.file("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" + "".join(lines))

    def zram(self, name: str, stored: float, compressed: float, limit: float = 0) -> None:
        """Write a zram device's mm_stat, in MiB."""
        numbers = [int(mib * MIB) for mib in (stored, compressed, compressed, limit, compressed)]
        self.file(f"/sys/block/{name}/mm_stat", " ".join(f"{number:8}" for number in [*numbers, 0, 0, 0, 0]) + "\n")

    def cgroup(self, path: str, limit: float | None = None, *, anon: float = 0, shmem: float = 0, file: float = 0,
               locked: float = 0, kernel: float = 0, slab_reclaimable: float = 0, sock: float = 0, swap: float = 0,
               swap_limit: float | None = None, kills: int = 0, refaults: int = 0, faults: int = 0) -> None:
        """Write a memory cgroup of the tree's version, in MiB; `locked` is of the file pages. None: no limit."""
        sizes = {name: int(mib * MIB) for name, mib in (
            ("anon", anon), ("shmem", shmem), ("file", file), ("locked", locked), ("kernel", kernel),
            ("slab_reclaimable", slab_reclaimable), ("sock", sock), ("swap", swap))}
        folder = MEMORY_MOUNT[self.version] + path.rstrip("/")
        self.folder(folder)
        if not os.path.exists(self.path(folder + "/cgroup.procs")):
            self.file(folder + "/cgroup.procs", "")
        (self._cgroup_v1 if self.version == 1 else self._cgroup_v2)(
            folder, sizes, limit, swap_limit, (kills, refaults, faults))

    def _cgroup_v1(self, folder: str, sizes: dict[str, int], limit: float | None, swap_limit: float | None,
                   counts: tuple[int, int, int]) -> None:
        kills, refaults, faults = counts
        cache = sizes["file"] + sizes["shmem"]
        total = {"cache": cache, "rss": sizes["anon"], "shmem": sizes["shmem"], "swap": sizes["swap"],
                 "workingset_refault_anon": 0, "workingset_refault_file": refaults, "pgmajfault": faults,
                 "inactive_anon": 0, "active_anon": sizes["anon"] + sizes["shmem"], "inactive_file": 0,
                 "active_file": sizes["file"] - sizes["locked"], "unevictable": sizes["locked"]}
        stat = "".join(f"{name} 1\n" for name in total) + f"hierarchical_memory_limit {V1_UNLIMITED}\n"
        self.file(folder + "/memory.stat", stat + "".join(f"total_{name} {size}\n" for name, size in total.items()))
        limit_bytes = V1_UNLIMITED if limit is None else int(limit * MIB)
        memsw_bytes = V1_UNLIMITED if swap_limit is None else int(swap_limit * MIB)
        usage = cache + sizes["anon"] + sizes["kernel"]
        self.file(folder + "/memory.limit_in_bytes", f"{limit_bytes}\n")
        self.file(folder + "/memory.memsw.limit_in_bytes", f"{memsw_bytes}\n")
        self.file(folder + "/memory.usage_in_bytes", f"{usage}\n")
        self.file(folder + "/memory.kmem.usage_in_bytes", f"{sizes['kernel']}\n")
        self.file(folder + "/memory.swappiness", "60\n")
        self.file(folder + "/memory.use_hierarchy", "1\n")
        self.file(folder + "/memory.oom_control", f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")

    def _cgroup_v2(self, folder: str, sizes: dict[str, int], limit: float | None, swap_limit: float | None,
                   counts: tuple[int, int, int]) -> None:
        kills, refaults, faults = counts
        file = sizes["file"] + sizes["shmem"]
        self.file(folder + "/memory.stat", "".join(f"{name} {size}\n" for name, size in (
            ("anon", sizes["anon"]), ("file", file), ("kernel", sizes["kernel"]), ("kernel_stack", 0),
            ("pagetables", 0), ("percpu", 0), ("sock", sizes["sock"]), ("shmem", sizes["shmem"]),
            ("inactive_anon", 0), ("active_anon", sizes["anon"] + sizes["shmem"]), ("inactive_file", 0),
            ("active_file", sizes["file"] - sizes["locked"]), ("unevictable", sizes["locked"]),
            ("slab_reclaimable", sizes["slab_reclaimable"]), ("slab", sizes["kernel"]),
            ("workingset_refault_anon", 0), ("workingset_refault_file", refaults), ("pgmajfault", faults))))
        self.file(folder + "/memory.current", f"{sizes['anon'] + file + sizes['kernel'] + sizes['sock']}\n")
        self.file(folder + "/memory.max", "max\n" if limit is None else f"{int(limit * MIB)}\n")
        self.file(folder + "/memory.swap.max", "max\n" if swap_limit is None else f"{int(swap_limit * MIB)}\n")
        self.file(folder + "/memory.swap.current", f"{sizes['swap']}\n")
        self.file(folder + "/memory.events", f"low 0\nhigh 0\nmax 9\noom 4\noom_kill {kills}\noom_group_kill 0\n")
        self.file(folder + "/cgroup.type", "domain\n")
        self.pressure(folder + "/memory.pressure", 1000, 500)

    def process(self, pid: int, *, comm: str = "app", start: int = 5000, cgroup: str = "/", anon: float = 10,
                shmem: float = 0, swap: float = 0, faults: int = 3, state: str = "S", threads: int = 1,
                argv: tuple[str, ...] = ("/usr/bin/app",), unified: str = "/") -> None:
        """Write a process, in MiB, sitting in a memory cgroup."""
        words = [state, "1", "1", "1", "0", "-1", "4194560", "9", "0", str(faults), "0", "1", "1", "0", "0", "20", "0",
                 str(threads), "0", str(start), "3000", "500"]
        folder = f"/proc/{pid}"
        self.file(folder + "/stat", f"{pid} ({comm}) {' '.join(words)}\n")
        self.file(folder + "/comm", comm + "\n")
        self.file(folder + "/cmdline", "\0".join(argv) + "\0")
        memory = "" if state == "Z" else "".join(f"{name + ':':<10}{int(mib * 1024):>8} kB\n" for name, mib in (
            ("VmRSS", anon + shmem + 5), ("RssAnon", anon), ("RssFile", 5), ("RssShmem", shmem), ("VmSwap", swap)))
        self.file(folder + "/status", f"Name:\t{comm}\nState:\t{state}\nGroups:\t \n{memory}Threads:\t{threads}\n")
        self.file(folder + "/cgroup", f"4:memory:{cgroup}\n0::{unified}\n" if self.version == 1 else f"0::{cgroup}\n")


def tick(sensor: Sensor, machine: Machine, t_s: float = 0.0) -> Sample:
    """Read the machine and the target once."""
    return sensor.read(t_s, 0.0, machine.read(), NAN, None)
