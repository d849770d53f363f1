"""Grade every sample by how near the next kill is, and leave out what nobody can know.

A sample is unlabelled where its future was cut off or interfered with: in the last 300 s of a run that did not
end in a kill, for 300 s after a release, and where a release came within its next 300 s before any kill. (The
last is our addition to DESIGN 4.9: at such a sample the kill may have been averted, so `none` would be a lie.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from oomguard.forest import HORIZONS_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

UNLABELLED = -1
HORIZON_S = float(max(HORIZONS_S))


def seconds_to_next(times_s: NDArray[np.float64], events_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each time, the seconds to the next event strictly after it; inf where there is none."""
    if not len(events_s):
        return np.full(len(times_s), np.inf)
    at = np.searchsorted(events_s, times_s, side="right")
    ahead = np.append(events_s, np.inf)[at] - times_s
    return np.asarray(ahead, np.float64)


def seconds_since_last(times_s: NDArray[np.float64], events_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each time, the seconds since the last event at or before it; inf where there is none."""
    if not len(events_s):
        return np.full(len(times_s), np.inf)
    at = np.searchsorted(events_s, times_s, side="right")
    ago = times_s - np.insert(events_s, 0, -np.inf)[at]
    return np.asarray(ago, np.float64)


def classes_of(seconds_to_kill: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return 0 for none, 1 for within 300 s … 5 for within 60 s (forest.CLASSES); an edge is of the nearer class."""
    grades = np.zeros(len(seconds_to_kill), np.int8)
    for horizon_s in HORIZONS_S:
        grades += (seconds_to_kill <= horizon_s).astype(np.int8)
    return grades


def labels_of(run: Run) -> NDArray[np.int8]:
    """Return one class per sample, UNLABELLED where the outcome is not known.

    A simulated run knows its own future, releases and all: there only the samples before a release, whose kill
    the release put off, are left out.
    """
    to_kill = seconds_to_next(run.t_s, run.kills_s)
    to_release = seconds_to_next(run.t_s, run.releases_s)
    labels = classes_of(to_kill)
    is_unknown = (to_release <= HORIZON_S) & (to_release < to_kill)
    if not run.ended_in_kill:
        is_unknown |= (run.t_s > run.end_s - HORIZON_S) & ~np.isfinite(to_kill)
    if not run.is_simulated:
        is_unknown |= seconds_since_last(run.t_s, run.releases_s) <= HORIZON_S
    labels[is_unknown] = UNLABELLED
    return labels
