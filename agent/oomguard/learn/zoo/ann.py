"""A small neural network: ReLU layers over scaled features, trained by Adam for a planned number of epochs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from oomguard.learn.zoo.graph import Scaling, scaling_of, to_onnx
from oomguard.learn.zoo.member import ONNX, Compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.zoo.recipe import Network


@dataclass(frozen=True, slots=True)
class Net:
    """A trained network of scikit-learn's, and how its inputs are made."""

    settings: Network
    scaling: Scaling
    model: MLPClassifier

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, CLASSES]."""
        return np.asarray(self.model.predict_proba(self.scaling.inputs(rows)), np.float64)

    def compiled(self) -> Compiled:
        """Return the graph, scaling included."""
        layers = list(zip(self.model.coefs_, self.model.intercepts_, strict=True))
        return Compiled(ONNX, to_onnx(self.scaling, layers))


def fit(settings: Network, rows: NDArray[np.float32], labels: NDArray[np.int8], weight: NDArray[np.float32],
        seed: int) -> Net:
    """Train on one core: more change the order of sums, and with it the bytes."""
    scaling = scaling_of(rows, weight)
    model = MLPClassifier(
        settings.hidden, alpha=settings.l2, batch_size=min(settings.batch_rows, len(rows)),
        learning_rate_init=settings.learning_rate, max_iter=settings.epochs, n_iter_no_change=settings.epochs,
        tol=0.0, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)     # the epochs are the plan, not a limit
        model.fit(scaling.inputs(rows), labels, sample_weight=weight.astype(np.float64))
    return Net(settings, scaling, model)
