"""Where memory stood before kills, per device type: histograms of used/limit, and which of three shapes they have.

Two histograms are kept of every type. `before` counts the readings of the five minutes before each kill, every kill
one vote, spread over its readings by time; `at_kill` counts each kill once, at its last reading. One rule names the
shape of either. The named shape of a type is that of `at_kill`: it belongs to the device, while in `before` a fast
leak smears itself over the whole range however exactly the device kills. Both are told.

The rule (shapes after Mehra et al., "Formulating 'Out of Memory Kill' Prediction on the Netflix App as a Machine
Learning Problem", 2022, who tell them apart by eye):

- A peak is the window of WINDOW_RATIO that holds most. It is *sharp* when it holds at least SHARP_SHARE of the votes
  and more than chance puts there: each kill's votes are shifted round a circle, from the 5 % quantile of where the
  type spends its time up to the limit, by an amount of its own; p is the share of such shufflings whose fullest
  window holds as much (a scan statistic, Naus 1965, by permutation, so a kill that stands still is one vote).
- A sharp peak at NEAR_RATIO and above is "sharp peak near the threshold", below it "premature peak".
- Anything else is "no sharp peak". Fewer than LEAST_KILLS kills are "unknown".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oomguard.learn.label.labels import HORIZON_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

    Reals = NDArray[np.float64]

BINS = 200                          # of used/limit from 0 to 1: 0.005 each; what lies beyond 1 counts as 1
PREMATURE, FLAT, NEAR, UNKNOWN = "premature peak", "no sharp peak", "sharp peak near the threshold", "unknown"
LEAST_KILLS = 10                    # below it the rule calls half of all flat types unknown anyway
WINDOW_RATIO = 0.10
SHARP_SHARE = 0.5
NEAR_RATIO = 0.85                   # plain level 3: who waits for a fixed 85 % comes too late for a peak below it
MOST_P = 0.01
SHUFFLINGS, RESAMPLES = 499, 200
FRESH_CADENCES, FRESH_S = 2.5, 5.0  # a last reading older than both says nothing about where the kill came
HOLD_CADENCES = 1.5                 # a gap in the samples is no time spent at the reading before it (protocol/events)


@dataclass(frozen=True, slots=True)
class Readings:
    """What the runs of one device type say. Rows of one matrix belong to each other by index."""

    device_type: str
    exposure_s: Reals               # [runs, BINS] seconds spent at each used/limit
    at_kill: Reals                  # [runs, BINS] kills by their last reading
    before: Reals                   # [kills, BINS] each row sums to 1: five minutes before a kill, by time
    run_of_kill: NDArray[np.int64]  # [kills] row of `at_kill`
    unread: int                     # kills without a fresh reading: counted here and nowhere else

    @property
    def kills(self) -> int:
        """How many kills have a reading."""
        return len(self.before)


@dataclass(frozen=True, slots=True)
class Peak:
    """What a histogram looks like. Ratios are NaN where there is nothing to look at."""

    shape: str
    kills: int
    at_ratio: float                 # the median of the votes in the fullest window
    share: float                    # of all votes in it
    p_value: float
    agreement: float                # share of resamples of runs that give the same shape


def readings_of(runs: Sequence[Run]) -> dict[str, Readings]:
    """Return the readings of every device type, types in order of their names."""
    by_type: dict[str, list[Run]] = {}
    for run in runs:
        by_type.setdefault(run.device_type, []).append(run)
    return {name: _readings(name, by_type[name]) for name in sorted(by_type)}


def used_ratio(run: Run) -> Reals:
    """Return float64[n] used/limit of the binding constraint; from the headroom where used is unknown; 0…1."""
    limit = run.columns["limit_bytes"]
    used = run.columns["used_bytes"]
    used = np.where(np.isnan(used), limit - run.columns["headroom_bytes"], used)
    return np.clip(used / limit, 0.0, 1.0)


def peak_of(votes: Reals, run_of_kill: NDArray[np.int64], exposure_s: Reals, seed: int = 1) -> Peak:
    """Name the shape of a histogram.

    Args:
        votes: float64[kills, BINS], each row one kill's, summing to 1.
        run_of_kill: which run each row is of: runs are what is resampled.
        exposure_s: float64[BINS] where the type spends its time: what chance could have reached.
        seed: of the shufflings and resamples.
    """
    kills = len(votes)
    if not kills:
        return Peak(UNKNOWN, 0, np.nan, np.nan, np.nan, np.nan)
    at_ratio, share = _fullest(votes.mean(axis=0))
    if kills < LEAST_KILLS:
        return Peak(UNKNOWN, kills, at_ratio, share, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    chance = _by_chance(votes, _lowest_bin(exposure_s), rng)
    p_value = float((1 + np.count_nonzero(chance >= share - 1e-12)) / (1 + SHUFFLINGS))
    least = max(SHARP_SHARE, float(np.quantile(chance, 1 - MOST_P)))
    shape = _named(at_ratio, share, SHARP_SHARE) if p_value <= MOST_P else FLAT
    same = [_named(*_fullest(mean), least) == shape for mean in _resampled(votes, run_of_kill, rng)]
    return Peak(shape, kills, at_ratio, share, p_value, float(np.mean(same)))


def one_per_kill(readings: Readings) -> Reals:
    """Return `at_kill` as votes: float64[kills, BINS], one 1 in each row, in the order of `run_of_kill`."""
    rows, bins = np.nonzero(readings.at_kill)
    counts = readings.at_kill[rows, bins].astype(np.int64)
    votes = np.zeros((int(counts.sum()), BINS))
    votes[np.arange(len(votes)), np.repeat(bins, counts)] = 1.0
    return votes


def _readings(name: str, runs: Sequence[Run]) -> Readings:
    exposure_s, at_kill = np.zeros((len(runs), BINS)), np.zeros((len(runs), BINS))
    before: list[Reals] = []
    run_of_kill: list[int] = []
    unread = 0
    for row, run in enumerate(runs):
        bins = np.minimum((used_ratio(run) * BINS + 1e-9).astype(np.int64), BINS - 1)
        spent_s = _spent_s(run)
        exposure_s[row] = np.bincount(bins, spent_s, BINS)
        begun_s = -np.inf
        for kill_s in run.kills_s:
            low, end = np.searchsorted(run.t_s, [max(kill_s - HORIZON_S, begun_s), kill_s])
            begun_s = kill_s
            if end <= low or kill_s - run.t_s[end - 1] > max(FRESH_CADENCES * run.cadence_s, FRESH_S):
                unread += 1
                continue
            at_kill[row, bins[end - 1]] += 1
            votes = np.bincount(bins[low:end], np.maximum(spent_s[low:end], 1e-9), BINS)
            before.append(votes / votes.sum())
            run_of_kill.append(row)
    return Readings(name, exposure_s, at_kill, np.array(before).reshape(len(before), BINS),
                    np.array(run_of_kill, np.int64), unread)


def _spent_s(run: Run) -> Reals:
    """Return how long each reading stood: until the next, the end, or 1.5 cadences, whichever is first."""
    until = np.append(run.t_s[1:], max(run.end_s, float(run.t_s[-1])))
    return np.minimum(until - run.t_s, HOLD_CADENCES * run.cadence_s)


def _fullest(mean: Reals) -> tuple[float, float]:
    """Return (median of the votes in the fullest window, their share of all). Of equals, the highest window."""
    width = round(WINDOW_RATIO * BINS)
    sums = _windows(mean[None, :], width)[0]
    begin = len(sums) - 1 - int(np.argmax(np.round(sums[::-1], 12)))
    inside = np.cumsum(mean[begin:begin + width])
    middle = begin + int(np.searchsorted(inside, inside[-1] / 2))
    return (middle + 0.5) / BINS, float(sums[begin])


def _windows(rows: Reals, width: int) -> Reals:
    summed = np.cumsum(np.pad(rows, ((0, 0), (1, 0))), axis=1)
    return np.asarray(summed[:, width:] - summed[:, :-width], np.float64)


def _lowest_bin(exposure_s: Reals) -> int:
    """Return where the 5 % quantile of the time spent lies; at least one window is left above it."""
    summed = np.cumsum(exposure_s)
    return min(int(np.searchsorted(summed, 0.05 * summed[-1])), BINS - 2 * round(WINDOW_RATIO * BINS))


def _by_chance(votes: Reals, lowest: int, rng: np.random.Generator) -> Reals:
    """Return the share in the fullest window of each shuffling."""
    circle = votes[:, lowest:].copy()
    circle[:, 0] += votes[:, :lowest].sum(axis=1)
    width, size = round(WINDOW_RATIO * BINS), circle.shape[1]
    rows = np.arange(len(circle))[:, None]
    found = np.zeros(SHUFFLINGS)
    for at in range(SHUFFLINGS):
        turned = (np.arange(size)[None, :] + rng.integers(0, size, len(circle))[:, None]) % size
        found[at] = _windows(circle[rows, turned].mean(axis=0)[None, :], width).max()
    return found


def _resampled(votes: Reals, run_of_kill: NDArray[np.int64], rng: np.random.Generator) -> Reals:
    """Return float64[RESAMPLES, BINS]: mean votes of runs drawn with replacement."""
    _, run = np.unique(run_of_kill, return_inverse=True)
    count = int(run.max()) + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)[:, run].astype(np.float64)
    return np.asarray(drawn @ votes / drawn.sum(axis=1, keepdims=True), np.float64)


def _named(at_ratio: float, share: float, least: float) -> str:
    if share < least:
        return FLAT
    return NEAR if at_ratio >= NEAR_RATIO else PREMATURE
