"""Elastic-net softmax: a linear model of scaled features whose penalty sets most weights to nothing."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from oomguard.learn.zoo.graph import Scaling, scaling_of, to_onnx
from oomguard.learn.zoo.member import ONNX, Compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.zoo.recipe import ElasticNet

TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Linear:
    """A trained softmax regression of scikit-learn's, and how its inputs are made."""

    settings: ElasticNet
    scaling: Scaling
    model: LogisticRegression

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, CLASSES]."""
        return np.asarray(self.model.predict_proba(self.scaling.inputs(rows)), np.float64)

    def compiled(self) -> Compiled:
        """Return the graph, scaling included."""
        return Compiled(ONNX, to_onnx(self.scaling, [(self.model.coef_.T, self.model.intercept_)]))


def fit(settings: ElasticNet, rows: NDArray[np.float32], labels: NDArray[np.int8], weight: NDArray[np.float32],
        seed: int) -> Linear:
    """Train by SAGA on one core."""
    scaling = scaling_of(rows, weight)
    model = LogisticRegression(
        C=settings.inverse_penalty, l1_ratio=settings.l1_share, solver="saga", max_iter=settings.epochs,
        tol=TOLERANCE, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)     # the epochs are the plan, not a limit
        model.fit(scaling.inputs(rows), labels, sample_weight=weight.astype(np.float64))
    return Linear(settings, scaling, model)
