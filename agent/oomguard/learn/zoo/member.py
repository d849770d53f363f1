"""What every member of the zoo can do, and the rows that all of them are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from oomguard.forest import CLASSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.zoo.recipe import Settings

FOREST, ONNX = "forest.bin", "model.onnx"
NEXT_TO_NOTHING = 1e-6      # of a mean row's weight


class Compiled(NamedTuple):
    """The file of a bundle that the device runs."""

    file: str               # FOREST or ONNX
    data: bytes


class Member(Protocol):
    """A trained model of any kind."""

    settings: Settings

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, CLASSES]: the trainer's own probabilities."""

    def compiled(self) -> Compiled:
        """Return what the device runs; it says the same as `predict`."""


def with_every_class(
    rows: NDArray[np.float32], labels: NDArray[np.int8], weight: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.float32]]:
    """Return the rows with one more, of which nothing is known, for each class that has none.

    scikit-learn counts the classes it meets; a small fold may lack one, and the device always has six.
    """
    absent = np.setdiff1d(np.arange(CLASSES, dtype=np.int8), labels)
    if not len(absent):
        return rows, labels, weight
    nothing = np.full((len(absent), rows.shape[1]), np.nan, np.float32)
    return (np.concatenate([rows, nothing]), np.concatenate([labels, absent]),
            np.concatenate([weight, np.full(len(absent), NEXT_TO_NOTHING, np.float32)]))
