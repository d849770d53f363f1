"""Choose a recipe's settings from a small grid, inside the training folds: what is tested has no say.

Programs are dealt into a few groups. For each group that is held out, every setting is judged on the other groups, each
predicted by a model that saw neither of the two; so one model per pair of groups and setting is enough. What is chosen
is the setting that does best on average; whether it would have been chosen whichever group was held out is shown beside
it, and is what makes the choice honest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import average_precision_score

from oomguard.forest import CLASSES
from oomguard.learn.label.examples import run_weights
from oomguard.learn.train.crossval import folds_by_program
from oomguard.learn.train.model import train_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oomguard.learn.label.examples import Examples
    from oomguard.learn.train.crossval import Material
    from oomguard.learn.train.model import Model
    from oomguard.learn.zoo.recipe import Settings

GROUPS = 4
JUDGED = (0, 4)     # horizons 60 and 300 s


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a grid came to."""

    grid: tuple[Settings, ...]
    scores: tuple[float, ...]       # of each setting, averaged over the groups that were held out
    chosen: int                     # the best of them
    agreeing: int                   # of the groups: how many, held out, leave the same choice

    def table(self) -> list[str]:
        """Return lines for people and for a recipe's comments, best first."""
        order = sorted(range(len(self.grid)), key=lambda at: -self.scores[at])
        return [f"{self.scores[at]:.3f}  {self.grid[at]}" for at in order]


def tune(material: Material, grid: Sequence[Settings],
         progress: Callable[[int, int], None] = lambda _done, _of: None) -> Tuned:
    """Return which settings do best on programs that the model has not seen."""
    group_of_run = [fold % GROUPS for fold in folds_by_program(material.runs)]
    group_of_row = np.array(group_of_run)[material.examples.run]
    pairs = list(combinations(sorted(set(group_of_run)), 2))
    judged = {group: _real_rows(material, group_of_row == group) for group in set(group_of_run)}
    inner = np.full((len(grid), max(group_of_run) + 1, max(group_of_run) + 1), np.nan)    # setting, held out, judged
    for done, (at, (j, k)) in enumerate((at, pair) for at in range(len(grid)) for pair in pairs):
        progress(done, len(grid) * len(pairs))
        kept = material.examples.of((group_of_row != j) & (group_of_row != k))
        model = train_model(kept, material.runs, replace(material.recipe, model=grid[at]))
        inner[at, k, j] = _score(model, judged[j], material)
        inner[at, j, k] = _score(model, judged[k], material)
    progress(1, 1)
    by_held_out = np.nanmean(inner, axis=2)
    scores = by_held_out.mean(axis=1)
    chosen = int(scores.argmax())
    return Tuned(tuple(grid), tuple(scores.tolist()), chosen, int((by_held_out.argmax(axis=0) == chosen).sum()))


def _real_rows(material: Material, is_in_group: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Examples:
    is_real = np.array([not run.is_simulated for run in material.runs])[material.examples.run]
    return material.examples.of(is_in_group & is_real)


def _score(model: Model, rows: Examples, material: Material) -> float:
    """Return the mean area under precision and recall of "a kill within 60 s" and "within 300 s"."""
    raw, weight = model.raw(rows.features), run_weights(rows, material.runs, 0.0)
    areas = [average_precision_score(rows.labels >= CLASSES - 1 - at, raw[:, at], sample_weight=weight)
             for at in JUDGED if (rows.labels >= CLASSES - 1 - at).any()]
    return float(np.mean(areas)) if areas else float("nan")
