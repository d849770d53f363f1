"""Cross-validation in which nothing that is reported was seen: not by the trees, the calibration or the thresholds.

Each fold is held out in turn. What calibrates and sets thresholds for it comes from the other folds, out of their
own fold: the model that leaves out folds {j, k} gives fold j's predictions where k is tested, and fold k's where j
is, so K folds take K + K(K−1)/2 models instead of K².
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

from oomguard.learn.label.examples import run_weights, speaks_at
from oomguard.learn.thresholds.levels import Cost, fit_by_type, fit_thresholds
from oomguard.learn.train.calibrate import calibrate_all, calibrated
from oomguard.learn.train.model import Model, train_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from oomguard.forest import Knots
    from oomguard.learn.dataset import Run
    from oomguard.learn.label.examples import Examples
    from oomguard.learn.thresholds.levels import TypeThresholds
    from oomguard.learn.zoo.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a bundle needs: a model, its calibration and its thresholds (p60…p300)."""

    model: Model
    calibration: list[Knots]
    thresholds: tuple[float, ...]
    by_type: dict[str, TypeThresholds]

    def thresholds_for(self, device_type: str) -> tuple[float, ...]:
        """Return the alarm thresholds of p60…p300 for a device type: its own, else the global ones."""
        own = self.by_type.get(device_type)
        return self.thresholds if own is None else own.thresholds


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that is known about all runs, computed once."""

    runs: list[Run]
    examples: Examples
    features: list[NDArray[np.float32]]       # at every sample, of real runs; of simulated ones empty
    recipe: Recipe

    @property
    def cost(self) -> Cost:
        """The cost of the recipe."""
        return Cost(self.recipe.levels.miss_to_false_alarm, self.recipe.levels.field_kills_per_h)


def folds_by_program(runs: list[Run]) -> list[int]:
    """Return each run's fold: one per program; simulated runs are spread over all folds."""
    programs = sorted({run.app for run in runs if not run.is_simulated})
    return [at % len(programs) if run.is_simulated else programs.index(run.app) for at, run in enumerate(runs)]


def folds_by_device_type(runs: list[Run]) -> list[int]:
    """Return each run's fold: one per device type; simulated runs are spread over all folds."""
    types = sorted({run.device_type for run in runs if not run.is_simulated})
    return [at % len(types) if run.is_simulated else types.index(run.device_type) for at, run in enumerate(runs)]


def folds_by_run(runs: list[Run], count: int, seed: int) -> list[int]:
    """Return each run's fold: runs of every program are dealt evenly, in a seeded order."""
    order = np.random.default_rng(seed).permutation(len(runs)).tolist()
    dealt = sorted(order, key=lambda at: (runs[at].is_simulated, runs[at].app))     # stable: shuffled within a program
    fold = [0] * len(runs)
    for place, at in enumerate(dealt):
        fold[at] = place % count
    return fold


def cross_validate(material: Material, folds: list[int],
                   progress: Callable[[int, int], None] = lambda _done, _of: None) -> list[Fitted]:
    """Return one Fitted per fold, made without that fold."""
    fold_of_row = np.array(folds)[material.examples.run]
    count = max(folds) + 1
    pairs = list(combinations_with_replacement(range(count), 2))
    models: dict[tuple[int, int], Model] = {}
    for done, (j, k) in enumerate(pairs):
        progress(done, len(pairs))
        kept = material.examples.of((fold_of_row != j) & (fold_of_row != k))
        models[j, k] = train_model(kept, material.runs, material.recipe)
    progress(len(pairs), len(pairs))
    return [_fit(material, folds, models[k, k],
                 {j: models[min(j, k), max(j, k)] for j in range(count) if j != k}) for k in range(count)]


def fit_all(material: Material, folds: list[int], fitted: list[Fitted]) -> Fitted:
    """Return the model of all runs, calibrated by what each fold's own model says of it: the one to ship."""
    whole = train_model(material.examples, material.runs, material.recipe)
    return _fit(material, folds, whole, {fold: one.model for fold, one in enumerate(fitted)})


def _fit(material: Material, folds: list[int], model: Model, out_of_fold: dict[int, Model]) -> Fitted:
    """Calibrate and set thresholds from predictions of models that had not seen the fold they predict."""
    fold_of_row = np.array(folds)[material.examples.run]
    kept = material.examples.of(np.isin(fold_of_row, list(out_of_fold)))
    raw = np.zeros((len(kept.labels), 5))
    fold_of_kept = np.array(folds)[kept.run]
    for fold, other in out_of_fold.items():
        raw[fold_of_kept == fold] = other.raw(kept.features[fold_of_kept == fold])
    weight = run_weights(kept, material.runs, material.recipe.simulation.share)
    calibration = calibrate_all(raw, kept.labels, weight.astype(np.float64))
    real = [at for at, run in enumerate(material.runs) if not run.is_simulated and folds[at] in out_of_fold]
    forecasts = [_forecast(material, at, out_of_fold[folds[at]], calibration) for at in real]
    runs = [material.runs[at] for at in real]
    thresholds = fit_thresholds(runs, forecasts, material.cost)
    return Fitted(model, calibration, thresholds, fit_by_type(runs, forecasts, material.cost, thresholds))


def _forecast(material: Material, at: int, model: Model, calibration: list[Knots]) -> NDArray[np.float64]:
    """Return float[n, 5] of one run, NaN where the device would abstain."""
    rows = material.features[at]
    forecast = calibrated(calibration, model.raw(rows))
    forecast[~speaks_at(material.runs[at]) | model.is_strange(rows)] = np.nan
    return forecast
