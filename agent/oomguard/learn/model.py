"""Train one forest with XGBoost, and score rows with it as the device would."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xgboost

from oomguard import features
from oomguard.forest import CLASSES, HORIZONS_S, Forest
from oomguard.learn import compile as compiler
from oomguard.learn.examples import hidden, left_out, run_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.forest import Knots
    from oomguard.learn.dataset import Run
    from oomguard.learn.examples import Examples
    from oomguard.learn.recipe import Recipe

EVERYWHERE = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Model:
    """A compiled forest and the ranges it was trained on."""

    data: bytes
    low: tuple[float, ...]
    high: tuple[float, ...]

    def forest(self, calibration: list[Knots]) -> Forest:
        """Return it as the device runs it."""
        return Forest(self.data, self.low, self.high, calibration)

    def raw(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float[n, 5]: uncalibrated p60…p300 of feature rows, without abstaining."""
        everywhere = [EVERYWHERE[0]] * features.COUNT, [EVERYWHERE[1]] * features.COUNT
        forest = Forest(self.data, *everywhere, [()] * len(HORIZONS_S))
        rows, margins = np.ascontiguousarray(rows), np.empty((len(rows), CLASSES))
        if forest.compiled is None:
            raise RuntimeError("learning needs the compiled kernel: build it with `pip install -e .`")
        forest.compiled.margins(rows.data, margins.data)
        powers = np.exp(margins - margins.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        return np.asarray(np.cumsum(probabilities[:, :0:-1], axis=1), np.float64)

    def is_strange(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return where the device would abstain because a feature is outside its trained range."""
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        return np.asarray(((rows < low) | (rows > high)).any(axis=1), np.bool_)


def train_model(examples: Examples, runs: list[Run], recipe: Recipe) -> Model:
    """Return the model of these examples; the same examples and recipe give the same bytes."""
    rows = hidden(left_out(examples.features, recipe.inputs.left_out), examples.run, recipe.inputs.hidden_share,
                  recipe.seed)
    weight = run_weights(examples, runs, recipe.simulation.share)
    booster = train_booster(rows, examples.labels, weight, recipe)
    return Model(compiler.to_bytes(compiler.from_xgboost(booster)), *ranges_of(examples.features, recipe))


def train_booster(rows: NDArray[np.float32], labels: NDArray[np.int8], weight: NDArray[np.float32],
                  recipe: Recipe) -> xgboost.Booster:
    """Return XGBoost's model: histograms, fixed threads, fixed seed, hence the same on the same machine."""
    trees = recipe.trees
    parameters = {
        "objective": "multi:softprob", "num_class": CLASSES, "tree_method": "hist", "max_depth": trees.depth,
        "eta": trees.learning_rate, "min_child_weight": trees.min_child_weight, "lambda": trees.l2,
        "subsample": trees.row_share, "colsample_bytree": trees.column_share, "nthread": trees.threads,
        "seed": recipe.seed, "max_bin": trees.bins, "verbosity": 0}
    matrix = xgboost.QuantileDMatrix(rows, labels, weight=weight, nthread=trees.threads, max_bin=trees.bins)
    return xgboost.train(parameters, matrix, trees.rounds)


def ranges_of(rows: NDArray[np.float32], recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the range of each feature in training, widened by the recipe's margin; float32 values.

    A feature that the trees never see, or that was never known, has no range: its value changes no forecast.
    `range_kept` are the exceptions (a limit far beyond all trained ones is another world).
    """
    low, high = [], []
    ignored = set(recipe.inputs.left_out) - set(recipe.inputs.range_kept)
    for at, name in enumerate(features.NAMES):
        known = rows[:, at][np.isfinite(rows[:, at])]
        if name in ignored or not len(known):
            low.append(EVERYWHERE[0])
            high.append(EVERYWHERE[1])
            continue
        least, most = float(known.min()), float(known.max())
        margin = recipe.inputs.range_margin_ratio * (most - least)
        low.append(float(np.float32(least - margin)))
        high.append(float(np.float32(most + margin)))
    return tuple(low), tuple(high)
