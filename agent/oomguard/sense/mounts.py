"""Where the memory cgroups are: which hierarchy, where it is mounted, what of its tree is seen there."""

from __future__ import annotations

from oomguard.sense.files import below, read_if_there
from oomguard.typed import NamedTuple


class Mount(NamedTuple):
    """A hierarchy as it is mounted. Both paths start with `/`."""

    path: str                   # where: /sys/fs/cgroup/memory
    top: str                    # the cgroup seen there: `/`; in a container without a namespace `/docker/abc`

    def relative(self, cgroup: str) -> str:
        """Return a cgroup of /proc/PID/cgroup as a path below the mount, empty where it is not seen there."""
        if cgroup.endswith(" (deleted)") or cgroup.startswith("/.."):
            return ""
        if self.top == "/":
            return cgroup
        if cgroup == self.top:
            return "/"
        return cgroup[len(self.top):] if cgroup.startswith(self.top + "/") else ""


class Hierarchies(NamedTuple):
    """The hierarchies that tell of memory."""

    version: int                # 2 or 1: whose memory controller it is; 0: there is none
    memory: Mount | None
    unified: Mount | None       # cgroup2, with or without the memory controller: pressure is there
    named: Mount | None         # v1 name=systemd: where units are when they have no memory cgroup


def find_hierarchies(root: str = "/") -> Hierarchies:
    """Return the hierarchies of this mount namespace."""
    unified = memory = named = None
    for mount, kind, options in _cgroup_mounts(root):
        if kind == "cgroup2":
            unified = _seen(unified, mount)
        elif "memory" in options:
            memory = _seen(memory, mount)
        elif "name=systemd" in options:
            named = _seen(named, mount)
    if unified is not None:
        controllers = read_if_there(below(root, unified.path + "/cgroup.controllers"))
        if b"memory" in controllers.split():
            return Hierarchies(2, unified, unified, named)
    return Hierarchies(1 if memory is not None else 0, memory, unified, named)


def _seen(first: Mount | None, later: Mount) -> Mount:
    """Return which of two mounts counts: the first, unless the later lies on top of it, as in a cgroup namespace."""
    return later if first is None or first.path == later.path else first


def _cgroup_mounts(root: str) -> list[tuple[Mount, str, list[str]]]:
    """Return the cgroup mounts of /proc/self/mountinfo (proc(5)): ...

    top path options [tags] - kind source options.
    """
    found = []
    for line in read_if_there(below(root, "/proc/self/mountinfo"), 1 << 20).splitlines():
        left, separator, right = line.decode("utf-8", "surrogateescape").partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if separator and len(before) >= 6 and len(after) >= 3 and after[0] in ("cgroup", "cgroup2"):
            found.append((Mount(_unescape(before[4]), _unescape(before[3])), after[0], after[2].split(",")))
    return found


def _unescape(text: str) -> str:
    """Return a mountinfo path with its octal escapes undone: `\\040` is a space."""
    for code in ("040", "011", "012", "134"):
        text = text.replace("\\" + code, chr(int(code, 8)))
    return text


def cgroups_of(text: bytes, hierarchies: Hierarchies) -> tuple[str, str]:
    """Return a process' (memory cgroup, unified cgroup) from its /proc/PID/cgroup, as paths below the mounts.

    Empty where there is none or it lies outside of what is mounted here.
    """
    memory = unified = ""
    for line in text.decode("utf-8", "surrogateescape").splitlines():
        number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if number == "0" and not controllers and hierarchies.unified is not None:
            unified = hierarchies.unified.relative(path)
        elif "memory" in controllers.split(",") and hierarchies.memory is not None:
            memory = hierarchies.memory.relative(path)
    return (unified if hierarchies.version == 2 else memory), unified
