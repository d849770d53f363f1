"""The same readings by psutil: for systems without /proc, and as a second witness of the first.

psutil is imported here and nowhere else on the device's path: it costs 1.6 MB of RSS. A process' memory is
its RSS, mapped files included, since no finer number is cheap everywhere; there are no cgroups, no pressure
and no kills.
"""

from __future__ import annotations

import psutil

from oomguard.errors import NotPermittedError, OomguardError, TargetGoneError, UsageError
from oomguard.sense.constraints import MACHINE, Constraint, binding, profile_constraint
from oomguard.sense.machine import MachineReading
from oomguard.sense.sample import NAN, Sample
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.profile import Profile
    from oomguard.sense.target import Found


class PortableMachine:
    """The machine, by psutil (65 us)."""

    is_portable = True
    has_pressure = False

    __slots__ = ("_tick",)

    def __init__(self) -> None:
        self._tick = 0

    def read(self) -> MachineReading:
        """Read the machine once."""
        self._tick += 1
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        total, available, free = float(memory.total), float(memory.available), float(swap.free)
        return MachineReading(
            self._tick, available, float(swap.total), free,
            Constraint(MACHINE, total, total - available, available + free, total - memory.free, NAN,
                       float(swap.used), free, float(swap.total)))

    def close(self) -> None:
        """Do nothing: psutil holds nothing open."""


class PortableSensor:
    """One process (26 us), or the system, by psutil; the same calls as `sensor.Sensor`."""

    end_fd = -1
    pressure_of = "none"
    trouble = ""

    __slots__ = ("_constraints", "_limit_bytes", "_process", "identity", "kind")

    def __init__(self, found: Found, profile: Profile) -> None:
        """Open what `found` names. Raises TargetGoneError, NotPermittedError, UsageError."""
        if found.kind == "cgroup":
            raise UsageError(f"{found.label}: cgroups need Linux's own readings")
        self.kind = found.kind
        self._constraints: tuple[Constraint, ...] = ()
        self._process: psutil.Process | None = None
        self._limit_bytes = profile.limit_bytes // 1 if found.kind == "process" else NAN
        self.identity = f"{psutil.boot_time():.0f}:system"
        if found.kind == "process":
            try:
                self._process = psutil.Process(found.pid)
                self.identity = f"{psutil.boot_time():.0f}:{found.pid}:{self._process.create_time():.2f}"
            except psutil.Error as error:
                raise _ours(error, found.pid) from error

    def read(self, t_s: float, late_s: float, machine: MachineReading, evictable_bytes: float,
             phase: str | None) -> Sample:
        """Read the target once. Raises TargetGoneError."""
        self._constraints = (machine.constraint, *self._own())
        bound = binding(self._constraints)
        return Sample(t_s, bound.name, bound.limit_bytes, bound.headroom_bytes, bound.used_bytes,
                      bound.charged_bytes, NAN, machine.available_bytes, bound.swap_used_bytes,
                      bound.swap_free_bytes, bound.swap_limit_bytes, late_s=late_s,
                      evictable_bytes=evictable_bytes // 1, phase=phase)

    def _own(self) -> tuple[Constraint, ...]:
        process = self._process
        if process is None:
            return ()
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise TargetGoneError(f"process {process.pid} has ended")
            resident_bytes = float(process.memory_info().rss) if self._limit_bytes > 0 else 0.0
        except psutil.Error as error:
            raise _ours(error, process.pid) from error
        return (profile_constraint(self._limit_bytes, resident_bytes, 0.0),) if self._limit_bytes > 0 else ()

    def constraints(self) -> tuple[Constraint, ...]:
        """Return every constraint as of the last tick, nearest first."""
        return tuple(sorted(self._constraints, key=lambda constraint: constraint.headroom_bytes))

    def kills(self) -> int:
        """Return -1: only the kernel's own files tell."""
        return -1

    def pids(self) -> tuple[int, ...]:
        """Return the process, or none for the system."""
        return (self._process.pid,) if self._process is not None else ()

    def close(self) -> None:
        """Do nothing: psutil holds nothing open."""


def _ours(error: psutil.Error, pid: int) -> OomguardError:
    if isinstance(error, psutil.AccessDenied):
        return NotPermittedError(f"process {pid}: {error}")
    return TargetGoneError(f"process {pid}: {error}")


def pids_called(name: str) -> list[tuple[float, int]]:
    """Return (start, pid) of the processes of that name or program, ourselves left out."""
    found, ourselves = [], psutil.Process().pid
    for process in psutil.process_iter(["name", "cmdline", "create_time"]):
        program = (process.info["cmdline"] or [""])[0]
        if process.pid != ourselves and name in (process.info["name"], program, program.rpartition("/")[2]):
            found.append((float(process.info["create_time"] or 0), process.pid))
    return found
