"""The one clock of the guard: CLOCK_BOOTTIME, so that standby shows as a gap; and it never goes back."""

from __future__ import annotations

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # other systems have only the latter


class _Clock:
    """The kernel's clock, and how far it fell behind itself.

    The kernel's never does, but for a process that is restored from a checkpoint: every deadline, window and schedule
    would then stand still for as long as the clock went back. Here only that moment counts for nothing.
    """

    __slots__ = ("_behind_s", "_latest_s")

    def __init__(self) -> None:
        self._behind_s, self._latest_s = 0.0, float("-inf")

    def now_s(self) -> float:
        """Return seconds since the machine booted, time asleep included."""
        at_s = time.clock_gettime(_BOOTTIME) + self._behind_s
        if at_s < self._latest_s:
            self._behind_s += self._latest_s - at_s
            return self._latest_s
        self._latest_s = at_s
        return at_s


now_s = _Clock().now_s
