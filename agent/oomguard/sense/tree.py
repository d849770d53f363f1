"""The folders of a cgroup tree: what hangs below a group, and who is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from oomguard.sense.files import read_if_there

GROUPS_MOST = 20_000        # looked at when a unit or a tree's processes are looked for: no tree is endless
PIDS_MOST_BYTES = 1 << 20   # of one cgroup.procs


def children(directory: str) -> list[str]:
    """Return the groups right below a cgroup's folder, none where it is gone."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def walk(directory: str) -> Iterator[str]:
    """Yield a group's folder and all below it, those nearest to it first."""
    waiting, seen = [directory], 0
    while waiting and seen < GROUPS_MOST:
        below: list[str] = []
        for each in waiting:
            yield each
            seen += 1
            below += children(each)
        waiting = below


def pids_in(directory: str) -> tuple[int, ...]:
    """Return the processes of a group and of all groups below it."""
    found = []
    for each in walk(directory):
        words = read_if_there(each + "/cgroup.procs", PIDS_MOST_BYTES).split()
        found += [int(word) for word in words if word.isdigit()]
    return tuple(found)
