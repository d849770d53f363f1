"""Measure a recipe in every split, and gather all figures into one report: what `evaluate --json` prints."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.learn.evaluate.compare import (
    HIDDEN,
    MODEL,
    PROTOCOL,
    account_of,
    by_cadence,
    compare,
    data_of,
    gain_of_facts,
    judge,
    quality_of,
    score_baselines,
)
from oomguard.learn.evaluate.influence import influence_of
from oomguard.learn.evaluate.leaks import leak_check
from oomguard.learn.train.crossval import cross_validate, folds_by_device_type, folds_by_program, folds_by_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.learn.evaluate.compare import Scored
    from oomguard.learn.train.crossval import Fitted, Material

    Progress = Callable[[str, int, int], None]

LEAST_FOLDS = 3         # one is tested, one calibrates, the rest is learned from
SYSTEMS_OF = {"by_program": "systems", "by_run": "systems_by_run", "by_device_type": "systems_by_device_type"}


class Assessed(NamedTuple):
    """The report, and of the main split what else is of use: its folds, its models, its systems."""

    report: dict[str, Any]
    folds: list[int]
    fitted: list[Fitted]
    scored: Scored


def assess(material: Material, progress: Progress, splits: tuple[str, ...] = tuple(SYSTEMS_OF)) -> Assessed:
    """Cross-validate in each split and compare with every baseline; no figure comes from a simulated run.

    The first of the splits is the main one: it has the facts' gain, the cadences, the account and so on.
    """
    recipe, real = material.recipe, [run for run in material.runs if not run.is_simulated]
    baselines = score_baselines(real)
    seed = recipe.evaluation.seed
    report: dict[str, Any] = {
        "protocol": {**PROTOCOL, "split": "leave one program out",
                     "miss_to_false_alarm": recipe.levels.miss_to_false_alarm,
                     "field_kills_per_h": recipe.levels.field_kills_per_h},
        "data": data_of(real), "leak_check": {}, "judgement": {}}
    main: Assessed | None = None
    for name, folds in _splits(material).items():
        if name not in splits or len(set(folds)) < LEAST_FOLDS:
            report[SYSTEMS_OF[name]] = {}       # too few device types to leave one out
            continue
        fitted = cross_validate(material, folds, partial(progress, name))
        folds_of_real = folds[:len(real)]
        scored = compare(real, folds_of_real, fitted, baselines, material.cost, seed)
        report[SYSTEMS_OF[name]] = scored.rows
        report["leak_check"][name] = leak_check(material.examples, material.runs, folds, recipe)
        report["judgement"][name] = judge(scored, [each.baseline for each in baselines.answers], seed)
        if main is None:
            main = Assessed(report, folds, fitted, scored)
            report |= {"gain_of_facts": gain_of_facts(real, scored), **quality_of(real, scored),
                       "cadence": by_cadence(real, folds_of_real, fitted, seed), "account": account_of(real, scored),
                       "influence": _influence(material, folds, fitted)}
    for key in (SYSTEMS_OF["by_run"], SYSTEMS_OF["by_device_type"]):
        for system, row in report[key].items():
            if system not in (MODEL, HIDDEN):
                del row["curve"]                # no split changes it: it stands in the main one
    if main is None:
        raise ValueError("the caller checks that there are programs enough")
    return main


def _splits(material: Material) -> dict[str, list[int]]:
    evaluation = material.recipe.evaluation
    return {"by_program": folds_by_program(material.runs),
            "by_run": folds_by_run(material.runs, evaluation.folds_by_run, evaluation.seed),
            "by_device_type": folds_by_device_type(material.runs)}


def _influence(material: Material, folds: list[int], fitted: list[Fitted]) -> list[dict[str, Any]]:
    real = [at for at, run in enumerate(material.runs) if not run.is_simulated]
    kept = material.examples.of(material.examples.run < len(real))      # recorded runs come first
    return influence_of(kept, folds, fitted, material.recipe)
