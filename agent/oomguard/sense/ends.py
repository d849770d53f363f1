"""How a run ends: a descriptor that wakes us, and the kernel's own count of those it killed."""

from __future__ import annotations

import os

from oomguard.sense.files import KeptFile, below, open_if_there
from oomguard.sense.tree import children
from oomguard.typed import Protocol

OOM_KILL = (b"oom_kill ",)
LOOKED_AT_ONCE = 16         # cgroups of a v1 tree per call; larger trees take several calls


def open_end_fd(pid: int) -> int:
    """Return a pidfd, readable once the process has ended; -1 before Linux 5.3 or where it is forbidden."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


class KillCount(Protocol):
    """A count of kernel OOM kills that never goes down."""

    def read(self) -> int:
        """Return the kills so far, -1 where the kernel does not tell."""

    def close(self) -> None:
        """Give the descriptors back."""


class FileCount:
    """The count that one file keeps.

    v2 memory.events counts for the whole tree, v1 memory.oom_control for that group alone, and /proc/vmstat
    for the machine (9 us: on quiet ticks notes.py asks every 5 s only).
    """

    __slots__ = ("_file", "_kills")

    def __init__(self, path: str) -> None:
        self._file = open_if_there(path, 16384)
        self._kills = -1

    def read(self) -> int:
        """Return the kills so far; the last known number when the group is gone, -1 where there is none."""
        if self._file is not None:
            try:
                self._kills = max(self._kills, _oom_kills(self._file))
            except OSError:
                return self._kills
        return self._kills

    def close(self) -> None:
        """Give the descriptor back."""
        if self._file is not None:
            self._file.close()


def _oom_kills(file: KeptFile) -> int:
    """Return the number on the line `oom_kill N`, -1 where there is none (before Linux 4.13). Raises OSError."""
    (kills,) = file.numbers(OOM_KILL)
    return int(kills) if kills == kills else -1


class _Branch:
    """One cgroup of a v1 tree: its own kills, and how many links its folder had when it was last searched."""

    __slots__ = ("directory", "file", "kills", "links")

    def __init__(self, directory: str, file: KeptFile) -> None:
        self.directory, self.file = directory, file
        self.kills = 0
        self.links = -1


class TreeCount:
    """The count over a v1 tree, where the kernel counts in the victim's own group only.

    A group's count is lost with the group, so what was seen of it is kept here. Each call looks at a few
    groups, in turn, and searches those whose number of links says that groups came or went below: 2.6 us
    for a lone group, and never more than some 40 us. Kills in a group that comes and goes between two looks
    are missed.
    """

    __slots__ = ("_branches", "_is_told", "_kills", "_next")

    def __init__(self, directory: str) -> None:
        self._kills = self._next = 0
        self._is_told = False
        self._branches: list[_Branch] = []
        self._add(directory)
        seen = 0
        while seen < len(self._branches):       # looking at one may add those below it
            self._look(self._branches[seen])
            seen += 1

    def _add(self, directory: str) -> None:
        file = open_if_there(directory + "/memory.oom_control", 128)
        if file is not None:
            self._branches.append(_Branch(directory, file))

    def read(self) -> int:
        """Return the kills seen so far in the whole tree; -1 before Linux 4.13, or where there is no tree."""
        for _turn in range(min(LOOKED_AT_ONCE, len(self._branches))):
            self._next = (self._next + 1) % len(self._branches)
            branch = self._branches[self._next]
            if not self._look(branch):
                self._drop(branch)
                if not self._branches:
                    break
        return self._kills if self._is_told else -1

    def _look(self, branch: _Branch) -> bool:
        """Count one group's new kills, search it where its links changed, return whether it still is."""
        try:
            kills = _oom_kills(branch.file)
            links = os.stat(branch.directory).st_nlink
        except OSError:
            return False
        self._is_told = self._is_told or kills >= 0
        if kills > branch.kills:
            self._kills += kills - branch.kills
            branch.kills = kills
        if links != branch.links:
            branch.links = links
            self._search(branch.directory)
        return True

    def _search(self, directory: str) -> None:
        known = {branch.directory for branch in self._branches}
        for child in children(directory):
            if child not in known:
                self._add(child)

    def _drop(self, branch: _Branch) -> None:
        branch.file.close()
        self._branches.remove(branch)
        parent = branch.directory.rpartition("/")[0]
        for other in self._branches:
            if other.directory == parent:
                other.links = -1                # another group may have come under the same name

    def close(self) -> None:
        """Give the descriptors back."""
        for branch in self._branches:
            branch.file.close()


class NoCount:
    """No count: the target is not one the kernel counts for."""

    __slots__ = ()

    def read(self) -> int:
        """Return -1."""
        return -1

    def close(self) -> None:
        """Do nothing."""


def count_in_tree(directory: str, version: int) -> KillCount:
    """Return the count of kills in a cgroup and all below it."""
    return FileCount(directory + "/memory.events") if version == 2 else TreeCount(directory)


def count_in_group(directory: str, version: int) -> KillCount:
    """Return the count of kills in a cgroup alone (v2: `memory.events.local` where there is one)."""
    if version == 1:
        return FileCount(directory + "/memory.oom_control")
    local = directory + "/memory.events.local"
    return FileCount(local if os.path.exists(local) else directory + "/memory.events")


def count_in_machine(root: str = "/") -> KillCount:
    """Return the count of kills in the whole machine (9 us a read)."""
    return FileCount(below(root, "/proc/vmstat"))
