"""Show how much of the outcome leaks from how the data was recorded: run age and missing values alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score

from oomguard.learn.label.examples import run_weights
from oomguard.learn.zoo.boosted_trees import fit

if TYPE_CHECKING:
    from oomguard.learn.dataset import Run
    from oomguard.learn.label.examples import Examples
    from oomguard.learn.zoo.recipe import Recipe

ROUNDS = 20


def leak_check(examples: Examples, runs: list[Run], folds: list[int], recipe: Recipe) -> dict[str, float]:
    """Return the ROC area of "a kill within 300 s" as told from run age and missing pattern alone; 0.5 is chance.

    Recorded runs only, each predicted by a model that has not seen its fold.
    """
    is_real = np.array([not run.is_simulated for run in runs])[examples.run]
    kept = examples.of(is_real)
    age_s = kept.t_s - np.array([run.start_s for run in runs])[kept.run]
    rows = np.column_stack([age_s, np.isnan(kept.features)]).astype(np.float32)
    fold = np.array(folds)[kept.run]
    weight = run_weights(kept, runs, 0.0)
    small = replace(recipe.trees, rounds=ROUNDS)
    said = np.zeros(len(rows))
    for k in sorted(set(fold.tolist())):
        trained = fit(small, rows[fold != k], kept.labels[fold != k], weight[fold != k], recipe.seed)
        said[fold == k] = 1.0 - trained.predict(rows[fold == k])[:, 0]
    truth = kept.labels > 0
    return {"roc_auc": float(roc_auc_score(truth, said, sample_weight=weight)), "chance": 0.5,
            "samples": float(len(truth)), "prevalence": float(np.average(truth, weights=weight))}
