"""The event protocol (DESIGN 5): what an alarm is, when a kill counts as caught, and when an alarm is false.

A system is one score per sample, greater meaning nearer to a kill, and it is in alarm where the score reaches a
threshold. All systems share one debounce. On a one-second grid, which holds the last score for up to 1.5
cadences, the level stands where 2 of the last 3 seconds reach the threshold; at cadences above 1 s, where 2 ticks
in a row do. "2 of 3 reach it" is "the second highest of the 3 reaches it", so debouncing turns scores into
scores and a threshold is applied at the very end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from oomguard.learn.label.labels import HORIZON_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

LEADS_S = (30, 60, 120, 240)
REFRACTORY_S = 300.0      # one alarm is counted in so many seconds: a constant one counts twelve an hour
EARLY_S = 900.0           # a false alarm that a kill follows after 300-900 s was early
AGE_MARGIN_S = 10.0       # a kill is eligible at lead L in runs older than L + this
HOLD_CADENCES = 1.5
FAST_CADENCE_S = 1.05     # a recorder at 1 s jitters by milliseconds
SILENT = -np.inf


@dataclass(frozen=True, slots=True)
class Track:
    """The debounced score of one system in one run, one value per second of the grid."""

    seconds: NDArray[np.float64]      # integers from the first sample to the end (of a killed run: before it)
    score: NDArray[np.float64]        # SILENT where nothing is held
    start_s: float
    end_s: float
    kills_s: NDArray[np.float64]

    def less(self, threshold: float) -> Track:
        """Return the track with its score counted from a threshold of its own."""
        return replace(self, score=self.score - threshold)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one run, or their sum over many."""

    eligible: NDArray[np.float64]     # [len(LEADS_S)] kills old enough for that lead
    caught: NDArray[np.float64]       # [len(LEADS_S)]
    kills: float
    false: float                      # counted alarms in quiet time that no kill follows within 300 s
    early: float                      # those of them with a kill after 300-900 s
    flaps: float                      # times the level rose in quiet time and was not counted as an alarm
    quiet_s: float
    alarm_s: float                    # quiet seconds in alarm
    leads_s: tuple[float, ...]        # of every kill: since when, within its last 300 s, an alarm had stood; 0 = missed


def track_of(run: Run, score: NDArray[np.float64]) -> Track:
    """Return the debounced score of a run.

    Args:
        run: gives the times, the cadence, the end and the kills.
        score: float[n], one per sample; NaN where the system said nothing.
    """
    end_s = max(run.end_s, float(run.t_s[-1]))
    last = np.ceil(end_s) - 1 if run.ended_in_kill else np.floor(end_s)
    seconds = np.arange(np.ceil(run.start_s), last + 1.0)
    said = np.where(np.isnan(score), SILENT, score)
    if run.cadence_s > FAST_CADENCE_S:
        debounced = held_at(seconds, run.t_s, two_in_a_row(run.t_s, said, run.cadence_s), run.cadence_s)
    else:
        debounced = two_of_three(held_at(seconds, run.t_s, said, run.cadence_s))
    return Track(seconds, debounced, run.start_s, end_s, run.kills_s)


def held_at(seconds: NDArray[np.float64], t_s: NDArray[np.float64], score: NDArray[np.float64],
            cadence_s: float) -> NDArray[np.float64]:
    """Return the last score at or before each second, SILENT where it is older than 1.5 cadences."""
    at = np.searchsorted(t_s, seconds, side="right") - 1
    is_held = (at >= 0) & (seconds - t_s[at] <= HOLD_CADENCES * cadence_s + 1e-6)
    return np.where(is_held, score[at], SILENT)


def two_of_three(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the second highest of this and the two values before it."""
    padded = np.concatenate([[SILENT, SILENT], score])
    return np.asarray(np.sort(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)[1], np.float64)


def two_in_a_row(t_s: NDArray[np.float64], score: NDArray[np.float64], cadence_s: float) -> NDArray[np.float64]:
    """Return the lower of this tick and the one before, SILENT where that one is missing."""
    lower = np.full(len(score), SILENT)
    is_next = np.diff(t_s) <= HOLD_CADENCES * cadence_s + 1e-6
    lower[1:] = np.where(is_next, np.minimum(score[1:], score[:-1]), SILENT)
    return lower


def alarms_of(is_high: NDArray[np.bool_], seconds: NDArray[np.float64]) -> list[float]:
    """Return when alarms are counted: the level stands and none was counted in the last 300 s."""
    high, counted = seconds[is_high], []
    at = 0
    while at < len(high):
        counted.append(float(high[at]))
        at = int(np.searchsorted(high, high[at] + REFRACTORY_S, side="left"))
    return counted


def tally(track: Track, threshold: float) -> Tally:
    """Return the counts of one run at one threshold."""
    is_high = (track.score >= threshold) & (track.score > SILENT)
    eligible, caught = np.zeros(len(LEADS_S)), np.zeros(len(LEADS_S))
    for kill_s in track.kills_s:
        for at, lead_s in enumerate(LEADS_S):
            if kill_s - track.start_s > lead_s + AGE_MARGIN_S:
                eligible[at] += 1
                caught[at] += stands(is_high, track.seconds, kill_s - lead_s)
    quiet = track.seconds < track.end_s - HORIZON_S
    counted = [at for at in alarms_of(is_high, track.seconds) if at < track.end_s - HORIZON_S]
    wrong = [at for at in counted if not _is_kill_in(track.kills_s, at, at + HORIZON_S)]
    early = [at for at in wrong if _is_kill_in(track.kills_s, at + HORIZON_S, at + EARLY_S)]
    rises = np.flatnonzero(is_high & ~np.insert(is_high[:-1], 0, False) & quiet)
    flaps = len(set(track.seconds[rises].tolist()) - set(counted))
    return Tally(eligible, caught, float(len(track.kills_s)), float(len(wrong)), float(len(early)), float(flaps),
                 float(quiet.sum()), float((is_high & quiet).sum()),
                 tuple(_lead_s(is_high, track.seconds, kill_s) for kill_s in track.kills_s))


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum."""
    parts = list(tallies)
    zero = np.zeros(len(LEADS_S))
    counts = {name: float(sum(getattr(part, name) for part in parts))
              for name in ("kills", "false", "early", "flaps", "quiet_s", "alarm_s")}
    eligible, caught = sum((part.eligible for part in parts), zero), sum((part.caught for part in parts), zero)
    return Tally(eligible=eligible, caught=caught,
                 leads_s=tuple(lead for part in parts for lead in part.leads_s), **counts)


def stands(is_high: NDArray[np.bool_], seconds: NDArray[np.float64], moment_s: float) -> bool:
    """Whether the level stands at a moment: as it was at the last second of the grid up to it."""
    at = int(np.searchsorted(seconds, moment_s, side="right")) - 1
    return at >= 0 and bool(is_high[at])


def _is_kill_in(kills_s: NDArray[np.float64], after_s: float, until_s: float) -> bool:
    return bool(np.any((kills_s > after_s) & (kills_s <= until_s)))


def _lead_s(is_high: NDArray[np.bool_], seconds: NDArray[np.float64], kill_s: float) -> float:
    before = seconds[is_high & (seconds < kill_s) & (seconds >= kill_s - HORIZON_S)]
    return float(kill_s - before[0]) if len(before) else 0.0
