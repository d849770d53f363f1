"""Learn the critical threshold of each device type: the used/limit ratio beyond which kills concentrate.

Precisely: let kills strike at rate l0 per hour spent below a ratio c, and l1 > l0 per hour spent at c and above. The
critical threshold is the c of the highest likelihood, among those with at least CONCENTRATED of all kills at or
beyond them. (The change-point of a hazard: Matthews & Farewell 1982; their likelihood is unbounded where a lone event
is left at the end, whence the condition: Nguyen, Rogers & Walker 1984.) Time spent counts, not only where kills
were: a plateau held for hours at 0.9 without a kill moves the threshold above 0.9, and a device that kills at 0.6
of its stated limit has it there. The hazard is over memory, where the textbook's is over time.

The interval comes from a bootstrap over runs. On the logit scale it gives the error of each type's figure, and types
are pooled by the normal-normal model of pooling.py: sure ones keep their own, unsure ones lean on the fleet, and a
type without kills has the fleet's. A change-point's bootstrap is known to be too sure of itself (Seijo & Sen 2011), and
of a few kills it knows nothing: the error is never taken as less than that of the mean of so many kills' last
readings, whose variance is the type's own, moderated by the median of all types' (Smyth 2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oomguard.learn.thresholds.histograms import BINS, Peak, Readings, one_per_kill, peak_of, readings_of
from oomguard.learn.thresholds.pooling import Fleet, expit, fleet_of, logit, shrunk, unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

    Reals = NDArray[np.float64]

CONCENTRATED = 0.5
LEAST_KILLS = 3                     # fewer say nothing of their own
LEAST_TYPES = 3                     # fewer say nothing about how far a type nobody has seen may lie from them
RESAMPLES = 400
USUAL_WEIGHT = 4                    # kills that the median type's variance weighs beside a type's own
HALF_BIN = 0.5 / BINS
Z = 1.959964                        # 95 %
DEFAULT_RATIO = 0.9                 # until one is learned (DESIGN 4.7, act/release.py)


@dataclass(frozen=True, slots=True)
class Own:
    """What a type's own runs say."""

    ratio: float
    interval: tuple[float, float]   # 95 %, bootstrap over runs
    error: float                    # standard error on the logit scale
    below_per_h: float              # kills per hour spent below, and at or beyond
    above_per_h: float


@dataclass(frozen=True, slots=True)
class TypeStudy:
    """Everything learned about where one device type is killed."""

    readings: Readings
    peak: Peak                      # of the kills' last readings: the named shape
    peak_before: Peak               # of all readings in the five minutes before
    own: Own | None                 # None: too few kills, or none beyond any threshold
    ratio: float                    # the critical threshold in use, drawn towards the fleet
    interval: tuple[float, float] | None
    pooled_share: float             # of the fleet in it: 0 all its own, 1 all the fleet's


@dataclass(frozen=True, slots=True)
class Study:
    """All device types, and the fleet they belong to (None: no type has kills enough; DEFAULT_RATIO holds)."""

    types: dict[str, TypeStudy]
    fleet: Fleet | None

    @property
    def ratio(self) -> float:
        """The critical threshold for a device type that is not in the study."""
        return DEFAULT_RATIO if self.fleet is None else _rounded(self.fleet.mean)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where such a type's own threshold is to be expected, 19 times in 20."""
        return None if self.fleet is None or self.fleet.types < LEAST_TYPES else _around(*unseen(self.fleet))


def study_of(runs: Sequence[Run], seed: int = 1) -> Study:
    """Return what the runs say about every device type in them. The same runs and seed give the same study."""
    readings = readings_of(runs)
    owns = {name: own_of(one, seed) for name, one in readings.items()}
    spread = _spread(readings)
    errors = {name: max(own.error, spread[name]) for name, own in owns.items() if own is not None}
    known = {name: float(logit(own.ratio)) for name, own in owns.items() if own is not None}
    fleet = fleet_of(list(known.values()), [errors[name] ** 2 for name in known]) if known else None
    return Study({name: _type_study(one, owns[name], errors.get(name, np.nan), fleet, seed)
                  for name, one in readings.items()}, fleet)


def own_of(readings: Readings, seed: int = 1) -> Own | None:
    """Return a type's own critical threshold with its interval, or None where its kills do not show one."""
    if readings.kills < LEAST_KILLS:
        return None
    exposure_s, kills = readings.exposure_s, readings.at_kill
    at = int(change_points(exposure_s.sum(axis=0)[None], kills.sum(axis=0)[None])[0])
    if at == 0:
        return None
    count = len(kills)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    found = change_points(drawn @ exposure_s, drawn @ kills)
    ratios = found[found > 0] / BINS
    low, high = np.quantile(ratios, [0.025, 0.975]) if len(ratios) else (at / BINS, at / BINS)
    error = float(np.hypot(np.std(logit(ratios)), HALF_BIN / (at / BINS * (1 - at / BINS))))
    interval = (round(max(float(low) - HALF_BIN, 0.0), 4), round(min(float(high) + HALF_BIN, 1.0), 4))
    return Own(at / BINS, interval, error,
               *_rates_per_h(exposure_s.sum(axis=0), kills.sum(axis=0), at))


def change_points(exposure_s: Reals, kills: Reals) -> NDArray[np.int64]:
    """Return, for each row, the bin at whose lower edge the rate of kills jumps up; 0 where it does not.

    Args:
        exposure_s: float64[rows, BINS] seconds spent.
        kills: float64[rows, BINS] kills.
    """
    below_s, below = np.cumsum(exposure_s, axis=1)[:, :-1], np.cumsum(kills, axis=1)[:, :-1]
    above_s, above = exposure_s.sum(axis=1, keepdims=True) - below_s, kills.sum(axis=1, keepdims=True) - below
    is_possible = (above > 0) & (above >= CONCENTRATED * (above + below)) & (above_s > 1e-6) & (below_s > 1e-6)
    with np.errstate(divide="ignore", invalid="ignore"):
        is_possible &= above / above_s > below / below_s
        likelihood = _log_likelihood(below, below_s) + _log_likelihood(above, above_s)
    likelihood = np.where(is_possible, likelihood, -np.inf)
    return np.asarray(np.where(is_possible.any(axis=1), np.argmax(likelihood, axis=1) + 1, 0), np.int64)


def _log_likelihood(kills: Reals, time_s: Reals) -> Reals:
    """Return that of a constant rate at its maximum, up to what all rates share; no kills add nothing."""
    return np.where(kills > 0, kills * np.log(np.where(kills > 0, kills, 1.0) / time_s), 0.0)


def _type_study(readings: Readings, own: Own | None, error: float, fleet: Fleet | None, seed: int) -> TypeStudy:
    time_s = readings.exposure_s.sum(axis=0)
    votes = one_per_kill(readings)
    peaks = (peak_of(votes, readings.run_of_kill, time_s, seed),
             peak_of(readings.before, readings.run_of_kill, time_s, seed))
    if fleet is None:
        return TypeStudy(readings, *peaks, None, DEFAULT_RATIO, None, 1.0)
    if own is None:
        interval = _around(*unseen(fleet)) if fleet.types >= LEAST_TYPES else None
        return TypeStudy(readings, *peaks, None, _rounded(fleet.mean), interval, 1.0)
    value, variance = shrunk(fleet, float(logit(own.ratio)), error**2)
    pooled = error**2 / (error**2 + fleet.between_variance)
    return TypeStudy(readings, *peaks, own, _rounded(value), _around(value, variance),
                     pooled if fleet.types > 1 else 0.0)


def _rates_per_h(exposure_s: Reals, kills: Reals, at: int) -> tuple[float, float]:
    return (float(3600 * kills[:at].sum() / exposure_s[:at].sum()),
            float(3600 * kills[at:].sum() / exposure_s[at:].sum()))


def _spread(readings: dict[str, Readings]) -> dict[str, float]:
    """Return the error of the mean last reading of each type with kills enough, on the logit scale."""
    centres = logit((np.arange(BINS) + 0.5) / BINS)
    levels = {name: np.repeat(centres, one.at_kill.sum(axis=0).astype(np.int64))
              for name, one in readings.items() if one.kills >= LEAST_KILLS}
    usual = float(np.median([values.var(ddof=1) for values in levels.values()])) if levels else 0.0
    moderated = {name: (USUAL_WEIGHT * usual + ((values - values.mean()) ** 2).sum()) / (USUAL_WEIGHT + len(values) - 1)
                 for name, values in levels.items()}
    return {name: float((moderated[name] / len(values)) ** 0.5) for name, values in levels.items()}


def _around(value: float, variance: float) -> tuple[float, float]:
    reach = Z * variance**0.5
    return _rounded(value - reach), _rounded(value + reach)


def _rounded(on_logit: float) -> float:
    return round(expit(on_logit), 4)
