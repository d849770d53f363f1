"""The peers are given the very trees of the model: their forms say the same to the bit where they are read here."""

import math
import struct

import pytest

import same_trees
from oomguard import features, forest
from oomguard.measure import inputs


@pytest.fixture(scope="module")
def trees():
    return forest.unpack(inputs.made_forest(trees=24, depth=3))


@pytest.fixture(scope="module")
def model(trees):
    return same_trees.grown(trees, features.COUNT, forest.CLASSES)


def sums(model, row):
    """Walk the plain trees readably."""
    margins = list(model.base)
    for tree in model.trees:
        node = 0
        while tree.left[node] >= 0:
            x = row[tree.feature[node]]
            goes_left = tree.unknown_left[node] if x != x else x < tree.threshold[node]
            node = tree.left[node] if goes_left else tree.right[node]
        margins[tree.of_class] += tree.threshold[node]
    return margins


def test_plain_trees_sum_to_what_the_forest_does(trees, model):
    """For rows of the made windows, unknown values among them."""
    for window in inputs.windows(16):
        row = features.of(window.buffer, inputs.facts()[1])
        assert sums(model, row) == pytest.approx(forest.reference_margins(trees, row), abs=1e-12)


def test_siblings_stand_beside_each_other(model):
    """XGBoost's walk of one row takes the right child for left + 1; another order is another model, silently."""
    assert all(right == left + 1 for tree in model.trees for left, right in zip(tree.left, tree.right, strict=True)
               if left >= 0)


def test_a_base_can_be_moved_into_leaves(model):
    """For importers that know none, or one for all classes."""
    given = model._replace(base=[0.5 * of_class for of_class in range(model.classes)])
    moved = same_trees.base_in_leaves(given)
    row = features.of(inputs.windows(1)[0].buffer, inputs.facts()[0])
    assert not any(moved.base)
    assert sums(moved, row) == pytest.approx(sums(given, row), abs=1e-9)


@pytest.mark.parametrize("threshold", [1.0, -1.0, 0.0, -0.0, 1e-45, -1e-45, 3e38, 1.1754944e-38])
def test_just_below_is_the_next_float32(threshold):
    """`x <= just_below(t)` is `x < t` for every float32: nothing lies between."""
    below = same_trees.just_below(threshold)
    threshold = struct.unpack("f", struct.pack("f", threshold))[0]
    assert below < threshold
    middle = struct.unpack("f", struct.pack("f", (below + threshold) / 2))[0]
    assert middle in (below, threshold) and math.isfinite(below)


def test_a_forest_whose_leaves_vote_is_refused(trees):
    """Not every peer has such a form; who measures is told."""
    with pytest.raises(ValueError, match="no boosted model"):
        same_trees.grown(trees._replace(transform="average"), features.COUNT, forest.CLASSES)


@pytest.mark.parametrize("has_lone_leaves", [True, False])
def test_classes_without_trees_take_their_turns(model, has_lone_leaves):
    """A model of one class alone is whole in LightGBM's form: as many trees of each class, split where it must be."""
    alone = model._replace(trees=[tree for tree in model.trees if tree.of_class == 5])
    text = same_trees.lightgbm_text(alone, has_lone_leaves=has_lone_leaves)
    assert text.count("Tree=") == len(alone.trees) * model.classes
    assert ("num_leaves=1\n" in text) is has_lone_leaves
