"""From counts to the figures that are always shown together, with intervals clustered by program."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard.learn.protocol import LEADS_S, Tally, tally, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oomguard.learn.protocol import Track

BUDGETS_PER_H = (0.1, 0.5, 1.0, 2.0, 5.0)
EVENTS_NEEDED = 3.0        # zero alarms in T hours bound the rate only at 3/T
RESAMPLES = 1000


def figures_of(counts: Tally) -> dict[str, Any]:
    """Return the figures of DESIGN 5; None where there is nothing to divide by."""
    quiet_h = counts.quiet_s / 3600.0
    return {
        "recall": {str(lead): _ratio(counts.caught[at], counts.eligible[at]) for at, lead in enumerate(LEADS_S)},
        "ineligible": {str(lead): int(counts.kills - counts.eligible[at]) for at, lead in enumerate(LEADS_S)},
        "false_alarms_per_hour": _ratio(counts.false, quiet_h),
        "early_per_hour": _ratio(counts.early, quiet_h),
        "flaps_per_hour": _ratio(counts.flaps, quiet_h),
        "alarm_time_ratio": _ratio(counts.alarm_s, counts.quiet_s),
        "median_lead_s": float(np.median(counts.leads_s)) if counts.leads_s else None,
    }


def intervals_of(by_program: dict[str, Tally], reference: dict[str, Tally] | None, seed: int) -> dict[str, Any]:
    """Return 95 % intervals from a bootstrap over programs, and those of the difference to a reference system.

    Every system is resampled with the same seed, hence the same programs: the differences are paired.
    """
    programs = sorted(by_program)
    rng = np.random.default_rng(seed)
    draws = [[programs[i] for i in rng.integers(0, len(programs), len(programs))] for _ in range(RESAMPLES)]
    own = np.array([_flat(total(by_program[name] for name in draw)) for draw in draws])
    result: dict[str, Any] = dict(zip(_flat_names(), _percentiles(own), strict=True))
    if reference is not None:
        other = np.array([_flat(total(reference[name] for name in draw)) for draw in draws])
        result["minus_oomguard"] = dict(zip(_flat_names(), _percentiles(own - other), strict=True))
    counts = total(by_program.values())
    if counts.false == 0 and counts.quiet_s > 0:   # no resample of zeros is anything but zero
        result["false_alarms_per_hour"] = [0.0, EVENTS_NEEDED / (counts.quiet_s / 3600.0)]
    return result


def recall_at_budgets(tracks: Sequence[Track]) -> dict[str, dict[str, float | None] | None]:
    """Return, for each budget of false alarms per hour, the best recall any one threshold reaches within it.

    The threshold is chosen in hindsight, for every system alike. None where the quiet hours cannot show that a
    budget was kept: hours × budget must be at least 3.
    """
    scores = np.concatenate([track.score[np.isfinite(track.score)] for track in tracks])
    if not len(scores):
        candidates = np.zeros(1)
    else:
        candidates = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, 61), method="nearest"))
    sweep = [total(tally(track, threshold) for track in tracks) for threshold in [*candidates, math.inf]]
    quiet_h = sweep[0].quiet_s / 3600.0
    result: dict[str, dict[str, float | None] | None] = {}
    for budget in BUDGETS_PER_H:
        kept = [counts for counts in sweep if counts.false <= budget * quiet_h]
        result[f"{budget:g}"] = None if quiet_h * budget < EVENTS_NEEDED else {
            str(lead): max((r for r in (_ratio(c.caught[at], c.eligible[at]) for c in kept) if r is not None),
                           default=None) for at, lead in enumerate(LEADS_S)}
    return result


def _ratio(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole > 0 else None


def _flat_names() -> list[str]:
    return [*(f"recall_{lead}" for lead in LEADS_S), "false_alarms_per_hour", "early_per_hour", "alarm_time_ratio",
            "median_lead_s"]


def _flat(counts: Tally) -> list[float]:
    figures = figures_of(counts)
    values = [*figures["recall"].values(), figures["false_alarms_per_hour"], figures["early_per_hour"],
              figures["alarm_time_ratio"], figures["median_lead_s"]]
    return [math.nan if value is None else value for value in values]


def _percentiles(rows: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float] | None]:
    result: list[list[float] | None] = []
    for column in rows.T:
        known = column[np.isfinite(column)]
        result.append([float(np.quantile(known, q)) for q in (0.025, 0.975)] if len(known) else None)
    return result
