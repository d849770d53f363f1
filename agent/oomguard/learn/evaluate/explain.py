"""Explain the distance to what was asked: reasons counted for the model and the best line, and what would be needed.

Everything follows from scores, recordings and the lab's catalogue: nothing is trained, and a saved evaluation can be
explained long after (`learn report`). The best line is the baseline that `curves.at_equal_recall` picks, as it does for
the judgement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.learn.evaluate.account import UNTOLD, bound_of
from oomguard.learn.evaluate.baselines import all_baselines
from oomguard.learn.evaluate.compare import HIDDEN, MODEL, WINNING_IS_EASY, curve_of
from oomguard.learn.evaluate.instead import counted, rows_of
from oomguard.learn.evaluate.systems import answers_of, baseline_system, forecast_system
from oomguard.learn.evaluate.unavoidable import ceiling_of, facts_of, hidden_caps_of
from oomguard.learn.evaluate.why import (
    FALSE_ALARMS,
    MISSES,
    STILL_S,
    agreeing,
    fills_s,
    moved_s,
    why_false,
    why_missed,
)
from oomguard.learn.label.labels import HORIZON_S
from oomguard.learn.protocol.curves import REACHES_S, at_equal_recall
from oomguard.learn.protocol.events import AGE_MARGIN_S, EARLY_S, SILENT, alarms_of, stands
from oomguard.learn.thresholds.levels import Cost
from oomguard.learn.train.crossval import folds_by_program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run
    from oomguard.learn.evaluate.artefact import Said
    from oomguard.learn.evaluate.systems import System
    from oomguard.learn.evaluate.why import Planned, Reason
    from oomguard.learn.protocol.curves import Points
    from oomguard.learn.protocol.events import Track


class Stand(NamedTuple):
    """A system at one threshold for all runs (or its own, for each)."""

    name: str
    system: str
    tracks: list[Track]
    thresholds: list[float]
    forecasts: list[NDArray[np.float64]] | None


def explain(report: dict[str, Any], runs: list[Run], systems: Mapping[str, System],
            planned: Mapping[str, Planned]) -> None:
    """Put `reasons` into the report, and `because` (a reason's key) to each miss and false alarm of its account.

    Args:
        report: of the evaluation; its account is the model's at its operating point.
        runs: the recorded runs.
        systems: what all of them said: compare.Scored's, or systems_from.
        planned: what the lab had planned, by run; empty: not known.
    """
    plans = agreeing(runs, planned)
    points = {name: curve_of(runs, system) for name, system in systems.items() if name not in WINNING_IS_EASY}
    equal, kept = (at_equal_recall(points[MODEL], {
        each.name: points[each.name] for each in all_baselines() if each.is_kept == is_kept and each.name in points},
        seed=0) for is_kept in (False, True))
    stands_ = _stands(systems, points, equal, kept)
    events = [event for at, stand in enumerate(stands_) for event in _events(at, stand, runs, plans)]
    eligible = [(at, kill_s) for at, run in enumerate(runs) for kill_s in run.kills_s.tolist()
                if kill_s - systems[MODEL].tracks[at].start_s > REACHES_S + AGE_MARGIN_S]
    asked = {MODEL, *(each.name for each in all_baselines() if not each.is_kept)}
    counts = counted(runs, {name: systems[name] for name in points if name in asked}, points)
    quiet_h = float(counts[MODEL].quiet_h.sum())
    announced = np.array([fills_s(run, kill_s - REACHES_S) <= STILL_S for run in runs for kill_s in run.kills_s], bool)
    false_alarms = _table(FALSE_ALARMS, "false alarm", stands_, events, quiet_h)
    report["reasons"] = {
        "lead_s": REACHES_S, "plans_known": sum(plan is not None for plan in plans),
        "points": [{"name": stand.name, "system": stand.system} for stand in stands_],
        "quiet_hours": quiet_h, "kills": len(eligible),
        "false_alarms": false_alarms, "by_remedy": _by_remedy(false_alarms),
        "misses": _table(MISSES, "miss", stands_, events, None), "events": events,
        "runs": _known_of(runs, plans, {event["run_id"] for event in events}),
        "ceiling": ceiling_of(runs, eligible, counts[MODEL], equal),
        "instead": rows_of(runs, counts, plans, announced, seed=1),
        "hidden_caps": hidden_caps_of(runs, plans, [event for event in events if event["what"] == "false alarm"],
                                      len(stands_), quiet_h),
        "facts": facts_of(runs, plans, systems, (MODEL, HIDDEN, *([equal["baseline"]] if equal else ())))}
    _annotate(report["account"], runs, plans, systems[MODEL])


def systems_from(report: Mapping[str, Any], runs: list[Run], said: Mapping[str, Said]) -> dict[str, System]:
    """Return all systems of the main split from what a saved evaluation holds."""
    protocol = report["protocol"]
    cost = Cost(protocol["miss_to_false_alarm"], protocol["field_kills_per_h"])
    folds = folds_by_program(runs)
    found = {name: forecast_system(name, runs, each.forecasts, each.levels, {}) for name, each in said.items()}
    return found | {each.name: baseline_system(answers_of(each, runs), runs, folds, cost) for each in all_baselines()}


def _stands(systems: Mapping[str, System], points: Mapping[str, Points], equal: Mapping[str, Any] | None,
            kept: Mapping[str, Any] | None) -> list[Stand]:
    """Return the model where it stands; at equal recall the model, the best line, and the best with kept alarms."""
    model = systems[MODEL]
    found = [Stand("oomguard, where it stands", MODEL, model.tracks, model.thresholds, model.forecasts)]
    if equal is None or equal["of_model"] is None:
        return found
    wanted = [(MODEL, equal["of_model"]), (equal["baseline"], equal["of_baseline"])]
    for name, point in [*wanted, *([(kept["baseline"], kept["of_baseline"])] if kept else [])]:
        known = points[name].threshold
        nearest = float(known[np.abs(known - point["threshold"]).argmin()])     # the report's is rounded
        found.append(Stand(f"{name}, at {100 * point['recall'][str(REACHES_S)]:.0f} % recall", name,
                           systems[name].operating_tracks, [nearest] * len(model.tracks), systems[name].forecasts))
    return found


def _events(point: int, stand: Stand, runs: Sequence[Run], plans: Sequence[Planned | None]) -> list[dict[str, Any]]:
    """Return every false alarm and every miss of a system at a point, with its reason."""
    found: list[dict[str, Any]] = []
    for at, (run, track, threshold) in enumerate(zip(runs, stand.tracks, stand.thresholds, strict=True)):
        is_high = (track.score >= threshold) & (track.score > SILENT)
        silent = np.isnan(stand.forecasts[at][:, 0]) if stand.forecasts else np.zeros(len(run.t_s), bool)
        for at_s in alarms_of(is_high, track.seconds):
            next_s = _next_kill_s(run, at_s)
            if at_s < track.end_s - HORIZON_S and next_s > HORIZON_S:
                why = why_false(run, at_s, next_s, plans[at], is_silent=_at(run, silent, at_s))
                found.append({"point": point, "what": "false alarm", "run_id": run.run_id, "at_s": at_s,
                              "reason": why, "is_early": next_s <= EARLY_S})
        for kill_s in run.kills_s.tolist():
            is_old = kill_s - track.start_s > REACHES_S + AGE_MARGIN_S
            if is_old and not stands(is_high, track.seconds, kill_s - REACHES_S):
                found.append({"point": point, "what": "miss", "run_id": run.run_id, "at_s": kill_s - REACHES_S,
                              "reason": _why_missed(run, track, is_high, kill_s, REACHES_S, plans[at], silent)})
    return found


def _why_missed(run: Run, track: Track, is_high: NDArray[np.bool_], kill_s: float, lead_s: float,
                plan: Planned | None, silent: NDArray[np.bool_]) -> str:
    in_alarm = track.seconds[is_high & (track.seconds < kill_s) & (track.seconds >= kill_s - HORIZON_S)]
    return why_missed(run, kill_s, lead_s, in_alarm, plan, is_silent=_at(run, silent, kill_s - lead_s))


def _table(reasons: Sequence[Reason], what: str, stands_: Sequence[Stand], events: Sequence[dict[str, Any]],
           quiet_h: float | None) -> list[dict[str, Any]]:
    """Return a row per reason: how often at each point, what share of all, and how many an hour."""
    of = [[event["reason"] for event in events if event["point"] == at and event["what"] == what]
          for at in range(len(stands_))]
    return [{**reason._asdict(), "counts": (counts := [each.count(reason.key) for each in of]),
             "shares": [count / len(each) if each else None for count, each in zip(counts, of, strict=True)],
             "per_hour": [count / quiet_h for count in counts] if quiet_h else None} for reason in reasons]


def _known_of(runs: Sequence[Run], plans: Sequence[Planned | None], wanted: set[str]) -> dict[str, dict[str, Any]]:
    """Return what is known of each run that has an event: what was planned, where it is known, and what was told."""
    return {run.run_id: {"kind": plan.kind if plan else None, "shape": plan.shape if plan else None,
                         "bound": bound_of(run), "hides_cap": bool(plan and plan.has_bound and bound_of(run) == UNTOLD),
                         "tells_phase": any(run.phase), "limit_bytes": float(run.columns["limit_bytes"][-1])}
            for run, plan in zip(runs, plans, strict=True) if run.run_id in wanted}


def _by_remedy(rows: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    """Return how many at each point each kind of remedy could have avoided."""
    counts: dict[str, list[list[int]]] = {}
    for row in rows:
        counts.setdefault(row["remedy"], []).append(row["counts"])
    return {remedy: [sum(each) for each in zip(*of, strict=True)] for remedy, of in counts.items()}


def _annotate(account: dict[str, list[dict[str, Any]]], runs: Sequence[Run], plans: Sequence[Planned | None],
              model: System) -> None:
    numbers = {run.run_id: at for at, run in enumerate(runs)}
    for event in account["false_alarms"]:
        at = numbers[event["run_id"]]
        event["because"] = why_false(runs[at], event["at_s"], _next_kill_s(runs[at], event["at_s"]), plans[at],
                                     is_silent=event["forecast"] is None)
    for event in account["misses"]:
        at = numbers[event["run_id"]]
        track = model.tracks[at]
        silent = np.full(len(runs[at].t_s), event["forecast"] is None)
        event["because"] = _why_missed(runs[at], track, track.score >= model.thresholds[at], event["kill_s"],
                                       event["judged_lead_s"], plans[at], silent)
        event["still_until_s"] = moved_s(runs[at], event["kill_s"])


def _next_kill_s(run: Run, at_s: float) -> float:
    ahead = run.kills_s[run.kills_s > at_s]
    return float(ahead[0]) - at_s if len(ahead) else np.inf


def _at(run: Run, values: NDArray[np.bool_], at_s: float) -> bool:
    return bool(values[max(int(run.t_s.searchsorted(at_s + 1e-9, side="right")) - 1, 0)])
