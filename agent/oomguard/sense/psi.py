"""Pressure stall information: how long tasks have waited for memory, in microseconds since the counter began.

    some avg10=0.00 avg60=0.00 avg300=0.00 total=1234
    full avg10=0.00 avg60=0.00 avg300=0.00 total=567

The averages are the kernel's, over spans of its choice; the totals let the window take its own.
"""

from __future__ import annotations

from oomguard.sense.files import KeptFile, below, open_if_there
from oomguard.sense.sample import NAN

SYSTEM = "/proc/pressure/memory"
LABELS, TOTAL = (b"some ", b"full "), b"total="
UNKNOWN = (NAN, NAN)


class Pressure:
    """One pressure file, of the system or of a cgroup."""

    __slots__ = ("_file",)

    def __init__(self, file: KeptFile) -> None:
        self._file = file

    def read(self) -> tuple[float, float]:
        """Return (some, full) in microseconds, NaN where the kernel does not say (accounting is off)."""
        try:
            some_us, full_us = self._file.numbers(LABELS, TOTAL)
        except OSError:
            return UNKNOWN
        return some_us, full_us

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()


def open_pressure(path: str) -> Pressure | None:
    """Return the pressure of a file, or None where the kernel keeps none there.

    The file of a kernel started with psi=0 opens and then cannot be read: that is none, too.
    """
    file = open_if_there(path, 256)
    if file is None:
        return None
    pressure = Pressure(file)
    some_us, _full_us = pressure.read()
    if some_us == some_us:
        return pressure
    pressure.close()
    return None


def open_system_pressure(root: str = "/") -> Pressure | None:
    """Return the whole machine's pressure, or None on a kernel without it."""
    return open_pressure(below(root, SYSTEM))
