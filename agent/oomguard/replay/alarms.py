"""Alarms, as everywhere counted by the event protocol (DESIGN 5): a debounced level of 1 or more, once in 300 s."""

from __future__ import annotations

import numpy as np

from oomguard.learn.protocol.events import FAST_CADENCE_S, alarms_of, held_at, two_in_a_row, two_of_three
from oomguard.replay.readings import Readings


def alarms_in(readings: Readings) -> list[int]:
    """Return the samples at which alarms were raised: the last one with a level by the second that counts."""
    at = np.flatnonzero(readings.is_taken)
    if not len(at):
        return []
    t_s, levels = readings.run.t_s[at], readings.levels[at].astype(np.float64)
    cadence_s = float(np.median(np.diff(t_s))) if len(t_s) > 1 else 1.0
    seconds = np.arange(np.ceil(t_s[0]), np.floor(t_s[-1] + 1.0) + 1.0)
    if cadence_s > FAST_CADENCE_S:
        debounced = held_at(seconds, t_s, two_in_a_row(t_s, levels, cadence_s), cadence_s)
    else:
        debounced = two_of_three(held_at(seconds, t_s, levels, cadence_s))
    counted = alarms_of(debounced >= 1, seconds)
    high = at[levels >= 1]
    return [int(high[np.searchsorted(readings.run.t_s[high], second, side="right") - 1]) for second in counted]
