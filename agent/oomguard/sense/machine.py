"""The whole machine, read once per tick and shared by all targets."""

from __future__ import annotations

import sys

from oomguard.sense.constraints import MACHINE, Constraint
from oomguard.sense.files import below, open_if_there
from oomguard.sense.groups import Groups
from oomguard.sense.psi import UNKNOWN as NO_PRESSURE
from oomguard.sense.psi import open_system_pressure
from oomguard.sense.sample import NAN, made
from oomguard.sense.swap import Swaps
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.sense.portable import PortableMachine

MEMINFO = (b"MemTotal:", b"MemFree:", b"MemAvailable:", b"SwapTotal:", b"SwapFree:")
NO_NUMBERS = (NAN,) * len(MEMINFO)


class MachineReading(NamedTuple):
    """The machine at one tick. Unknown numbers are NaN."""

    tick: int                       # counts readings, so that what targets share is read once
    available_bytes: float          # MemAvailable, and what ZFS would give back
    swap_total_bytes: float
    swap_room_bytes: float          # what a cgroup could still put into swap
    constraint: Constraint
    trouble: str = ""               # why something could not be read, empty where all was


class Machine:
    """The reader. `groups` holds the cgroups that targets have in common."""

    is_portable = False

    __slots__ = ("_arc", "_meminfo", "_pressure", "_stalls_tick", "_stalls_us", "_swaps", "_tick", "groups", "root")

    def __init__(self, root: str = "/") -> None:
        """Open what there is below `root`. Nothing is required: what cannot be read is unknown."""
        self.root = root
        self._meminfo = open_if_there(below(root, "/proc/meminfo"))
        self._pressure = open_system_pressure(root)
        self._arc = open_if_there(below(root, "/proc/spl/kstat/zfs/arcstats"), 16384)
        self._swaps = Swaps(root)
        self._tick, self._stalls_tick, self._stalls_us = 0, -1, NO_PRESSURE
        self.groups = Groups(root)

    @property
    def has_pressure(self) -> bool:
        """Whether the kernel keeps pressure stall information for the machine."""
        return self._pressure is not None

    def read(self) -> MachineReading:
        """Read the machine once (3 us on the project's small machine; 5 more with zram)."""
        self._tick += 1
        trouble = ""
        try:
            numbers = self._meminfo.numbers(MEMINFO) if self._meminfo is not None else NO_NUMBERS
        except OSError as error:
            numbers, trouble = NO_NUMBERS, f"/proc/meminfo: {error.strerror}"
        total, free, available, swap_total, swap_free = numbers
        total, available = total * 1024, available * 1024
        if self._arc is not None:
            available = min(total, available + self._arc_reclaimable_bytes())
        swap_used = gain = room = 0.0
        if swap_total > 0:
            swap_total, swap_used = swap_total * 1024, (swap_total - swap_free) * 1024
            gain, room = self._swaps.room(swap_total, swap_free * 1024, available)
        else:                                       # none, or a kernel without swap
            swap_total = 0.0
        bound = made(Constraint, (MACHINE, total, total - available, available + gain, total - free * 1024, NAN,
                                  swap_used, gain, swap_total))
        return made(MachineReading, (self._tick, available, swap_total, room, bound, trouble))

    def pressure(self) -> tuple[float, float]:
        """Return the machine's (some, full) stalls in microseconds, NaN where the kernel does not say.

        Read once per tick, and only for targets that have none of their own.
        """
        if self._stalls_tick != self._tick:
            self._stalls_tick = self._tick
            self._stalls_us = self._pressure.read() if self._pressure is not None else NO_PRESSURE
        return self._stalls_us

    def _arc_reclaimable_bytes(self) -> float:
        """Return what the ZFS cache holds above its minimum: MemAvailable counts it as used."""
        try:
            text = self._arc.read() if self._arc is not None else b""
        except OSError:
            return 0.0
        above_bytes = _kstat(text, b"\nsize ") - _kstat(text, b"\nc_min ")
        return above_bytes if above_bytes > 0 else 0.0

    def close(self) -> None:
        """Give every descriptor back, those of shared cgroups too."""
        for file in (self._meminfo, self._pressure, self._arc, self._swaps, self.groups):
            if file is not None:
                file.close()


def _kstat(text: bytes, label: bytes) -> float:
    """Return the number of a kstat line: name, type, value."""
    at = text.find(label)
    words = text[at + len(label):at + len(label) + 64].split(None, 2) if at >= 0 else []
    return float(words[1]) if len(words) > 1 and words[1].isdigit() else NAN


def open_machine(root: str = "/", is_portable: bool | None = None) -> Machine | PortableMachine:
    """Return the reader for this system: kept descriptors on Linux, psutil elsewhere or if asked for."""
    if is_portable or (is_portable is None and not sys.platform.startswith("linux")):
        from oomguard.sense.portable import PortableMachine
        return PortableMachine()
    return Machine(root)
