"""AdaBoost (SAMME): shallow trees that each vote for one class, weighted by how seldom they err.

Zhu, Zou, Rosset, Hastie, "Multi-class AdaBoost" (2009): with f the weighted votes, 1 for the class a tree names and
-1/(K-1) for the others, divided by the weight of all trees, the probabilities are softmax(f / (K-1)). That is exactly a
forest whose leaves hold those votes and whose sums go through a softmax, so the mapping needs no approximation. Those
probabilities stand close together (K = 6: at most 1.27 times one another); calibration spreads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier

from oomguard.learn.zoo import compile as compiler
from oomguard.learn.zoo.member import FOREST, Compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.zoo.recipe import AdaBoost

# AdaBoostClassifier takes no NaN: unknown is far below every value, so it goes left at every split. No feature comes
# near it (ratios of a limit, capped seconds), and a split between the two is a question whether the value is known.
UNKNOWN = np.float32(-1e30)


@dataclass(frozen=True, slots=True)
class VotingStumps:
    """A trained ensemble of scikit-learn's."""

    settings: AdaBoost
    model: AdaBoostClassifier

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, CLASSES]."""
        return np.asarray(self.model.predict_proba(filled(rows)), np.float64)

    def compiled(self) -> Compiled:
        """Return the forest: one tree per estimator, its votes weighted, by treelite's model builder."""
        return Compiled(FOREST, compiler.to_bytes(compiler.from_adaboost(self.model)))


def filled(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a copy without NaN."""
    return np.where(np.isnan(rows), UNKNOWN, rows)


def fit(settings: AdaBoost, rows: NDArray[np.float32], labels: NDArray[np.int8], weight: NDArray[np.float32],
        seed: int) -> VotingStumps:
    """Train on one core."""
    weak = DecisionTreeClassifier(max_depth=settings.depth, min_weight_fraction_leaf=settings.least_leaf_ratio,
                                  max_features=settings.column_share)
    model = AdaBoostClassifier(weak, n_estimators=settings.rounds, learning_rate=settings.learning_rate,
                               random_state=seed)
    return VotingStumps(settings, model.fit(filled(rows), labels, sample_weight=weight))
