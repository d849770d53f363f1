"""One target, read once per tick: which constraint binds it, and how near that one is."""

from __future__ import annotations

import os

from oomguard.errors import TargetGoneError, UsageError
from oomguard.sense.cgroup import Cgroup
from oomguard.sense.constraints import UNKNOWN, Constraint, profile_constraint
from oomguard.sense.ends import (
    KillCount,
    NoCount,
    count_in_group,
    count_in_machine,
    count_in_tree,
    open_end_fd,
)
from oomguard.sense.files import GONE, below, raise_for, read_if_there
from oomguard.sense.mounts import cgroups_of
from oomguard.sense.procfs import Process
from oomguard.sense.psi import Pressure, open_pressure
from oomguard.sense.sample import NAN, Sample, made
from oomguard.sense.target import Found
from oomguard.sense.tree import pids_in
from oomguard.typed import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from oomguard.profile import Profile
    from oomguard.sense.machine import Machine, MachineReading
    from oomguard.sense.portable import PortableMachine, PortableSensor

INFINITE = float("inf")
MEMBERS_ASKED = 16      # processes of a v1 group whose unified cgroup is looked at
KILL_SPAN_S = 5.0       # a killed process is counted before it is gone: compare with the count 5 to 10 s ago


class Sensor:
    """The reader of one target.

    `identity` changes when it is another run; `end_fd` becomes readable when a process ends (-1: it cannot
    tell); `trouble` says what could not be read at the last tick, empty where all could.
    """

    __slots__ = ("_chain", "_count", "_count_before", "_counted", "_counted_s", "_is_new",
                 "_machine", "_membership", "_own", "_pressure", "_process", "_profile_limit_bytes", "_root",
                 "_turn", "end_fd", "identity", "kind", "trouble")

    def __init__(self, found: Found, machine: Machine, profile: Profile, root: str = "/") -> None:
        """Open what `found` names. Raises TargetGoneError, NotPermittedError, UsageError."""
        self.kind, self._machine, self._root = found.kind, machine, root
        self._process: Process | None = None
        self._own: Cgroup | None = None         # whose faults are the target's
        self._chain: tuple[Cgroup, ...] = ()
        self._pressure: Pressure | None = None  # None: the system's
        self._is_new, self._turn, self.trouble, self._membership = True, 0, "", b""
        self._counted_s = -INFINITE
        self._count_before = self._counted = -1
        self.end_fd = -1
        limit_bytes = profile.limit_bytes // 1
        self._profile_limit_bytes = limit_bytes if limit_bytes > 0 and found.kind != "system" else INFINITE
        boot_id = read_if_there(below(root, "/proc/sys/kernel/random/boot_id"))
        boot = boot_id.strip().decode("ascii", "replace")
        self._count: KillCount = NoCount()
        if found.kind == "process":
            self.identity = f"{boot}:{self._open_process(found.pid)}"
        elif found.kind == "cgroup":
            self.identity = f"{boot}:{self._open_cgroup(found.cgroup)}"
        else:
            self._count = count_in_machine(root)
            self.identity = f"{boot}:system"

    def _open_process(self, pid: int) -> str:
        self._process = process = Process(pid, self._root)
        self._follow(process)
        if self._root == "/":
            self.end_fd = open_end_fd(pid)
            try:
                process.read()      # the pid may have been another's when its end was asked for
            except TargetGoneError:
                self.close()
                raise
        return f"{pid}:{process.start_ticks}"

    def _open_cgroup(self, path: str) -> str:
        groups = self._machine.groups
        self._chain = chain = groups.chain(path)
        directory = groups.directory(path)
        try:
            inode = os.stat(directory).st_ino
            if not chain or chain[-1].path != path:
                os.close(os.open(directory + "/memory.stat", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self.close()
            if error.errno in GONE and os.path.isdir(directory):
                raise UsageError(f"cgroup {path}: the memory controller does not account for it") from error
            raise_for(error, f"cgroup {path}")
        self._own = chain[-1]
        self._own.is_watched = True
        self._own.may_rest = self._profile_limit_bytes == INFINITE
        self._pressure = self._open_pressure(path) or self._open_pressure(self._unified_of_members(directory))
        self._count = count_in_tree(directory, groups.hierarchies.version)
        return f"{path}:{inode}"

    def _follow(self, process: Process) -> None:
        """Take the cgroups that the process sits in now as its constraints."""
        groups = self._machine.groups
        self._membership, before = process.cgroups(), self._chain
        memory, unified = cgroups_of(self._membership, groups.hierarchies)
        self._chain = groups.chain(memory)
        groups.release(before)          # after, so that what both have in common stays open
        self._own = self._chain[-1] if self._chain else None
        if self._pressure is not None:
            self._pressure.close()
        self._pressure = self._open_pressure(unified)
        version = groups.hierarchies.version
        self._count.close()
        self._count = count_in_machine(self._root) if self._own is None or (version == 2 and memory == "/") \
            else count_in_group(self._own.directory, version)
        self._counted_s, self._count_before, self._is_new = -INFINITE, -1, True  # counts of two groups do not compare

    def _unified_of_members(self, directory: str) -> str:
        """Return the unified cgroup that all members of a v1 group share, empty where they share none.

        Version 1 keeps no pressure of its own; its processes may sit together in a cgroup2 that does.
        """
        groups = self._machine.groups
        if groups.hierarchies.version == 2:
            return ""
        found = {cgroups_of(read_if_there(below(self._root, f"/proc/{pid}/cgroup")), groups.hierarchies)[1]
                 for pid in pids_in(directory)[:MEMBERS_ASKED]}
        return found.pop() if len(found) == 1 else ""

    def _open_pressure(self, path: str) -> Pressure | None:
        """Return the cgroup's own pressure.

        The host's topmost group has none of its own (nor a cgroup.type).
        """
        unified = self._machine.groups.hierarchies.unified
        if unified is None or not path:
            return None
        directory = below(self._root, unified.path + path.rstrip("/"))
        if path == "/" and not os.path.exists(directory + "/cgroup.type"):
            return None
        return open_pressure(directory + "/memory.pressure")

    @property
    def pressure_of(self) -> str:
        """Whose stalls the samples tell: `cgroup`, `system`, or `none` where the kernel keeps no account."""
        if self._pressure is not None:
            return "cgroup"
        return "system" if self._machine.has_pressure else "none"

    def read(self, t_s: float, late_s: float, machine: MachineReading, evictable_bytes: float,
             phase: str | None) -> Sample:
        """Read the target once.

        Args:
            t_s: seconds since the run began.
            late_s: how late the tick is.
            machine: this tick's reading of the machine.
            evictable_bytes: what the hooks say they could give back, NaN where they do not say.
            phase: the app's own word for what it does.

        Raises:
            TargetGoneError: it has ended, or the name is another's now.
        """
        major_faults = NAN
        if self._process is not None:
            major_faults = self._process.read().major_faults
            if not t_s - self._counted_s < KILL_SPAN_S:
                self._count_kills(t_s)
        self._look_around(machine)
        bound = self._nearest(machine)
        refaults = NAN
        if self._own is not None:
            tally = self._own.tally
            refaults = tally.refaults
            if self._process is None:
                major_faults = tally.major_faults
        some_us, full_us = self._machine.pressure() if self._pressure is None else self._pressure.read()
        return made(Sample, (
            t_s, bound.name, bound.limit_bytes, bound.headroom_bytes, bound.used_bytes, bound.charged_bytes,
            bound.kernel_bytes, machine.available_bytes, bound.swap_used_bytes, bound.swap_free_bytes,
            bound.swap_limit_bytes, some_us, full_us, refaults, major_faults, late_s, evictable_bytes // 1, phase))

    def _look_around(self, machine: MachineReading) -> None:
        """Look at one thing that seldom changes per tick, in turn: each group's limits, where a process sits.

        So a new limit is seen within as many ticks as the target sits deep, plus one for a process; all are
        read at the first tick.
        """
        chain, turn = self._chain, self._turn
        if self._is_new:
            self._is_new = False
            for group in chain:
                group.read_limits(machine)
        elif turn < len(chain):
            chain[turn].read_limits(machine)
            self._turn = turn + 1
        else:
            self._turn = 0
            process = self._process
            if process is not None:
                if process.cgroups() not in (self._membership, b""):
                    self._follow(process)
                    self._look_around(machine)
            elif chain:
                chain[0].read_limits(machine)
                self._turn = 1

    def _nearest(self, machine: MachineReading) -> Constraint:
        """Read every constraint and return the one with the least headroom."""
        nearest = machine.constraint
        least_bytes = nearest.headroom_bytes
        if least_bytes != least_bytes:
            nearest, least_bytes = UNKNOWN, INFINITE
        self.trouble = machine.trouble
        if self._own is not None:
            constraint = self._own.nearest(machine)
            if constraint is not None and constraint.headroom_bytes < least_bytes:
                nearest, least_bytes = constraint, constraint.headroom_bytes
            if self._own.chain_trouble:
                self.trouble = self._own.chain_trouble
                if any(group.is_gone for group in self._chain):
                    self._lose_group()
        if self._profile_limit_bytes < INFINITE:
            constraint = self._profile_constraint()
            if constraint.headroom_bytes < least_bytes:
                return constraint
        return nearest

    def _lose_group(self) -> None:
        if self._process is None:
            raise TargetGoneError(f"{self._own.name if self._own is not None else 'cgroup'} is gone")
        self._follow(self._process)     # it was moved, and its old group removed

    def _profile_constraint(self) -> Constraint:
        if self._process is not None:
            own_bytes, swapped_bytes = self._process.memory_bytes()
        elif self._own is not None:
            own_bytes, swapped_bytes = self._own.tally.used_bytes, self._own.swap_used_bytes
        else:
            own_bytes = swapped_bytes = NAN
        if swapped_bytes != swapped_bytes:
            swapped_bytes = 0.0
        return profile_constraint(self._profile_limit_bytes, own_bytes, swapped_bytes)

    def constraints(self) -> tuple[Constraint, ...]:
        """Return every constraint as of the last tick, the machine's read anew; nearest first."""
        machine = self._machine.read()
        room_bytes = machine.swap_room_bytes
        found = [machine.constraint]
        for group in self._chain:
            group.read_limits(machine)
            room_bytes = group.read(machine, room_bytes)
            if group.constraint is not None:
                found.append(group.constraint)
        if self._profile_limit_bytes < INFINITE:
            found.append(self._profile_constraint())
        return tuple(sorted(found, key=_headroom_bytes))

    def _count_kills(self, t_s: float) -> None:
        count = self._count.read()
        self._count_before = count if self._counted_s == -INFINITE else self._counted
        self._counted, self._counted_s = count, t_s

    def kills(self) -> int:
        """Return the kernel's OOM kills in the target so far, those before us included; -1 where unknown.

        For a process: 0 while it lives; after it ended, 1 if its cgroup (or, without one, the machine)
        counts a kill within the last 5 to 10 s: evidence, not proof, where others share the group. Of one that
        ended before its first reading, or the first one in another cgroup, no count is known to compare with: -1.
        """
        if self._process is None:
            return self._count.read()
        try:
            self._process.read()
            return 0
        except TargetGoneError:
            now = self._count.read()
            return -1 if now < 0 or self._count_before < 0 else int(now > self._count_before)

    def pids(self) -> tuple[int, ...]:
        """Return the target's processes; of a cgroup, those in groups below it, too; none for the system."""
        if self._process is not None:
            return (self._process.pid,)
        return pids_in(self._own.directory) if self._own is not None else ()

    def close(self) -> None:
        """Give every descriptor back."""
        self._machine.groups.release(self._chain)
        self._chain, self._own = (), None
        for file in (self._process, self._pressure, self._count):
            if file is not None:
                file.close()
        if self.end_fd >= 0:
            os.close(self.end_fd)
            self.end_fd = -1


def _headroom_bytes(constraint: Constraint) -> float:
    known = constraint.headroom_bytes == constraint.headroom_bytes
    return constraint.headroom_bytes if known else INFINITE


def open_sensor(found: Found, machine: Machine | PortableMachine, profile: Profile,
                root: str = "/") -> Sensor | PortableSensor:
    """Open the reader of a target. Raises TargetGoneError, NotPermittedError, UsageError."""
    if machine.is_portable:
        from oomguard.sense.portable import PortableSensor
        return PortableSensor(found, profile)
    return Sensor(found, cast("Machine", machine), profile, root)
