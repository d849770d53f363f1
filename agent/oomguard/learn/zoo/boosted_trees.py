"""XGBoost: boosted trees. One score for the time to the kill, the default; or a softmax over six classes.

The time is learned as survival analysis does (accelerated failure time): a class says between which times the kill
lies, "none" that it lies beyond 300 s. What physics says is held (less room, steeper fall: sooner), so that a shape
nobody recorded is not read backwards. On programs left out it caught more than the softmax at fewer false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xgboost

from oomguard import features
from oomguard.errors import ConfigError
from oomguard.forest import CLASSES, HORIZONS_S
from oomguard.learn.zoo import compile as compiler
from oomguard.learn.zoo.member import FOREST, Compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.zoo.recipe import Trees


SOFTMAX, SURVIVAL = "softmax", "survival"
OBJECTIVES: dict[str, dict[str, object]] = {
    SOFTMAX: {"objective": "multi:softprob", "num_class": CLASSES},
    SURVIVAL: {"objective": "survival:aft", "aft_loss_distribution": "normal", "aft_loss_distribution_scale": 1.0}}
EDGES_S = np.array([np.inf, *sorted(HORIZONS_S, reverse=True), 1.0], np.float32)   # class k: EDGES_S[k + 1] to [k]
LONGER = frozenset({"headroom_ratio", "swap_free_ratio", "available_ratio", "mean_of_last_three"})


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """A trained booster."""

    settings: Trees
    booster: xgboost.Booster

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, CLASSES]; of a survival model only the first and last have a say (compile._survival)."""
        said = np.asarray(self.booster.predict(xgboost.DMatrix(rows, nthread=self.settings.threads)), np.float64)
        if self.settings.objective != SURVIVAL:
            return said
        classes = np.zeros((len(rows), CLASSES))
        classes[:, -1] = compiler.HALF_S / (compiler.HALF_S + said)
        classes[:, 0] = 1.0 - classes[:, -1]
        return classes

    def compiled(self) -> Compiled:
        """Return the forest, flattened from treelite's reading of the booster."""
        return Compiled(FOREST, compiler.to_bytes(compiler.from_xgboost(self.booster)))


def fit(settings: Trees, rows: NDArray[np.float32], labels: NDArray[np.int8], weight: NDArray[np.float32],
        seed: int) -> BoostedTrees:
    """Train by histograms, fixed threads and a fixed seed, hence the same on the same machine.

    Raises:
        ConfigError: the objective is not one of OBJECTIVES.
    """
    if settings.objective not in OBJECTIVES:
        raise ConfigError(f"objective {settings.objective!r} is not one of {', '.join(OBJECTIVES)}")
    parameters: dict[str, object] = {
        **OBJECTIVES[settings.objective], "tree_method": "hist", "max_depth": settings.depth,
        "eta": settings.learning_rate, "min_child_weight": settings.min_child_weight, "lambda": settings.l2,
        "subsample": settings.row_share, "colsample_bytree": settings.column_share, "nthread": settings.threads,
        "seed": seed, "max_bin": settings.bins, "verbosity": 0}
    matrix = xgboost.QuantileDMatrix(rows, labels, weight=weight, nthread=settings.threads, max_bin=settings.bins)
    if settings.objective == SURVIVAL:
        parameters["monotone_constraints"] = tuple(_sign(name) for name in features.NAMES)
        matrix.set_float_info("label_lower_bound", EDGES_S[labels + 1])
        matrix.set_float_info("label_upper_bound", EDGES_S[labels])
    return BoostedTrees(settings, xgboost.train(parameters, matrix, settings.rounds))


def _sign(name: str) -> int:
    """Return whether more of a feature may only lengthen the time to a kill (1), only shorten it (-1), or either."""
    if name == "straight_line_to_bound_s":      # near a bound of its own a program may be safe
        return 0
    if name in LONGER or name.startswith(("slope_", "straight_line_", "acceleration_")):
        return 1
    return -1 if name.startswith(("used_growth", "charged_growth", "psi_", "refaults", "major_faults")) else 0
