"""The one clock of the guard: CLOCK_BOOTTIME, so that standby shows as a gap."""

from __future__ import annotations

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # other systems have only the latter


def now_s() -> float:
    """Return seconds since the machine booted, time asleep included."""
    return time.clock_gettime(_BOOTTIME)
