"""What the features contribute to forecasts of programs the model has not seen: shuffle one, see what moves.

Each row is forecast by the model of the fold that left it out. A feature's values are exchanged between rows of all
programs; `moves` is how far the log-odds of a kill within 120 s then move on average, `costs` by how much the
forecast's log loss grows. Of features that say the same, each alone costs little: the others still say it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard import features
from oomguard.forest import CLASSES, HORIZONS_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from oomguard.learn.label.examples import Examples
    from oomguard.learn.train.crossval import Fitted
    from oomguard.learn.zoo.recipe import Recipe

    Reals = NDArray[np.float64]

MOST_ROWS = 12_000
HORIZON_S = 120
FLOOR = 1e-4        # of a probability, before its logarithm


def influence_of(examples: Examples, folds: Sequence[int], fitted: Sequence[Fitted], recipe: Recipe,
                 ) -> list[dict[str, Any]]:
    """Return {feature, moves, costs} of each feature the trees may look at, the most moving first.

    Args:
        examples: rows of recorded runs.
        folds: one per run that `examples.run` indexes.
        fitted: one per fold.
        recipe: says which features are left out, and the seed.
    """
    rng = np.random.default_rng(recipe.seed)
    kept = np.sort(rng.permutation(len(examples.labels))[:MOST_ROWS])
    rows, fold = examples.features[kept], np.asarray(folds)[examples.run[kept]]
    at = HORIZONS_S.index(HORIZON_S)
    happened = examples.labels[kept] >= CLASSES - 1 - at
    before = _forecast(rows, fold, fitted, at)
    found = []
    for column, name in enumerate(features.NAMES):
        order = rng.permutation(len(rows))
        if name in recipe.inputs.left_out or np.isnan(rows[:, column]).all():
            continue
        shuffled = rows.copy()
        shuffled[:, column] = rows[order, column]
        after = _forecast(shuffled, fold, fitted, at)
        found.append({"feature": name, "moves": float(np.abs(_logit(after) - _logit(before)).mean()),
                      "costs": float(_log_loss(after, happened) - _log_loss(before, happened))})
    return sorted(found, key=lambda row: (-row["moves"], row["feature"]))


def _forecast(rows: NDArray[np.float32], fold: NDArray[np.int64], fitted: Sequence[Fitted], at: int) -> Reals:
    said = np.empty(len(rows))
    for which in np.unique(fold):
        said[fold == which] = fitted[which].model.raw(rows[fold == which])[:, at]
    return np.clip(said, FLOOR, 1.0 - FLOOR)


def _logit(p: Reals) -> Reals:
    return np.asarray(np.log(p / (1.0 - p)), np.float64)


def _log_loss(p: Reals, happened: NDArray[np.bool_]) -> float:
    return float(-np.log(np.where(happened, p, 1.0 - p)).mean())
