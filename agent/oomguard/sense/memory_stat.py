"""What a cgroup's memory.stat says cannot be reclaimed, in both versions of cgroups.

v2: anon + shmem + sock + (kernel - slab_reclaimable) + unevictable file; without `kernel` (before 5.18) its
parts. v1: total_rss + total_shmem + unevictable file; kernel memory is a signal of its own, since v1 does
not split slab (negative dentries alone filled 57 of 64 MB and shrank without a kill: tried). Unevictable
file (mlock, ramfs) is what of `file` is neither shmem nor on an LRU list; it is looked for only where
`unevictable` is not 0, because pages on their way to a list are missing there, too.
"""

from __future__ import annotations

from oomguard.sense.files import KeptFile
from oomguard.sense.sample import NAN, made
from oomguard.typed import NamedTuple

LABELS_V1 = (b"total_rss ", b"total_shmem ", b"total_swap ", b"total_unevictable ", b"total_workingset_refault_anon ",
             b"total_workingset_refault_file ", b"total_pgmajfault ", b"total_cache ", b"total_inactive_file ",
             b"total_active_file ", b"total_workingset_refault ")
LABELS_V2 = (b"anon ", b"kernel ", b"sock ", b"shmem ", b"unevictable ", b"slab_reclaimable ",
             b"workingset_refault_anon ", b"workingset_refault_file ", b"pgmajfault ", b"file ", b"inactive_file ",
             b"active_file ", b"kernel_stack ", b"pagetables ", b"percpu ", b"slab ", b"workingset_refault ")


class Tally(NamedTuple):
    """The sums of one memory.stat, in bytes and cumulative pages or faults. NaN where unknown."""

    used_bytes: float
    kernel_bytes: float         # v2 only
    swap_used_bytes: float      # v1 only
    refaults: float
    major_faults: float


def tally_v1(file: KeptFile) -> Tally:
    """Return the sums of the hierarchical (`total_`) numbers of version 1. Raises OSError."""
    (rss, shmem, swap_used, unevictable, refaults_anon, refaults_file, major_faults,
     cache, inactive, active, refaults_both) = file.numbers(LABELS_V1)
    refaults = refaults_anon + refaults_file
    if shmem != shmem:                                          # before 4.13
        shmem, unevictable = max(0.0, cache - inactive - active), 0.0
    if refaults != refaults:                                    # before 5.9
        refaults = refaults_both
    if unevictable:
        shmem += min(unevictable, max(0.0, cache - shmem - inactive - active))
    return made(Tally, (rss + shmem, NAN, swap_used, refaults, major_faults))


def tally_v2(file: KeptFile) -> Tally:
    """Return the sums of the numbers of version 2, which are hierarchical by themselves. Raises OSError."""
    (anon, kernel, sock, shmem, unevictable, slab_reclaimable, refaults_anon, refaults_file, major_faults,
     cache, inactive, active, *parts, refaults_both) = file.numbers(LABELS_V2)
    refaults = refaults_anon + refaults_file
    if refaults != refaults:                                    # before 5.9
        refaults = refaults_both
    if kernel != kernel and parts[-1] == parts[-1]:             # before 5.18
        kernel = sum(part for part in parts if part == part)    # percpu: 5.9, pagetables: 5.13
    used = anon + shmem + (kernel - slab_reclaimable if kernel == kernel else 0.0)
    if sock == sock:
        used += sock
    if unevictable:
        locked = min(unevictable, cache - shmem - inactive - active)
        if locked > 0:
            used += locked
    return made(Tally, (used, kernel + (sock if sock == sock else 0.0), NAN, refaults, major_faults))
