"""A memory cgroup of one's own: for a program that is to have its own limit and its own count of kills.

Version 2 wants three things of a parent: that we may write there, that it hands the memory controller down,
and that (but for the root) no process sits in it itself. So the own cgroup is tried first where it can be
made to fit, then the parent, for a sibling, then the root. In version 1 the group sits below the own one.
"""

from __future__ import annotations

import errno
import os
import time

from oomguard.errors import NotPermittedError
from oomguard.lean import signal, suppress
from oomguard.sense.ends import count_in_tree
from oomguard.sense.files import below, read_if_there
from oomguard.sense.mounts import Hierarchies, Mount, cgroups_of, find_hierarchies
from oomguard.sense.tree import children

PREFIX = "oomguard-"
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_NAME_MAX = 64
_LOOK_AGAIN_S = 0.01        # a killed process leaves its group when it is reaped or some milliseconds before


class Enclosure:
    """A cgroup that was made for one program.

    `kind` is v1 or v2; `path` is below the mount of the memory hierarchy, as a target's `cgroup:` takes it;
    `directory` is its folder.
    """

    __slots__ = ("_kills", "_pressure_directory", "directory", "kind", "path")

    def __init__(self, kind: str, path: str, directory: str, pressure_directory: str = "") -> None:
        self.kind, self.path, self.directory = kind, path, directory
        self._pressure_directory = pressure_directory       # v1: a cgroup2 beside it, for it has PSI
        self._kills = count_in_tree(directory, 2 if kind == "v2" else 1)

    @classmethod
    def make(cls, name: str, limit_bytes: int | None = None, root: str = "/",
             is_swapless: bool = True) -> Enclosure:
        """Make a memory cgroup where this process may.

        Args:
            name: for people; the folder is `oomguard-NAME-PID`.
            limit_bytes: its limit; None for none.
            root: another one is a test's fake tree.
            is_swapless: whether the limit holds for memory and swap together. Nothing without a limit.

        Raises:
            NotPermittedError: there is no place for it; the text says what stood in the way of each.
        """
        hierarchies = find_hierarchies(root)
        memory = hierarchies.memory
        if memory is None:
            raise NotPermittedError("no memory cgroup can be made: no memory controller is mounted here")
        leaf = folder_name(name, os.getpid())
        own, own_unified = cgroups_of(read_if_there(below(root, "/proc/self/cgroup")), hierarchies)
        if hierarchies.version == 2:
            enclosure = _make_v2(memory, own, leaf, root)
        else:
            enclosure = _make_v1(hierarchies, own, own_unified, leaf, root)
        try:
            enclosure._limit(limit_bytes, is_swapless)
        except OSError as error:
            enclosure.remove()
            raise NotPermittedError(f"cannot limit {enclosure.directory}: {error.strerror}") from None
        return enclosure

    def _limit(self, limit_bytes: int | None, is_swapless: bool) -> None:
        if limit_bytes is None:
            return
        limit_file, swap_file, swap_limit = ("memory.max", "memory.swap.max", 0) if self.kind == "v2" else \
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit_bytes)
        _write(f"{self.directory}/{limit_file}", str(limit_bytes))
        if is_swapless and os.path.exists(f"{self.directory}/{swap_file}"):     # absent: swap is not counted
            _write(f"{self.directory}/{swap_file}", str(swap_limit))

    @property
    def directories(self) -> tuple[str, ...]:
        """The folders that a process enters by writing itself to their cgroup.procs: in v1 there may be two."""
        return (self.directory, self._pressure_directory) if self._pressure_directory else (self.directory,)

    def join(self) -> None:
        """Move this process in: call it in the child, between fork and exec. Raises NotPermittedError."""
        try:
            _write(self.directory + "/cgroup.procs", "0")       # the writer, whatever its pid is here
        except OSError as error:
            raise NotPermittedError(f"cannot move into {self.directory}: {error.strerror}") from None
        if self._pressure_directory:
            with suppress(OSError):         # then only its own pressure is missed: the machine's serves
                _write(self._pressure_directory + "/cgroup.procs", "0")

    def kills(self) -> int:
        """Return the kernel's OOM kills in it so far; -1 where the kernel does not tell (v1 before 4.13)."""
        return self._kills.read()

    def pids(self) -> tuple[int, ...]:
        """Return who is in it and below it; empty when it is gone."""
        return tuple(int(pid) for directory in _tree(self.directory)
                     for pid in read_if_there(directory + "/cgroup.procs", 1 << 20).split())

    def remove(self, kill: bool = False, wait_s: float = 1.0) -> bool:
        """Remove it once it is empty; return whether it is gone.

        Args:
            kill: end those who are still in it. Otherwise it stays for as long as somebody is in it.
            wait_s: how long to wait for it to be empty.
        """
        until_s = time.monotonic() + wait_s
        while not (is_gone := self._remove_now()) and time.monotonic() < until_s:
            if kill:
                self._kill()
            time.sleep(_LOOK_AGAIN_S)
        if is_gone:
            self._kills.close()
        return is_gone

    def _kill(self) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _remove_now(self) -> bool:
        self._kills.read()                  # the count goes with the group
        for top in (self.directory, self._pressure_directory):
            for directory in reversed(_tree(top) if top else []):
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    continue
                except OSError:
                    return False
        return True


def folder_name(name: str, pid: int) -> str:
    """Return what the enclosure that the process `pid` makes for `name` is called."""
    safe = "".join(letter if letter in _SAFE else "_" for letter in name)
    return f"{PREFIX}{safe[:_NAME_MAX]}-{pid}"


def _make_v2(mount: Mount, own: str, leaf: str, root: str) -> Enclosure:
    """Make the group in the first place that allows it. Raises NotPermittedError with the reason of each."""
    reasons = []
    for parent in _places(own):
        directory = below(root, mount.path + parent.rstrip("/"))
        try:
            _hand_down_memory(directory, is_own=parent == own)
            path = f"{parent.rstrip('/')}/{leaf}"
            return Enclosure("v2", path, _make_directory(f"{directory}/{leaf}"))
        except OSError as error:
            reasons.append(f"{directory}: {error.strerror}")
    raise NotPermittedError("no memory cgroup can be made (needs root, or a subtree delegated to this user: "
                            "Delegate=yes, or systemd-run --user --scope). " + "; ".join(reasons))


def _places(own: str) -> list[str]:
    """Return who may become the parent, nearest first: the nearer, the more limits above still hold."""
    places = [own, own.rpartition("/")[0] or "/", "/"] if own else ["/"]
    return list(dict.fromkeys(places))


def _hand_down_memory(directory: str, is_own: bool) -> None:
    """See that children of `directory` get the memory controller and we may move there. Raises OSError."""
    if not _may_move_below(directory):
        raise PermissionError(errno.EACCES, "its cgroup.procs is not ours to write")
    control = directory + "/cgroup.subtree_control"
    if b"memory" in read_if_there(control).split():
        return
    if b"memory" not in read_if_there(directory + "/cgroup.controllers").split():
        raise PermissionError(errno.EACCES, "it does not get the memory controller itself")
    if is_own and _is_divisible(directory):
        _move_down(directory)
    try:
        _write(control, "+memory")
    except OSError as error:
        because = "processes sit in it" if error.errno == errno.EBUSY else error.strerror
        raise PermissionError(error.errno, f"cannot hand the memory controller down ({because})") from None


def _is_divisible(directory: str) -> bool:
    """Return whether the own cgroup is given to us to divide, and we alone sit in it.

    systemd marks what it gives (Delegate=yes). What it does not give it may take back, and it stops a unit in
    which anything is OOM-killed (OOMPolicy=stop: seen); so without the mark a sibling is better, where it may be.
    """
    if read_if_there(directory + "/cgroup.procs", 1 << 20).split() != [str(os.getpid()).encode()]:
        return False
    for mark in ("trusted.delegate", "user.delegate"):
        with suppress(OSError):
            if os.getxattr(directory, mark) == b"1":
                return True
    return not _may_move_below(os.path.dirname(directory))


def _may_move_below(directory: str) -> bool:
    """Return whether processes may be moved between the children of `directory`, as far as rights go."""
    return os.access(directory + "/cgroup.procs", os.W_OK, effective_ids=True)


def _move_down(directory: str) -> None:
    """Leave the own cgroup for a leaf of it, so that it may hand controllers down (systemd's rule, too)."""
    _make_directory(f"{directory}/{PREFIX}self")
    _write(f"{directory}/{PREFIX}self/cgroup.procs", "0")


def _make_v1(hierarchies: Hierarchies, own: str, own_unified: str, leaf: str, root: str) -> Enclosure:
    """Make the group below the own one, and one in the unified hierarchy for its pressure."""
    memory, unified = hierarchies.memory, hierarchies.unified
    if memory is None or not own:
        raise NotPermittedError("no memory cgroup can be made: the own one cannot be seen from here")
    path = f"{own.rstrip('/')}/{leaf}"
    try:
        directory = _make_directory(below(root, memory.path + path))
    except OSError as error:
        raise NotPermittedError(f"no memory cgroup can be made below {memory.path}{own}: {error.strerror} "
                                "(needs root, or that folder given to this user)") from None
    pressure_directory = ""
    if unified is not None and own_unified:
        with suppress(OSError):
            beside = f"{unified.path}{own_unified.rstrip('/')}/{leaf}"
            pressure_directory = _make_directory(below(root, beside))
    return Enclosure("v1", path, directory, pressure_directory)


def _make_directory(directory: str) -> str:
    """Make a cgroup; an empty one that a former process of our pid left is made anew. Raises OSError."""
    with suppress(OSError):
        os.rmdir(directory)
    os.mkdir(directory, 0o755)
    return directory


def _tree(directory: str) -> list[str]:
    """Return a cgroup's folder and all below it, parents first."""
    found = [directory]
    for each in found:      # grows as it goes
        found.extend(children(each))
    return found


def _write(path: str, text: str) -> None:
    """Write to a file of the kernel, which takes a setting whole or not at all. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
