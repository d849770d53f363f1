"""Compare the zoo: train every recipe alike, and show quality, fit time, size and what a score costs in one table.

Quality comes from each recipe's own cross-validation, by the same folds and the same protocol; what a score costs is
measured with the device's own scorer, over windows of the recorded runs.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.errors import UsageError
from oomguard.learn.bundle.card import table_of
from oomguard.learn.bundle.make import _material, train, write_bundle
from oomguard.learn.evaluate.latency import latency_of, windows_of
from oomguard.learn.train.model import train_model
from oomguard.learn.zoo.recipe import read_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oomguard.learn.bundle.make import Trained
    from oomguard.learn.train.crossval import Material
    from oomguard.learn.zoo.recipe import Recipe

    Progress = Callable[[str, int, int], None]

OURS = "oomguard"               # what a report calls the model among its baselines
OURS_TOO = "oomguard, "         # and its variants
HEAD_OF_COSTS = "| member | kind | fit | size | score on the device | answer of the helper |"


class Cost(NamedTuple):
    """What a member costs. Times are medians."""

    fit_s: float                # of the model of all runs, on one core
    bytes: int
    score_p50_us: float         # what the tick waits for
    score_p99_us: float
    answer_p50_us: float | None     # of a net: from the question to the helper's answer; None for a forest


def train_zoo(paths: Sequence[str], out: str = "", progress: Progress = lambda _stage, _done, _of: None,
              ) -> dict[str, Any]:
    """Train the recipes, all by the same data, splits and protocol, and compare them.

    Args:
        paths: recipe files, each of another name.
        out: a folder for their bundles, each in a folder called by its recipe's name; empty: none is written.
        progress: told (stage, done, of).

    Returns:
        `protocol`, `data`, `members` {name: kind, settings, cost, figures of the main split} and `baselines` {name:
        figures}; JSON can hold it.

    Raises:
        UsageError: two recipes have one name, or other recordings, costs or seeds for the splits: they could not be
            compared.
    """
    recipes = [read_recipe(path) for path in paths]
    _refuse_unlike(recipes)
    report: dict[str, Any] = {"members": {}}
    for recipe in recipes:
        trained = train(recipe, partial(_named_progress, progress, recipe.name), splits=("by_program",))
        if out:
            write_bundle(trained, recipe, os.path.join(out, recipe.name))
        report["members"][recipe.name] = member_of(trained, recipe)
        report |= {"protocol": trained.report["protocol"], "data": trained.report["data"],
                   "baselines": {name: row for name, row in trained.report["systems"].items()
                                 if name != OURS and not name.startswith(OURS_TOO)}}
    return report


def _named_progress(progress: Progress, name: str, stage: str, done: int, of: int) -> None:
    progress(f"{name}: {stage}", done, of)


def member_of(trained: Trained, recipe: Recipe) -> dict[str, Any]:
    """Return one member's row."""
    material, _digest = _material(recipe)
    return {"kind": recipe.kind, "settings": asdict(recipe.settings), "in_words": recipe.settings.in_words,
            "cost": cost_of(trained, material)._asdict(), "figures": trained.report["systems"][OURS]}


def cost_of(trained: Trained, material: Material) -> Cost:
    """Measure what a member costs to fit and to ask."""
    begun_s = time.perf_counter()
    model = train_model(material.examples, material.runs, material.recipe)
    fit_s = time.perf_counter() - begun_s
    fitted = trained.fitted
    latency = latency_of(fitted.model.forest(fitted.calibration), windows_of(material.runs, material.recipe.seed))
    return Cost(fit_s, len(model.data), *latency)


def zoo_table(report: dict[str, Any]) -> str:
    """Return the comparison as two Markdown tables: figures, beside the baselines, and costs."""
    figures = table_of({**{name: row["figures"] for name, row in report["members"].items()}, **report["baselines"]})
    rows = [HEAD_OF_COSTS, "|---" * (HEAD_OF_COSTS.count("|") - 1) + "|"]
    for name, row in report["members"].items():
        cost = Cost(**row["cost"])
        answer = "–" if cost.answer_p50_us is None else f"{cost.answer_p50_us:.0f} us, a tick late"
        rows.append(f"| {name} | {row['in_words']} | {cost.fit_s:.1f} s | {cost.bytes / 1024:.0f} KiB | "
                    f"{cost.score_p50_us:.1f} us (p99 {cost.score_p99_us:.1f}) | {answer} |")
    return "\n".join((figures, "", *rows))


def _refuse_unlike(recipes: Sequence[Recipe]) -> None:
    names = [recipe.name for recipe in recipes]
    if not recipes or len(set(names)) != len(names):
        raise UsageError(f"recipes of different names are needed, not {', '.join(names) or 'none'}")
    first = recipes[0]
    for recipe in recipes[1:]:
        for part in ("recordings", "levels", "evaluation"):
            if getattr(recipe, part) != getattr(first, part):
                raise UsageError(f"{recipe.path}: its {part} are not those of {first.path}: the figures could not be "
                                 "compared")
