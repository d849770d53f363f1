"""What the comparison at equal recall would have been if: runs count more, less or not at all; scores stay as they are.

Whether a run may tell its cap, and whether its phase, was drawn by lot when the lab planned it. So the runs that told
can stand for all of their kind: they are weighted up to the quiet hours of the whole kind, and what comes out is an
estimate of the same programs all telling, not an imagined figure. What is set aside is simply not counted. Every row
picks its best baseline anew, at the same recall for both, as curves.at_equal_recall does: chosen in hindsight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.learn.evaluate.compare import MODEL, WINNING_IS_EASY
from oomguard.learn.protocol.curves import Points, at_equal_recall
from oomguard.learn.protocol.events import AGE_MARGIN_S, LEADS_S, SILENT
from oomguard.learn.protocol.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run
    from oomguard.learn.evaluate.systems import System
    from oomguard.learn.evaluate.why import Planned
    from oomguard.learn.protocol.events import Track

    Reals = NDArray[np.float64]

SAME_SCORES = ("level 0.80", "level 0.90")      # points on the sweep of the level threshold
QUARTER = 0.25
LEAST = float(np.finfo(np.float64).min)      # silence reaches no threshold, as in protocol/sweep.py


class Counts(NamedTuple):
    """What each of K thresholds of a system counts in each run; float32, for there are many."""

    threshold: Reals                            # [K]
    false: NDArray[np.float32]                  # [runs, K], as early and alarm_s
    early: NDArray[np.float32]
    alarm_s: NDArray[np.float32]
    caught: NDArray[np.float32]                 # [kills, K, leads]
    eligible: NDArray[np.float32]               # [kills, leads]
    quiet_h: Reals                              # [runs]
    owner: NDArray[np.intp]                     # [kills] whose they are
    programs: list[str]                         # [runs]


class Change(NamedTuple):
    """One thing that is otherwise."""

    says: str
    weight: Reals | None = None                 # [runs] instead of 1
    kept_kills: NDArray[np.bool_] | None = None
    spares_early: bool = False                  # an alarm with a kill after 300-900 s is not called false


def counted(runs: Sequence[Run], systems: Mapping[str, System], points: Mapping[str, Points]) -> dict[str, Counts]:
    """Return the counts of every system that may be the best at a recall, at the thresholds of its curve."""
    return {name: _counts(runs, system, points[name].threshold) for name, system in systems.items()
            if name not in (*SAME_SCORES, *WINNING_IS_EASY)}


def rows_of(runs: Sequence[Run], counts: Mapping[str, Counts], planned: Sequence[Planned | None],
            announced: NDArray[np.bool_], seed: int) -> list[dict[str, Any]]:
    """Return one row per change, alone and on top of all before it; the first is the set as it is.

    Args:
        runs: the runs.
        counts: of the model and the baselines.
        planned: each run's plan, where it is known.
        announced: [kills] whether memory moved before the lead, in the order of the runs.
        seed: of the intervals.
    """
    rows, before = [], Change("")
    for change in (Change("as recorded"), *_changes(runs, counts[MODEL].quiet_h, planned, announced)):
        before = _both(before, change)
        rows.append({"says": change.says, "alone": _compared(counts, change, seed),
                     "with_all_before": _compared(counts, before, seed)})
    return rows


def points_with(counts: Counts, change: Change) -> Points:
    """Return the points of a system under a change."""
    weight = np.ones(len(counts.quiet_h)) if change.weight is None else change.weight
    is_kept = np.ones(len(counts.owner), bool) if change.kept_kills is None else change.kept_kills
    of_kills = weight[counts.owner] * is_kept
    false = counts.false - counts.early if change.spares_early else counts.false
    eligible, quiet_h = of_kills @ counts.eligible, float(weight @ counts.quiet_h)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.einsum("n,nkl->kl", of_kills, counts.caught) / eligible
        alarm_ratio = (weight @ counts.alarm_s) / (3600.0 * quiet_h)
    programs = np.array(counts.programs)
    by_program = {name: (weight[programs == name] @ false[programs == name],
                         float(weight[programs == name] @ counts.quiet_h[programs == name]))
                  for name in sorted(set(counts.programs))}
    return Points(counts.threshold, recall, weight @ false, weight @ counts.early, alarm_ratio, quiet_h, eligible,
                  by_program)


def _changes(runs: Sequence[Run], quiet_h: Reals, planned: Sequence[Planned | None], announced: NDArray[np.bool_],
             ) -> list[Change]:
    found = [Change("kills out of stillness are set aside: nobody is asked to see them", kept_kills=announced),
             Change("an alarm with a kill after 5 to 15 minutes is not called false", spares_early=True)]
    if any(plan is None for plan in planned):
        return found
    plans = [plan for plan in planned if plan is not None]
    has_cap = np.array([plan.has_bound for plan in plans])
    tells_cap = ~has_cap | np.array([_tells_cap(run) for run in runs])
    tells_phase = np.array([plan.is_phase_told for plan in plans])
    kinds = (has_cap, ~has_cap)
    found += [Change("every app with a cap tells it", weight=_standing_for_all(tells_cap, kinds, quiet_h)),
              Change("every app tells its cap and its phase",
                     weight=_standing_for_all(tells_cap & tells_phase, kinds, quiet_h))]
    return [change for change in found if change.weight is None or change.weight.any()]


def _standing_for_all(some: NDArray[np.bool_], kinds: Sequence[NDArray[np.bool_]], quiet_h: Reals) -> Reals:
    """Return weights with which some runs of each kind have the quiet hours of all of it; 1 where none can."""
    weight = np.zeros(len(some))
    for kind in kinds:
        hours = float(quiet_h[kind & some].sum())
        weight[kind & some if hours else kind] = float(quiet_h[kind].sum()) / hours if hours else 1.0
    return weight


def _both(first: Change, then: Change) -> Change:
    """Return two changes at once; of two weightings the later one holds, which is of fewer runs."""
    weight = first.weight if then.weight is None else then.weight
    kept = first.kept_kills if then.kept_kills is None else then.kept_kills
    return Change(then.says, weight, kept, first.spares_early or then.spares_early)


def _compared(counts: Mapping[str, Counts], change: Change, seed: int) -> dict[str, Any] | None:
    found = at_equal_recall(points_with(counts[MODEL], change),
                            {name: points_with(each, change) for name, each in counts.items()
                             if not name.startswith(MODEL)}, seed)
    if found is None or found["of_model"] is None:
        return None
    return {"baseline": found["baseline"], "recall": found["of_baseline"]["recall"][str(found["lead_s"])],
            "model_per_hour": found["of_model"]["false_alarms_per_hour"],
            "baseline_per_hour": found["of_baseline"]["false_alarms_per_hour"],
            "ratio": found["false_alarm_ratio"], "interval": found["interval"],
            "is_a_quarter": found["false_alarm_ratio"] is not None and found["false_alarm_ratio"] <= QUARTER}


def _counts(runs: Sequence[Run], system: System, threshold: Reals) -> Counts:
    tracks = system.operating_tracks
    swept = [sweep(track, threshold) for track in tracks]
    old = np.concatenate([(track.kills_s[:, None] - track.start_s) > np.array(LEADS_S) + AGE_MARGIN_S
                          for track in tracks])
    stood = np.array([_scores_ahead(track, kill_s) for track in tracks for kill_s in track.kills_s])
    caught = (stood.reshape(-1, 1, len(LEADS_S)) >= np.maximum(threshold, LEAST)[:, None]) & old[:, None, :]
    false, early, alarm_s = (np.array([getattr(each, name) for each in swept], np.float32)
                             for name in ("false", "early", "alarm_s"))
    return Counts(
        threshold, false, early, alarm_s, caught.astype(np.float32), old.astype(np.float32),
        np.array([each.quiet_s for each in swept]) / 3600.0,
        np.repeat(np.arange(len(tracks)), [len(track.kills_s) for track in tracks]), [run.app for run in runs])


def _scores_ahead(track: Track, kill_s: float) -> list[float]:
    """Return the score that stood at each lead before a kill."""
    at = [int(track.seconds.searchsorted(kill_s - lead_s, side="right")) - 1 for lead_s in LEADS_S]
    return [float(track.score[each]) if each >= 0 else SILENT for each in at]


def _tells_cap(run: Run) -> bool:
    return any(bytes_ == bytes_ for bytes_ in (run.profile.cache_capacity_bytes, run.profile.heap_limit_bytes))

