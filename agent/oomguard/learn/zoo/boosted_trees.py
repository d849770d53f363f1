"""XGBoost: boosted trees, a softmax over six classes; the default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xgboost

from oomguard.forest import CLASSES
from oomguard.learn import compile as compiler
from oomguard.learn.zoo.member import FOREST, Compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.recipe import Trees


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """A trained booster."""

    settings: Trees
    booster: xgboost.Booster

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, CLASSES]."""
        return np.asarray(self.booster.predict(xgboost.DMatrix(rows, nthread=self.settings.threads)), np.float64)

    def compiled(self) -> Compiled:
        """Return the forest, flattened from treelite's reading of the booster."""
        return Compiled(FOREST, compiler.to_bytes(compiler.from_xgboost(self.booster)))


def fit(settings: Trees, rows: NDArray[np.float32], labels: NDArray[np.int8], weight: NDArray[np.float32],
        seed: int) -> BoostedTrees:
    """Train by histograms, fixed threads and a fixed seed, hence the same on the same machine."""
    parameters = {
        "objective": "multi:softprob", "num_class": CLASSES, "tree_method": "hist", "max_depth": settings.depth,
        "eta": settings.learning_rate, "min_child_weight": settings.min_child_weight, "lambda": settings.l2,
        "subsample": settings.row_share, "colsample_bytree": settings.column_share, "nthread": settings.threads,
        "seed": seed, "max_bin": settings.bins, "verbosity": 0}
    matrix = xgboost.QuantileDMatrix(rows, labels, weight=weight, nthread=settings.threads, max_bin=settings.bins)
    return BoostedTrees(settings, xgboost.train(parameters, matrix, settings.rounds))
