"""What no reader of memory can avoid: kills out of stillness, and caps that are not told; and what facts change.

Two lower bounds. A kill whose memory stood still until less than the lead before it is seen by nobody who does not
also alarm while memory stands still. And a run that a hidden cap stops follows, until then, the very curve of a leak
(the lab draws it from the leaks' shapes, and keeps only curves that would pass the limit): whoever would see that
leak in time must alarm here too, where the cap is reached later than that moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.learn.evaluate.account import UNTOLD, bound_of, ratio_each_second
from oomguard.learn.evaluate.why import STILL_S, fills_s
from oomguard.learn.label.labels import HORIZON_S
from oomguard.learn.protocol.curves import REACHES_RATIO, REACHES_S
from oomguard.learn.protocol.events import AGE_MARGIN_S, total
from oomguard.learn.protocol.figures import figures_of
from oomguard.learn.protocol.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from oomguard.learn.dataset import Run
    from oomguard.learn.evaluate.instead import Counts
    from oomguard.learn.evaluate.systems import System
    from oomguard.learn.evaluate.why import Planned

AT_CAP_RATIO = 0.02         # of the limit: so near its highest, a run has reached its cap
SAMPLED_S = 30.0            # how often quiet time is asked whether memory stands still


class Twin(NamedTuple):
    """A run that its cap stopped, and when the same curve without the cap would have ended in a kill."""

    run_id: str
    capped_s: float
    killed_s: float


def ceiling_of(runs: Sequence[Run], eligible: Sequence[tuple[int, float]], model: Counts,
               equal: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how many kills memory announced at all, and how many of the others 85 % recall asks for.

    Args:
        runs: the runs.
        eligible: (run, time) of the kills of runs old enough.
        model: for the quiet hours.
        equal: the comparison at equal recall, if there is one.
    """
    still = sum(fills_s(runs[at], kill_s - REACHES_S) > STILL_S for at, kill_s in eligible)
    asked = equal["of_baseline"]["recall"][str(REACHES_S)] if equal else REACHES_RATIO
    quiet = [(run, at_s) for run in runs
             for at_s in np.arange(run.start_s + SAMPLED_S, run.end_s - HORIZON_S, SAMPLED_S).tolist()]
    standing = sum(fills_s(run, at_s) > STILL_S for run, at_s in quiet)
    return {"kills": len(eligible), "out_of_stillness": still,
            "ratio": 1.0 - still / len(eligible) if eligible else None, "asked_ratio": asked,
            "from_stillness_at_least": max(0, round(asked * len(eligible)) - (len(eligible) - still)),
            "quiet_hours_still": standing / len(quiet) * float(model.quiet_h.sum()) if quiet else 0.0}


def hidden_caps_of(runs: Sequence[Run], planned: Sequence[Planned | None], alarms: Sequence[Mapping[str, Any]],
                   points: int, quiet_h: float) -> dict[str, Any] | None:
    """Return what runs of a hidden cap cost, and how much of that nobody could have avoided; None without plans.

    Args:
        runs: the runs.
        planned: each run's plan.
        alarms: false alarms, with point, run_id and at_s.
        points: how many points there are.
        quiet_h: of all runs.
    """
    hidden = [(run, plan) for run, plan in zip(runs, planned, strict=True)
              if plan is not None and plan.has_bound and bound_of(run) == UNTOLD]
    if not hidden:
        return None
    twins = {run.run_id: _twin_of(run, plan.crosses_s) for run, plan in hidden if np.isfinite(plan.crosses_s)}
    names = {run.run_id for run, _plan in hidden}
    of_hidden = [[alarm for alarm in alarms if alarm["point"] == at and alarm["run_id"] in names]
                 for at in range(points)]
    right = [sum(alarm["run_id"] in twins and _is_right(twins[alarm["run_id"]], alarm["at_s"]) for alarm in each)
             for each in of_hidden]
    must = [run.run_id for run, _plan in hidden if run.run_id in twins and _must_alarm(run, twins[run.run_id])]
    return {"runs": len(hidden), "twins_of_a_leak": len(twins),
            "quiet_hours": sum(max(run.end_s - run.start_s - HORIZON_S, 0.0) for run, _plan in hidden) / 3600.0,
            "false_alarms": [len(each) for each in of_hidden], "right_but_for_the_cap": right,
            "unavoidable_runs": must, "unavoidable_per_hour": len(must) / quiet_h if quiet_h else None}


def facts_of(runs: Sequence[Run], planned: Sequence[Planned | None], systems: Mapping[str, System],
             names: Sequence[str]) -> list[dict[str, Any]]:
    """Return figures of runs that told their cap, hid it, have none, told their phase or not: of each system."""
    groups: dict[str, Callable[[int], bool]] = {
        "told their cap": lambda at: bound_of(runs[at]) != UNTOLD,
        "hid their cap": lambda at: bound_of(runs[at]) == UNTOLD and _has_bound(planned[at]) is True,
        "have no cap": lambda at: _has_bound(planned[at]) is False,
        "told no cap": lambda at: bound_of(runs[at]) == UNTOLD and _has_bound(planned[at]) is None,
        "told their phase": lambda at: any(runs[at].phase),
        "told no phase": lambda at: not any(runs[at].phase)}
    found = []
    for group, is_in in groups.items():
        some = [at for at in range(len(runs)) if is_in(at)]
        figures = {name: figures_of(total(sweep(systems[name].tracks[at], (systems[name].thresholds[at],)).at(0)
                                          for at in some)) for name in names if name in systems}
        hours = sum(max(runs[at].end_s - runs[at].start_s - HORIZON_S, 0.0) for at in some) / 3600.0
        if some:
            found.append({"runs_that": group, "runs": len(some), "quiet_hours": hours, "systems": figures})
    return found


def _twin_of(run: Run, crosses_s: float) -> Twin:
    r = ratio_each_second(run, run.start_s, run.end_s)
    reached = int(np.argmax(r >= r.max() - AT_CAP_RATIO)) if len(r) else 0
    return Twin(run.run_id, run.start_s + reached, run.start_s + crosses_s)


def _is_right(twin: Twin, at_s: float) -> bool:
    """Whether an alarm, raised before the cap was reached, would have had its kill within 300 s without the cap."""
    return at_s <= twin.capped_s and 0.0 < twin.killed_s - at_s <= HORIZON_S


def _must_alarm(run: Run, twin: Twin) -> bool:
    """Whether at the lead before its twin's kill the run moved, had not reached its cap, and was in guarded time."""
    at_s = twin.killed_s - REACHES_S
    is_guarded = run.start_s + AGE_MARGIN_S < at_s < run.end_s - HORIZON_S
    return is_guarded and at_s <= twin.capped_s and fills_s(run, at_s) <= STILL_S


def _has_bound(plan: Planned | None) -> bool | None:
    return None if plan is None else plan.has_bound
