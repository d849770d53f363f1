"""The zoo: one small module per kind of model, every one trained and asked through the same two calls.

`fit(settings, rows, labels, weight, seed)` returns a member; its `predict(rows)` gives the trainer's own class
probabilities, and `compiled()` the file that the device runs: a forest, or an ONNX graph for what is no tree. The same
arguments give the same bytes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from oomguard.learn.zoo.member import with_every_class
from oomguard.learn.zoo.recipe import AdaBoost, ElasticNet, Network, RandomForest, Trees

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from oomguard.learn.zoo.member import Member
    from oomguard.learn.zoo.recipe import Settings

MODULES: dict[type[Settings], str] = {
    Trees: "boosted_trees", AdaBoost: "adaboost", RandomForest: "random_forest", Network: "ann",
    ElasticNet: "elastic_net"}


def fit(settings: Settings, rows: NDArray[np.float32], labels: NDArray[np.int8], weight: NDArray[np.float32],
        seed: int) -> Member:
    """Return the member of these settings, trained.

    Args:
        settings: of one of recipe.KINDS.
        rows: float32[n, F], NaN where unknown.
        labels: int8[n], the class of each row: 0 no kill within 300 s … 5 within 60 s.
        weight: float32[n], whose mean is 1.
        seed: decides everything that is left to chance.
    """
    trainer = import_module(f"oomguard.learn.zoo.{MODULES[type(settings)]}")
    member: Member = trainer.fit(settings, *with_every_class(rows, labels, weight), seed)
    return member
