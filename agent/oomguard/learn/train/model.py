"""Train the model of a recipe, whatever its kind, and score rows with it as the device would."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oomguard import features
from oomguard.forest import CLASSES, HORIZONS_S, Forest, unpack
from oomguard.learn import zoo
from oomguard.learn.label.examples import hidden, left_out, run_weights
from oomguard.learn.zoo.member import FOREST
from oomguard.net import Net

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.forest import Knots
    from oomguard.learn.dataset import Run
    from oomguard.learn.label.examples import Examples
    from oomguard.learn.zoo.recipe import Recipe

EVERYWHERE = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Model:
    """A compiled model and the ranges it was trained on."""

    data: bytes
    low: tuple[float, ...]
    high: tuple[float, ...]
    file: str = FOREST          # what a bundle calls it: forest.bin or model.onnx

    def forest(self, calibration: list[Knots]) -> Forest | Net:
        """Return it as the device runs it."""
        kind = Forest if self.file == FOREST else Net
        return kind(self.data, self.low, self.high, calibration)

    def classes(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, CLASSES] of feature rows, without abstaining."""
        rows = np.ascontiguousarray(rows)
        everywhere = [EVERYWHERE[0]] * features.COUNT, [EVERYWHERE[1]] * features.COUNT
        if self.file != FOREST:
            return Net(self.data, *everywhere, [()] * len(HORIZONS_S)).classes(rows)
        compiled = Forest(self.data, *everywhere, [()] * len(HORIZONS_S)).compiled
        if compiled is None:
            raise RuntimeError("learning needs the compiled kernel: build it with `pip install -e .`")
        margins = np.empty((len(rows), CLASSES))
        compiled.margins(rows.data, margins.data)
        trees = unpack(self.data)
        margins *= trees.scale
        if trees.transform == "average":
            return margins
        powers = np.exp(margins - margins.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)

    def raw(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float[n, 5]: uncalibrated p60…p300 of feature rows, without abstaining."""
        return np.asarray(np.cumsum(self.classes(rows)[:, :0:-1], axis=1), np.float64)

    def is_strange(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return where the device would abstain because a feature is outside its trained range."""
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        return np.asarray(((rows < low) | (rows > high)).any(axis=1), np.bool_)


def train_model(examples: Examples, runs: list[Run], recipe: Recipe) -> Model:
    """Return the model of these examples; the same examples and recipe give the same bytes."""
    rows, weight = material_of(examples, runs, recipe)
    made = zoo.fit(recipe.settings, rows, examples.labels, weight, recipe.seed).compiled()
    return Model(made.data, *ranges_of(examples.features, recipe), made.file)


def material_of(examples: Examples, runs: list[Run], recipe: Recipe) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (rows as the model may see them, weights)."""
    rows = hidden(left_out(examples.features, recipe.inputs.left_out), examples.run, recipe.inputs.hidden_share,
                  recipe.seed)
    return rows, run_weights(examples, runs, recipe.simulation.share)


def ranges_of(rows: NDArray[np.float32], recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the range of each feature in training, widened by the recipe's margin; float32 values.

    A feature that the model never sees, or that was never known, has no range: its value changes no forecast.
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
