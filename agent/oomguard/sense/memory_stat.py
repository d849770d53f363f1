"""What a cgroup's memory.stat says cannot be reclaimed, in both versions of cgroups.

v2: anon + shmem + sock + (kernel - slab_reclaimable) + unevictable file; without `kernel` (before 5.18) its
parts. v1: total_rss + total_shmem + unevictable file; kernel memory is a signal of its own, since v1 does
not split slab (negative dentries alone filled 57 of 64 MB and shrank without a kill: tried). Unevictable
file (mlock, ramfs) is what of `file` is neither shmem nor on an LRU list; it is looked for only where
`unevictable` is not 0, because pages on their way to a list are missing there, too.
"""

from __future__ import annotations

from oomguard.sense.fields import Fields
from oomguard.typed import NamedTuple


class Tally(NamedTuple):
    """The sums of one memory.stat, in bytes and cumulative pages or faults. NaN where unknown."""

    used_bytes: float
    kernel_bytes: float         # v2 only
    swap_used_bytes: float      # v1 only
    refaults: float
    major_faults: float


class StatV1:
    """Take the hierarchical (`total_`) numbers of version 1."""

    __slots__ = ("_fields", "_files")

    def __init__(self) -> None:
        self._fields = Fields((b"total_rss ", b"total_shmem ", b"total_swap ", b"total_unevictable ",
                               b"total_workingset_refault_anon ", b"total_workingset_refault_file ",
                               b"total_pgmajfault "))
        self._files = Fields((b"total_cache ", b"total_inactive_file ", b"total_active_file ",
                              b"total_workingset_refault "))

    def take(self, text: bytes) -> Tally:
        """Return the sums of one text."""
        (rss, shmem, swap_used, unevictable,
         refaults_anon, refaults_file, major_faults) = self._fields.take(text)
        refaults = refaults_anon + refaults_file
        if unevictable or shmem != shmem or refaults != refaults:       # memory locked, or an old kernel
            cache, inactive, active, refaults_both = self._files.take(text)
            if shmem != shmem:                                          # before 4.13
                shmem, unevictable = max(0.0, cache - inactive - active), 0.0
            if refaults != refaults:                                    # before 5.9
                refaults = refaults_both
            if unevictable:
                shmem += min(unevictable, max(0.0, cache - shmem - inactive - active))
        return Tally(rss + shmem, float("nan"), swap_used, refaults, major_faults)


class StatV2:
    """Take the numbers of version 2, which are hierarchical by themselves."""

    __slots__ = ("_fields", "_files", "_parts")

    def __init__(self) -> None:
        self._fields = Fields((b"anon ", b"kernel ", b"sock ", b"shmem ", b"unevictable ",
                               b"slab_reclaimable ", b"workingset_refault_anon ", b"workingset_refault_file ",
                               b"pgmajfault "))
        self._files = Fields((b"file ", b"inactive_file ", b"active_file "))
        self._parts = Fields((b"kernel_stack ", b"pagetables ", b"percpu ", b"slab ",
                              b"workingset_refault "))

    def take(self, text: bytes) -> Tally:
        """Return the sums of one text."""
        (anon, kernel, sock, shmem, unevictable, slab_reclaimable,
         refaults_anon, refaults_file, major_faults) = self._fields.take(text)
        refaults = refaults_anon + refaults_file
        if kernel != kernel or refaults != refaults:
            *parts, refaults_both = self._parts.take(text)
            if kernel != kernel and parts[-1] == parts[-1]:
                kernel = sum(part for part in parts if part == part)    # percpu: 5.9, pagetables: 5.13
            if refaults != refaults:
                refaults = refaults_both
        used = anon + shmem + (kernel - slab_reclaimable if kernel == kernel else 0.0)
        if sock == sock:
            used += sock
        if unevictable:
            file, inactive, active = self._files.take(text)
            locked = min(unevictable, file - shmem - inactive - active)
            if locked > 0:
                used += locked
        return Tally(used, kernel + (sock if sock == sock else 0.0), float("nan"), refaults, major_faults)
