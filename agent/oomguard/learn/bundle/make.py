"""From a recipe to a bundle: read, simulate, cross-validate, calibrate, set thresholds, compare, write."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard import features
from oomguard._version import __version__
from oomguard.errors import UsageError
from oomguard.forest import HORIZONS_S
from oomguard.learn.bundle import card
from oomguard.learn.dataset import digest_of, read_recordings
from oomguard.learn.evaluate.assess import LEAST_FOLDS, SYSTEMS_OF, assess
from oomguard.learn.label.examples import PHASES, examples_of, features_of
from oomguard.learn.simulate.runs import simulate
from oomguard.learn.thresholds import per_type
from oomguard.learn.thresholds.critical import study_of
from oomguard.learn.train.crossval import Fitted, Material, fit_all
from oomguard.learn.zoo.member import ONNX
from oomguard.trust import bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.learn.dataset import Run
    from oomguard.learn.evaluate.systems import System
    from oomguard.learn.zoo.recipe import Recipe

    Progress = Callable[[str, int, int], None]

LIBRARIES = ("numpy", "xgboost", "treelite", "sklearn")


class Trained(NamedTuple):
    """What training gives: the parts of a bundle and the figures that go with them."""

    fitted: Fitted
    report: dict[str, Any]
    data_digest: str
    runs: list[Run]                     # the recorded ones
    systems: dict[str, System]          # of the main split, as artefact.save wants them


def silent(_stage: str, _done: int, _of: int) -> None:
    """Report no progress."""


def train(recipe: Recipe, progress: Progress = silent, splits: tuple[str, ...] = tuple(SYSTEMS_OF)) -> Trained:
    """Train the recipe's model and measure it.

    Args:
        recipe: what to train.
        progress: told (stage, done, of).
        splits: in which to measure it; by program always.

    Returns:
        The model fitted to all runs, calibrated and thresholded from predictions out of fold by program, with the
        report of `evaluate --json`.

    Raises:
        UsageError: the recordings cannot be read, or hold fewer than three programs or no kill.
    """
    material, digest = _material(recipe)
    real = [run for run in material.runs if not run.is_simulated]
    if min(len({run.app for run in real}), recipe.evaluation.folds_by_run) < LEAST_FOLDS:
        raise UsageError(f"recordings of at least {LEAST_FOLDS} programs and {LEAST_FOLDS} folds by run are needed: "
                         "one is tested, one calibrates, the rest is learned from")
    if not any(len(run.kills_s) for run in real):
        raise UsageError("no run in the recordings was killed: there is nothing to learn")
    assessed = assess(material, progress, splits)
    shipped = fit_all(material, assessed.folds, assessed.fitted)
    report = {**assessed.report, "shipped_thresholds": _named(shipped.thresholds)}
    return Trained(shipped, report, digest, real, assessed.scored.systems)


def write_bundle(trained: Trained, recipe: Recipe, folder: str) -> str:
    """Write manifest.json, the model and card.md; return the sha256 of the manifest.

    The bytes depend on the recipe, the data and the versions named in the manifest, and on nothing else.
    """
    os.makedirs(folder, exist_ok=True)
    model = trained.fitted.model
    model_id = f"{recipe.name}-{hashlib.sha256(model.data).hexdigest()[:12]}"
    text = card.text_of(model_id, recipe, trained.report, len(model.data)).encode()
    manifest = {
        "format": bundle.FORMAT, "model_id": model_id, "release": recipe.release,
        "feature_hash": features.table_hash(), "horizons_s": list(HORIZONS_S),
        **per_type.manifest_parts(study_of(trained.runs), trained.fitted.thresholds, trained.fitted.by_type),
        "calibration": {str(horizon): [list(knot) for knot in knots]
                        for horizon, knots in zip(HORIZONS_S, trained.fitted.calibration, strict=True)},
        "ranges": {side: _ranges(values) for side, values in (("low", model.low), ("high", model.high))},
        "range_margin_ratio": recipe.inputs.range_margin_ratio,
        "phases": [] if "phase" in recipe.inputs.left_out else list(PHASES),
        "cost": {"miss_to_false_alarm": recipe.levels.miss_to_false_alarm,
                 "field_kills_per_h": recipe.levels.field_kills_per_h},
        "training": {"data_sha256": trained.data_digest, "recipe_sha256": recipe.digest, "recipe": recipe.name,
                     "simulated_runs": recipe.simulation.runs, "versions": versions(model.file),
                     "machine": platform.machine()},
        "metrics": {"protocol": "DESIGN 5, leave one program out; in full: learn evaluate",
                    **{split: {name: card.essence(row) for name, row in trained.report[split].items()}
                       for split in ("systems", "systems_by_run")}},
        "files": {model.file: hashlib.sha256(model.data).hexdigest(), "card.md": hashlib.sha256(text).hexdigest()}}
    raw = (json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    for name, data in ((model.file, model.data), ("card.md", text), ("manifest.json", raw)):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    return hashlib.sha256(raw).hexdigest()


def write_shipped(digest: str, path: str) -> None:
    """Write the module that says which manifest the package trusts."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('"""The bundle this package was built with; written by `make model`, held by a test."""\n\n'
                   f'SHIPPED_MANIFEST_SHA256 = "{digest}"\n')


def versions(file: str) -> dict[str, str]:
    """Return the versions of everything the bytes of a model's file depend on."""
    from importlib import import_module

    names = (*LIBRARIES, "onnx") if file == ONNX else LIBRARIES
    return {"oomguard": __version__, "python": platform.python_version(),
            **{name: str(import_module(name).__version__) for name in names}}


def _material(recipe: Recipe) -> tuple[Material, str]:
    real = [run for folder in recipe.recordings for run in read_recordings(folder)]
    if len({run.run_id for run in real}) != len(real):
        raise UsageError("two recordings hold runs of the same run_id")
    runs = real + simulate(recipe.simulation.runs, recipe.simulation.seed)
    nothing = np.empty((0, features.COUNT), np.float32)
    return Material(
        runs, examples_of(runs, recipe.inputs.rows_per_run, recipe.simulation.rows_per_run, recipe.seed),
        [nothing if run.is_simulated else features_of(run) for run in runs], recipe), digest_of(real)


def _named(thresholds: tuple[float, ...]) -> dict[str, float]:
    return {f"p{horizon}": value for horizon, value in zip(HORIZONS_S, thresholds, strict=True)}


def _ranges(values: tuple[float, ...]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in zip(features.NAMES, values, strict=True)}
