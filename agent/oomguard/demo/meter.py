"""What an arm uses and how often the kernel killed in it: asked of the kernel, not of oomguard's own sensor."""

from __future__ import annotations

import os
from typing import Protocol

from oomguard.enclosure import Enclosure
from oomguard.sense.files import read_if_there
from oomguard.sense.mounts import cgroups_of, find_hierarchies

_USED = {"v1": ("memory.usage_in_bytes", (b"total_inactive_file", b"total_active_file")),
         "v2": ("memory.current", (b"inactive_file", b"active_file", b"slab_reclaimable"))}


class Meter(Protocol):
    """Reads one arm."""

    def used_bytes(self) -> float | None:
        """Return what is used and cannot be reclaimed, None where the arm is gone."""

    def kills(self) -> int:
        """Return the kernel's OOM kills in it, -1 where it does not count them."""


class EnclosureMeter:
    """The meter of an app in a memory cgroup: all that is charged, but for what the kernel can drop by itself."""

    def __init__(self, enclosure: Enclosure) -> None:
        self.enclosure = enclosure
        self._usage, self._reclaimable = _USED[enclosure.kind]

    def used_bytes(self) -> float | None:
        """Return what is used, None where the cgroup is gone."""
        directory = self.enclosure.directory
        usage = read_if_there(f"{directory}/{self._usage}")
        stat = dict(line.split(b" ", 1) for line in read_if_there(f"{directory}/memory.stat").splitlines())
        if not usage or not stat:
            return None
        return float(int(usage) - sum(int(stat.get(name, b"0")) for name in self._reclaimable))

    def kills(self) -> int:
        """Return the cgroup's oom_kill count; the last one known when it is gone."""
        return self.enclosure.kills()


class ProcessMeter:
    """The meter of an app without a cgroup: its own anonymous, shared and swapped memory."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def used_bytes(self) -> float | None:
        """Return what is used, None where the process is gone."""
        found = [int(line.split()[1]) * 1024 for line in read_if_there(f"/proc/{self._pid}/status").splitlines()
                 if line.startswith((b"RssAnon:", b"RssShmem:", b"VmSwap:"))]
        return float(sum(found)) if found else None

    def kills(self) -> int:
        """Return -1: the kernel counts kills by cgroup."""
        return -1


def meter_of(pid: int, folder: str) -> Meter:
    """Return the meter for a running app: of the enclosure called `folder` if it sits in that one, else its own."""
    hierarchies = find_hierarchies()
    memory, unified = hierarchies.memory, hierarchies.unified
    path, unified_path = cgroups_of(read_if_there(f"/proc/{pid}/cgroup"), hierarchies)
    if memory is None or os.path.basename(path) != folder:      # another's: never to be removed as if it were ours
        return ProcessMeter(pid)
    if hierarchies.version == 2:
        return EnclosureMeter(Enclosure("v2", path, memory.path + path))
    is_beside = unified is not None and os.path.basename(unified_path) == folder
    beside = unified.path + unified_path if unified is not None and is_beside else ""
    return EnclosureMeter(Enclosure("v1", path, memory.path + path, beside))
