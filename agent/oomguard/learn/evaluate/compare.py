"""Compare oomguard with every baseline under one protocol, on runs that nothing was fitted to.

The main split leaves one program out; others leave one device type out, or split by run. Within a split every
system's parameters (thresholds, calibration, trees) come from the other folds, chosen by the same cost, and the
model is scored as on the device: by its compiled forest, plain levels where it abstains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score

from oomguard.learn.evaluate.account import UNTOLD, bound_of, false_alarms_of, misses_of
from oomguard.learn.evaluate.baselines import all_baselines
from oomguard.learn.evaluate.quality import calibration_of, time_to_limit_error, times_to_limit
from oomguard.learn.evaluate.robust import variants
from oomguard.learn.evaluate.systems import (
    System,
    answers_of,
    baseline_system,
    counts_by_program,
    forecast_system,
    forecasts_of,
    oomguard_system,
)
from oomguard.learn.label.labels import UNLABELLED, labels_of
from oomguard.learn.protocol.curves import at_equal_recall, dominance, points_of, shown
from oomguard.learn.protocol.events import SILENT, total, track_of
from oomguard.learn.protocol.figures import figures_of, intervals_of, recall_at_budgets
from oomguard.learn.protocol.sweep import stands_at, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run
    from oomguard.learn.evaluate.baselines import Baseline
    from oomguard.learn.evaluate.systems import Answers
    from oomguard.learn.protocol.curves import Points
    from oomguard.learn.protocol.events import Tally
    from oomguard.learn.thresholds.levels import Cost
    from oomguard.learn.train.crossval import Fitted

    Reals = NDArray[np.float64]

MODEL, HIDDEN = "oomguard", "oomguard, static facts removed"
REFERENCE_LINE = "linear 120 s"         # beside the model's time to limit
SHOWN_LEADS_S = tuple(float(lead_s) for lead_s in range(10, 301, 10))
WINNING_IS_EASY = ("constant", "never")         # never among those that "saw it" or "alarmed too"

PROTOCOL = {
    "debounce": "2 of the last 3 s on a 1 s grid that holds the last score for 1.5 cadences; "
                "at cadences above 1 s, 2 ticks in a row",
    "alarm": "debounced level >= 1 and none counted in the last 300 s of the run",
    "caught": "debounced level >= 1 at kill - L; recall at L over kills in runs older than L + 10 s",
    "false": "no kill within 300 s after the alarm; early: of those, a kill within 300-900 s",
    "quiet": "all time more than 300 s before a run's end; alarms outside it count nowhere",
    "median_lead_s": "over all kills: since when, within the last 300 s, an alarm had stood; 0 where missed",
    "intervals": "95 %, bootstrap over programs, the same resamples for every system",
    "recall_at_budget": "best recall of any one threshold within the budget, chosen in hindsight for every system "
                        "alike; null where quiet hours x budget < 3",
    "curve": "what each threshold of one system gives, all runs at the same one; chosen in hindsight",
    "pr_auc": "per labelled sample, a kill within 300 s; secondary",
}


class Scored(NamedTuple):
    """All systems of one split, and their figures."""

    systems: dict[str, System]
    points: dict[str, Points]
    rows: dict[str, dict[str, Any]]


class Baselines(NamedTuple):
    """What no split changes: each baseline's answers, its curve, its area under precision and recall."""

    answers: list[Answers]
    points: dict[str, Points]
    pr_auc: dict[str, dict[str, float | None]]
    labels: list[NDArray[np.int8]]


def score_baselines(runs: Sequence[Run]) -> Baselines:
    """Score every baseline on every run, once for all splits."""
    labels = [labels_of(run) for run in runs]
    answers = [answers_of(baseline, runs) for baseline in all_baselines()]
    programs = [run.app for run in runs]
    points = {each.baseline.name: points_of(each.tracks, programs, each.baseline.thresholds)
              for each in answers if not each.baseline.is_per_type}
    return Baselines(answers, points, {each.baseline.name: pr_auc(labels, each.scores) for each in answers}, labels)


def compare(runs: list[Run], folds: list[int], fitted: list[Fitted], baselines: Baselines, cost: Cost, seed: int,
            ) -> Scored:
    """Return all systems of one split, in one table, with intervals paired by the same resamples."""
    model = [oomguard_system(MODEL, runs, folds, fitted),
             oomguard_system(HIDDEN, runs, folds, fitted, hides_facts=True)]
    systems = [*model, *(baseline_system(each, runs, folds, cost) for each in baselines.answers)]
    points = {system.name: baselines.points.get(system.name) or curve_of(runs, system) for system in systems}
    reference = counts_by_program(runs, systems[0])
    rows = {system.name: describe(
        runs, system, reference if system is not systems[0] else None, seed, points=points[system.name],
        area=baselines.pr_auc.get(system.name) or pr_auc(baselines.labels, system.scores)) for system in systems}
    return Scored({system.name: system for system in systems}, points, rows)


def curve_of(runs: Sequence[Run], system: System) -> Points:
    """Return the points of any system; one whose types have thresholds of their own is shifted as a whole."""
    is_shifted = "shifts_together" in system.operating_point
    return points_of(system.operating_tracks, [run.app for run in runs], () if is_shifted else system.thresholds[:1])


def describe(runs: Sequence[Run], system: System, reference: dict[str, Tally] | None, seed: int, *,
             points: Points | None = None, area: dict[str, float | None] | None = None) -> dict[str, Any]:
    """Return one row of the table: the keys of DESIGN 5, and the system's curve."""
    by_program = counts_by_program(runs, system)
    points = points or curve_of(runs, system)
    return {"operating_point": system.operating_point, **figures_of(total(by_program.values())),
            "recall_at_budget": recall_at_budgets(points),
            "pr_auc": area or pr_auc([labels_of(run) for run in runs], system.scores),
            "intervals": intervals_of(by_program, reference, seed),
            "by_program": {name: figures_of(counts) for name, counts in by_program.items()},
            "recall_by_lead": _by_lead(system), "curve": shown(points)}


def judge(scored: Scored, baselines: Sequence[Baseline], seed: int) -> dict[str, Any]:
    """Return whether the model beats every baseline: point by point, and at the recall of the best of them.

    The best of DESIGN 5, and the best of the lines whose alarms are kept as the model's levels are.
    """
    others = {each.name: scored.points[each.name] for each in baselines}
    own, kept = ({each.name: others[each.name] for each in baselines if each.is_kept == is_kept}
                 for is_kept in (False, True))
    return {name: {"dominance": {other: dominance(scored.points[name], points) for other, points in others.items()},
                   "at_equal_recall": at_equal_recall(scored.points[name], own, seed),
                   "at_equal_recall_kept": at_equal_recall(scored.points[name], kept, seed)}
            for name in (MODEL, HIDDEN)}


def gain_of_facts(runs: Sequence[Run], scored: Scored) -> dict[str, Any]:
    """Return the model with and without the facts: on all runs, where a bound was told, and where not."""
    told = [bound_of(run) != UNTOLD for run in runs]
    groups = {"all runs": list(range(len(runs))),
              "a bound was told": [at for at, is_told in enumerate(told) if is_told],
              "no bound was told": [at for at, is_told in enumerate(told) if not is_told]}
    return {name: {"runs": len(some), **{
        system: figures_of(total(sweep(scored.systems[system].tracks[at], (0.0,)).at(0) for at in some))
        for system in (MODEL, HIDDEN)}} for name, some in groups.items() if some}


def by_cadence(runs: list[Run], folds: list[int], fitted: list[Fitted], seed: int) -> dict[str, Any]:
    """Return the figures of the same models where the recordings are thinned or samples are lost."""
    found = {}
    for name, some in variants(runs, seed).items():
        seen = [run for _at, run in some]
        models = [fitted[folds[at]] for at, _run in some]
        forecasts = [forecasts_of(run, each) for run, each in zip(seen, models, strict=True)]
        system = forecast_system(name, seen, forecasts, [
            each.thresholds_for(run.device_type) for run, each in zip(seen, models, strict=True)], {})
        counts = total(counts_by_program(seen, system).values())
        found[name] = {"runs": len(seen), "kills": int(counts.kills), "quiet_hours": counts.quiet_s / 3600.0,
                       "forecast_time_ratio": system.operating_point["forecast_time_ratio"], **figures_of(counts)}
    return found


def quality_of(runs: Sequence[Run], scored: Scored) -> dict[str, Any]:
    """Return how true the forecast's probabilities and its time to limit are."""
    forecasts = scored.systems[MODEL].forecasts or []
    lines = [np.where(np.isfinite(score), -score, np.nan) for score in scored.systems[REFERENCE_LINE].scores]
    return {"calibration": calibration_of(runs, forecasts),
            "time_to_limit": {MODEL: time_to_limit_error(runs, [times_to_limit(each) for each in forecasts]),
                              REFERENCE_LINE: time_to_limit_error(runs, lines)}}


def account_of(runs: Sequence[Run], scored: Scored) -> dict[str, list[dict[str, Any]]]:
    """Return every miss and every false alarm of the model, one by one."""
    model = scored.systems[MODEL]
    others = {name: system for name, system in scored.systems.items() if name not in (MODEL, HIDDEN, *WINNING_IS_EASY)}
    misses, wrong = [], []
    for at, run in enumerate(runs):
        beside = {name: (system.tracks[at], system.thresholds[at]) for name, system in others.items()}
        given = (run, model.tracks[at], (model.forecasts or [])[at], (model.levels or [])[at], beside)
        misses.extend(misses_of(*given))
        wrong.extend(false_alarms_of(*given))
    return {"misses": misses, "false_alarms": wrong}


def pr_auc(labels: Sequence[NDArray[np.int8]], scores: Sequence[Reals]) -> dict[str, float | None]:
    """Return the area under precision and recall per labelled sample, with the prevalence it must be read against."""
    known = np.concatenate(labels) != UNLABELLED
    truth = np.concatenate(labels)[known] > 0
    said = np.concatenate(scores)[known]
    if not truth.any() or truth.all():
        return {"value": None, "prevalence": float(truth.mean()) if len(truth) else None}
    finite = np.where(np.isnan(said) | (said <= SILENT), -1e18, np.minimum(said, 1e18))
    return {"value": float(average_precision_score(truth, finite)), "prevalence": float(truth.mean())}


def data_of(runs: list[Run]) -> dict[str, Any]:
    """Return how much there is to learn from and to be wrong about, also by program and by device type."""
    counts = [sweep(track_of(run, np.zeros(len(run.t_s))), (np.inf,)).at(0) for run in runs]
    whole = total(counts)

    def by(key: str) -> dict[str, dict[str, float]]:
        names = [str(getattr(run, key)) for run in runs]
        return {name: {"runs": names.count(name),
                       "kills": int(sum(c.kills for c, of in zip(counts, names, strict=True) if of == name)),
                       "quiet_hours": sum(c.quiet_s for c, of in zip(counts, names, strict=True) if of == name) / 3600}
                for name in sorted(set(names))}

    return {"runs": len(runs), "kills": int(whole.kills), "quiet_hours": whole.quiet_s / 3600.0,
            "samples": int(sum(len(run.t_s) for run in runs)), "programs": sorted({run.app for run in runs}),
            "device_types": sorted({run.device_type for run in runs}), "by_program": by("app"),
            "by_device_type": by("device_type")}


def _by_lead(system: System) -> dict[str, list[float | None]]:
    """Return recall at every lead from 10 to 300 s, at the system's own operating point."""
    leads_s = np.array(SHOWN_LEADS_S)
    stood = np.concatenate([stands_at(track, threshold, leads_s)
                            for track, threshold in zip(system.tracks, system.thresholds, strict=True)])
    is_old = ~np.isnan(stood)
    return {"lead_s": list(SHOWN_LEADS_S), "recall": [
        float(stood[is_old[:, at], at].mean()) if is_old[:, at].any() else None for at in range(len(leads_s))]}
