"""What pushed a score: each feature's share of it, by the paths that the row takes through the trees.

Saabas (2014, "Interpreting random forests", blog.datadive.net): give each node of a tree a value, here the mean of
the leaves below it. On the way down, the step from a node to its child changes the value by
`value(child) - value(node)`, and that change belongs to the feature the node asks about. The steps telescope: the
root's value and all changes together are the leaf. So for every class, with F features and T trees,

    margin[class] = base[class] + sum over T of value(root) + sum over F of contribution[feature, class]

One number is explained: the score of "a kill within H". Where classes are summed probabilities (`average`) it is the
probability itself. With softmax it is sum of w[k] * margin[k] over the classes within H minus the same over the
others, w being the softmax within each of the two groups: the linear part of the log-odds at this row. The log-odds
are this score plus the difference of the two groups' entropies, which no feature owns. All weights are fixed by the
row, so the score is a sum of contributions too: bias + sum = score, to rounding (tested to 1e-9).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oomguard.features import COUNT
from oomguard.forest import CLASSES, HORIZONS_S, Trees, class_probabilities

Reals = NDArray[np.float64]


class Contributions(NamedTuple):
    """Why the score of "a kill within `horizon_s`" is what it is."""

    horizon_s: int
    score: float
    bias: float                 # what the model says before it looks: base and the trees' means
    by_feature: Reals           # float64[COUNT]; bias + sum = score
    unit: str                   # `log-odds`, or `probability` where classes are summed


class ByClass(NamedTuple):
    """Per class: bias[CLASSES] and by_feature[COUNT, CLASSES]; their sum is the margin."""

    bias: Reals
    by_feature: Reals

    @property
    def margins(self) -> Reals:
        """Return the margin of each class, float64[CLASSES]."""
        return np.asarray(self.bias + self.by_feature.sum(axis=0), np.float64)


def by_class(trees: Trees, row: NDArray[np.float32]) -> ByClass:
    """Return each feature's contribution to the margin of each class.

    Args:
        trees: the unpacked forest.
        row: float32[COUNT], NaN where unknown.
    """
    count, inner = len(trees.tree_class), (1 << trees.depth) - 1
    thresholds = np.asarray(trees.thresholds, np.float32).reshape(count, inner)
    asked = np.asarray(trees.at, np.int64).reshape(count, inner)
    values = _node_values(trees, count)
    bias, contributions = np.array(trees.base, np.float64), np.zeros((COUNT, CLASSES))
    tree, at = np.arange(count), np.zeros(count, np.int64)
    np.add.at(bias, *_places(trees, values[:, 0]))
    for _level in range(trees.depth):
        which = asked[tree, at]
        x = row[which // 2]
        x = np.where(x != x, np.where(which % 2, np.inf, -np.inf), x)
        child = 2 * at + np.where(x < thresholds[tree, at], 1, 2)
        change = values[tree, child] - values[tree, at]
        if trees.leaf_size == 1:
            np.add.at(contributions, (which // 2, np.asarray(trees.tree_class)), change[:, 0])
        else:
            np.add.at(contributions, which // 2, change)
        at = child
    return ByClass(bias, contributions)


def contributions_to(trees: Trees, row: NDArray[np.float32], horizon_s: int) -> Contributions:
    """Return what pushed the score of a kill within 60, 120 … 300 s."""
    each = by_class(trees, row)
    weights = _weights(trees, each.margins, HORIZONS_S.index(horizon_s))
    by_feature = each.by_feature @ weights
    bias = float(each.bias @ weights)
    unit = "log-odds" if trees.transform == "softmax" else "probability"
    return Contributions(horizon_s, float(each.margins @ weights), bias, by_feature, unit)


def _weights(trees: Trees, margins: Reals, horizon: int) -> Reals:
    """Return by how much each class's margin counts in the score: float64[CLASSES]."""
    is_within = np.arange(CLASSES) >= CLASSES - 1 - horizon
    if trees.transform == "average":
        return np.where(is_within, trees.scale, 0.0)
    shares = np.asarray(class_probabilities(trees, margins.tolist()))
    within, beyond = shares[is_within].sum(), shares[~is_within].sum()
    if not (within > 0 and beyond > 0):         # one group is certain beyond float64: its parts count alike
        shares, within, beyond = np.ones(CLASSES), float(is_within.sum()), float((~is_within).sum())
    return np.asarray(np.where(is_within, shares / within, -shares / beyond) * trees.scale, np.float64)


def _node_values(trees: Trees, count: int) -> Reals:
    """Return float64[trees, 2^(depth+1) - 1, leaf_size]: level by level, the mean of the leaves below each node."""
    levels = [np.asarray(trees.leaves, np.float64).reshape(count, 1 << trees.depth, trees.leaf_size)]
    while levels[0].shape[1] > 1:
        levels.insert(0, (levels[0][:, 0::2] + levels[0][:, 1::2]) / 2.0)
    return np.concatenate(levels, axis=1)


def _places(trees: Trees, roots: Reals) -> tuple[NDArray[np.int64], Reals]:
    """Return which class each root's value belongs to, and the values."""
    if trees.leaf_size == 1:
        return np.asarray(trees.tree_class, np.int64), roots[:, 0]
    return np.tile(np.arange(CLASSES), len(roots)), roots.reshape(-1)
