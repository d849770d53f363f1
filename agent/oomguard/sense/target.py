"""From what a rule file names to what can be read: a process, a cgroup, or the whole system."""

from __future__ import annotations

import os
import sys

from oomguard.errors import NotPermittedError, TargetGoneError, UsageError
from oomguard.sense.files import below, raise_for
from oomguard.sense.mounts import Hierarchies, Mount, cgroups_of, find_hierarchies
from oomguard.sense.procfs import Process, is_called, pids
from oomguard.sense.tree import walk
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.decide.plan import TargetPlan

KINDS = ("unit", "cgroup", "pid", "command", "self", "system")
UNIT_SUFFIXES = (".service", ".scope", ".slice", ".socket", ".mount", ".swap")
PID_MOST = 1 << 22      # the kernel's PID_MAX_LIMIT


class Found(NamedTuple):
    """What was found, as a sensor opens it."""

    kind: str               # process | cgroup | system
    pid: int                # of a process, else 0
    cgroup: str             # path below the memory hierarchy: its own, or where a process sits; empty if none
    label: str              # for people: `player.service`, `redis-server (pid 812)`


def resolve(plan: TargetPlan, root: str = "/") -> Found:
    """Find what a target's plan names.

    Args:
        plan: kind is one of KINDS; value as DESIGN 4.6 has it.
        root: `/`, or a test's fake tree.

    Raises:
        TargetGoneError: there is no such unit, cgroup or process.
        NotPermittedError: it may be there, but we may not look.
        UsageError: the kind or the value makes no sense, or needs what this system lacks.
    """
    if plan.kind == "system":
        return Found("system", 0, "", "system")
    if plan.kind == "self":
        return _process(os.getpid(), "self", root)
    if plan.kind not in KINDS:
        raise UsageError(f"target {plan.name}: {plan.kind!r} is not one of {', '.join(KINDS)}")
    if not plan.value or "\0" in plan.value:
        raise UsageError(f"target {plan.name}: {plan.kind} needs a value")
    if plan.kind == "pid":
        return _pid(plan.value, root)
    if plan.kind == "command":
        return _command(plan.value, root)
    if root == "/" and not sys.platform.startswith("linux"):
        raise UsageError(f"target {plan.name}: {plan.kind} needs Linux; name a pid or a command")
    return _unit(plan.value, root) if plan.kind == "unit" else _cgroup(plan.value, root)


def _process(pid: int, name: str, root: str) -> Found:
    label = f"{name} (pid {pid})"
    if root == "/" and not sys.platform.startswith("linux"):
        return Found("process", pid, "", label)
    process = Process(pid, root)
    try:
        memory, _unified = cgroups_of(process.cgroups(), find_hierarchies(root))
    finally:
        process.close()
    return Found("process", pid, memory, label)


def _pid(value: str, root: str) -> Found:
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= PID_MOST):
        raise UsageError(f"pid {value!r} is not a process number (1 to {PID_MOST})")
    return _process(int(value), "process", root)


def _command(name: str, root: str) -> Found:
    """Find a process by its name or program.

    Of several the one that started first: the others are its workers.
    """
    if root == "/" and not sys.platform.startswith("linux"):
        from oomguard.sense.portable import pids_called
        started = pids_called(name)
    else:
        started = _started(name, root)
    if not started:
        raise TargetGoneError(f"no process is called {name!r} (its name, or its program as it was started)")
    pid = min(started)[1]
    more = f", first of {len(started)}" if len(started) > 1 else ""
    return _process(pid, name, root)._replace(label=f"{name} (pid {pid}{more})")


def _started(name: str, root: str) -> list[tuple[float, int]]:
    """Return (start, pid) of the living processes of that name, ourselves left out."""
    found = []
    for pid in pids(root):
        if pid != os.getpid() and is_called(pid, name, root):
            try:
                process = Process(pid, root)
            except (TargetGoneError, NotPermittedError):    # it has just ended, or is a zombie
                continue
            found.append((float(process.start_ticks), pid))
            process.close()
    return found


def _memory_mount(root: str) -> tuple[Hierarchies, Mount]:
    hierarchies = find_hierarchies(root)
    if hierarchies.memory is None:
        raise UsageError("no memory cgroups are mounted here: name a pid, a command or the system")
    return hierarchies, hierarchies.memory


def _cgroup(value: str, root: str) -> Found:
    """Take a path below the hierarchy, as /proc/PID/cgroup shows it, or a folder below its mount."""
    _hierarchies, memory = _memory_mount(root)
    if ".." in value.split("/"):
        raise UsageError(f"cgroup {value!r}: `..` is no part of a cgroup's path")
    path = "/" + "/".join(part for part in value.split("/") if part not in ("", "."))
    if path == memory.path or path.startswith(memory.path + "/"):
        path = path[len(memory.path):] or "/"
    try:
        os.stat(below(root, memory.path + path.rstrip("/") + "/cgroup.procs"))
    except OSError as error:
        raise_for(error, f"cgroup {path}")
    return Found("cgroup", 0, path, path)


def _unit(value: str, root: str) -> Found:
    """Find a unit's cgroup by its name anywhere in systemd's layout: no D-Bus, so it works in early boot."""
    name = value if value.endswith(UNIT_SUFFIXES) else value + ".service"
    if "/" in name:
        raise UsageError(f"unit {value!r}: a unit's name has no `/`")
    hierarchies, memory = _memory_mount(root)
    path = _folder_called(name, below(root, memory.path))
    if path:
        return Found("cgroup", 0, path, name)
    for other in (hierarchies.named, hierarchies.unified):
        if other is not None and _folder_called(name, below(root, other.path)):
            raise UsageError(f"unit {name} has no memory cgroup of its own: set MemoryAccounting=yes for it")
    raise TargetGoneError(f"unit {name} is not running: no cgroup of that name")


def _folder_called(name: str, top: str) -> str:
    """Return the path below `top` of the nearest folder of that name, empty where there is none."""
    for directory in walk(top):
        if directory.rpartition("/")[2] == name and directory != top:
            return directory[len(top):]
    return ""
