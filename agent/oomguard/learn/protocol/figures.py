"""From counts to the figures that are always shown together, with intervals clustered by program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard.learn.protocol.events import LEADS_S, total

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.protocol.curves import Points
    from oomguard.learn.protocol.events import Tally

    Reals = NDArray[np.float64]

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
    draws = draws_of(len(by_program), seed)
    own = _resampled(by_program, draws)
    result: dict[str, Any] = dict(zip(_flat_names(), _percentiles(own), strict=True))
    if reference is not None:
        result["minus_oomguard"] = dict(zip(_flat_names(), _percentiles(own - _resampled(reference, draws)),
                                            strict=True))
    counts = total(by_program.values())
    if counts.false == 0 and counts.quiet_s > 0:   # no resample of zeros is anything but zero
        result["false_alarms_per_hour"] = [0.0, EVENTS_NEEDED / (counts.quiet_s / 3600.0)]
    return result


def draws_of(programs: int, seed: int) -> Reals:
    """Return float[RESAMPLES, programs]: how often each program is in each resample; every row sums to `programs`."""
    drawn = np.random.default_rng(seed).integers(0, programs, (RESAMPLES, programs))
    return np.array([np.bincount(row, minlength=programs) for row in drawn], np.float64)


def recall_at_budgets(points: Points) -> dict[str, dict[str, float | None] | None]:
    """Return, for each budget of false alarms per hour, the best recall any one threshold reaches within it.

    The threshold is chosen in hindsight, for every system alike. None where the quiet hours cannot show that a
    budget was kept: hours x budget must be at least 3.
    """
    result: dict[str, dict[str, float | None] | None] = {}
    for budget in BUDGETS_PER_H:
        is_kept = points.false <= budget * points.quiet_h
        is_shown = points.quiet_h * budget >= EVENTS_NEEDED and bool(is_kept.any())
        best = points.recall[is_kept].max(axis=0) if is_shown else np.empty(0)
        result[f"{budget:g}"] = dict(zip(map(str, LEADS_S), map(_known, best), strict=True)) if is_shown else None
    return result


def _ratio(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole > 0 else None


def _known(value: float) -> float | None:
    return float(value) if value == value else None


def _flat_names() -> list[str]:
    return [*(f"recall_{lead}" for lead in LEADS_S), "false_alarms_per_hour", "early_per_hour", "alarm_time_ratio",
            "median_lead_s"]


def _resampled(by_program: dict[str, Tally], draws: Reals) -> Reals:
    """Return float[resamples, figures] in the order of _flat_names, NaN where there is nothing to divide by."""
    parts = [by_program[name] for name in sorted(by_program)]
    columns = np.array([[*part.caught, *part.eligible, part.false, part.early, part.alarm_s, part.quiet_s]
                        for part in parts])
    sums, width = draws @ columns, len(LEADS_S)
    false, early, alarm_s, quiet_s = sums[:, 2 * width:].T
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = sums[:, :width] / sums[:, width:2 * width]
        rest = np.column_stack([false / quiet_s * 3600.0, early / quiet_s * 3600.0, alarm_s / quiet_s])
    return np.column_stack([recall, np.where(np.isfinite(rest), rest, np.nan), _median_leads(parts, draws)])


def _median_leads(parts: list[Tally], draws: Reals) -> Reals:
    """Return each resample's median lead, of a list in which each program's leads stand as often as it is drawn."""
    leads = np.array([lead for part in parts for lead in part.leads_s])
    if not len(leads):
        return np.full(len(draws), np.nan)
    owner = np.repeat(np.arange(len(parts)), [len(part.leads_s) for part in parts])
    order = np.argsort(leads, kind="stable")
    reached = np.cumsum(draws[:, owner[order]], axis=1)
    count = reached[:, -1:]
    low = (reached <= np.floor((count - 1) / 2)).sum(axis=1)
    high = (reached <= np.floor(count / 2)).sum(axis=1)
    known = np.append(leads[order], np.nan)
    return np.asarray(np.where(count[:, 0] > 0, (known[low] + known[high]) / 2.0, np.nan))


def _percentiles(rows: Reals) -> list[list[float] | None]:
    result: list[list[float] | None] = []
    for column in rows.T:
        known = column[np.isfinite(column)]
        result.append([float(np.quantile(known, q)) for q in (0.025, 0.975)] if len(known) else None)
    return result
