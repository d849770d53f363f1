"""Count one run's alarms, catches and quiet seconds at many thresholds at once.

The same numbers as `events.tally` at each of them, which stays the readable reference; a test holds them equal.
What is monotone in the threshold is counted by sorting; only alarms, each of which silences 300 s, are walked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oomguard.learn.label.labels import HORIZON_S, seconds_to_next
from oomguard.learn.protocol.events import AGE_MARGIN_S, EARLY_S, LEADS_S, REFRACTORY_S, SILENT, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.protocol.events import Track

_LEAST = float(np.finfo(np.float64).min)      # silence reaches no threshold, not even minus infinity

_ADDED = ("eligible", "caught", "kills", "false", "early", "flaps", "quiet_s", "alarm_s")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Counts of one run, or their sum over many, at each of K thresholds; the fields are those of Tally."""

    eligible: NDArray[np.float64]     # [leads]
    caught: NDArray[np.float64]       # [K, leads]
    kills: float
    false: NDArray[np.float64]        # [K], as early, flaps and alarm_s
    early: NDArray[np.float64]
    flaps: NDArray[np.float64]
    quiet_s: float
    alarm_s: NDArray[np.float64]
    leads_s: NDArray[np.float64]      # [K, kills]

    def at(self, which: int) -> Tally:
        """Return the counts at one of the thresholds."""
        return Tally(self.eligible, self.caught[which], self.kills, float(self.false[which]),
                     float(self.early[which]), float(self.flaps[which]), self.quiet_s, float(self.alarm_s[which]),
                     tuple(self.leads_s[which].tolist()))


def sweep(track: Track, thresholds: Sequence[float] | NDArray[np.float64]) -> Sweep:
    """Return the counts of one run at each threshold, in the order given."""
    asked = np.maximum(np.asarray(thresholds, np.float64), _LEAST)
    quiet = track.score[:int(np.searchsorted(track.seconds, track.end_s - HORIZON_S, side="left"))]
    alarm_s = _reaching(quiet, asked)
    both_high = np.minimum(quiet[1:], quiet[:-1])
    rises = alarm_s - _reaching(both_high, asked)
    false, early, risen = _alarms(track, quiet, asked, alarm_s)
    at_lead = np.array([[_at(track, kill_s - lead_s) for lead_s in LEADS_S] for kill_s in track.kills_s])
    at_lead = at_lead.reshape(-1, len(LEADS_S))
    is_old = (track.kills_s[:, None] - track.start_s) > np.array(LEADS_S) + AGE_MARGIN_S
    caught = ((at_lead >= asked[:, None, None]) & is_old).sum(axis=1)
    leads = np.array([_lead_s(track, kill_s, asked) for kill_s in track.kills_s]).reshape(-1, len(asked))
    return Sweep(is_old.sum(axis=0).astype(np.float64), caught.astype(np.float64), float(len(track.kills_s)), false,
                 early, rises - risen, float(len(quiet)), alarm_s, leads.T)


def summed(sweeps: Iterable[Sweep]) -> Sweep:
    """Return the sum of at least one."""
    parts = list(sweeps)
    sums = {name: sum(getattr(part, name) for part in parts) for name in _ADDED}
    return Sweep(**sums, leads_s=np.concatenate([part.leads_s for part in parts], axis=1))


def stands_at(track: Track, threshold: float, ahead_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float[kills, leads]: 1 where the level stood so long before the kill, NaN where the run was too young."""
    reached = np.array([[_at(track, kill_s - lead_s) for lead_s in ahead_s] for kill_s in track.kills_s])
    is_old = (track.kills_s[:, None] - track.start_s) > ahead_s + AGE_MARGIN_S
    return np.where(is_old, reached.reshape(is_old.shape) >= max(threshold, _LEAST), np.nan)


def _reaching(values: NDArray[np.float64], asked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many values reach each threshold."""
    return np.asarray(len(values) - np.searchsorted(np.sort(values), asked, side="left"), np.float64)


def _alarms(track: Track, quiet: NDArray[np.float64], asked: NDArray[np.float64], alarm_s: NDArray[np.float64],
            ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return, for each threshold, the false alarms, the early ones of them, and the counted ones at which it rose.

    Thresholds reached by as many seconds are reached by the same ones, so each such set is walked once.
    """
    _counts, first, back = np.unique(alarm_s, return_index=True, return_inverse=True)
    false, early, risen = np.zeros(len(first)), np.zeros(len(first)), np.zeros(len(first))
    ahead = seconds_to_next(track.seconds[:len(quiet)], track.kills_s)
    for which, at in enumerate(first):
        counted = _counted(np.flatnonzero(quiet >= asked[at]))
        is_false = ahead[counted] > HORIZON_S
        false[which] = is_false.sum()
        early[which] = (is_false & (ahead[counted] <= EARLY_S)).sum()
        before = np.where(counted > 0, quiet[counted - 1], SILENT) if len(counted) else np.empty(0)
        risen[which] = (before < asked[at]).sum()
    return false[back], early[back], risen[back]


def _counted(high: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return which of the high seconds are counted as alarms: none within 300 s after another."""
    counted, at = [], 0
    while at < len(high):
        counted.append(high[at])
        at = int(high.searchsorted(high[at] + int(REFRACTORY_S)))
    return np.array(counted, np.intp)


def _at(track: Track, moment_s: float) -> float:
    """Return the score that stands at a moment."""
    at = int(track.seconds.searchsorted(moment_s, side="right")) - 1
    return float(track.score[at]) if at >= 0 else SILENT


def _lead_s(track: Track, kill_s: float, asked: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.searchsorted(track.seconds, [kill_s - HORIZON_S, kill_s], side="left")
    if low == high:
        return np.zeros(len(asked))
    first = np.searchsorted(np.maximum.accumulate(track.score[low:high]), asked, side="left")
    seconds = np.append(track.seconds[low:high], kill_s)      # beyond the last: missed, a lead of 0
    return np.asarray(kill_s - seconds[first], np.float64)
