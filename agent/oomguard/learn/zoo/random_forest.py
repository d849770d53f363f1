"""A random forest: trees that each see other rows and columns, and vote with the share of each class in a leaf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from oomguard.learn.zoo import compile as compiler
from oomguard.learn.zoo.member import FOREST, Compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.zoo.recipe import RandomForest


@dataclass(frozen=True, slots=True)
class VotingTrees:
    """A trained forest of scikit-learn's. Its trees learn at each split where unknown values go."""

    settings: RandomForest
    model: RandomForestClassifier

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, CLASSES]."""
        return np.asarray(self.model.predict_proba(rows), np.float64)

    def compiled(self) -> Compiled:
        """Return the forest: the averaged votes, by treelite's importer."""
        return Compiled(FOREST, compiler.to_bytes(compiler.from_sklearn(self.model)))


def fit(settings: RandomForest, rows: NDArray[np.float32], labels: NDArray[np.int8], weight: NDArray[np.float32],
        seed: int) -> VotingTrees:
    """Train on one core."""
    model = RandomForestClassifier(
        settings.trees, max_depth=settings.depth, min_weight_fraction_leaf=settings.least_leaf_ratio,
        max_features=settings.column_share, max_samples=settings.row_share, n_jobs=1, random_state=seed)
    model.fit(rows, labels, sample_weight=weight)
    for tree in model.estimators_:
        # A split between known and unknown stands at infinity, which treelite cannot write; all that is known is below.
        np.minimum(tree.tree_.threshold, np.finfo(np.float32).max, out=tree.tree_.threshold)
    return VotingTrees(settings, model)
