"""A compiled forest behaves exactly like the model it was compiled from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import treelite
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from treelite.model_builder import Metadata, ModelBuilder, PostProcessorFunc, TreeAnnotation

from oomguard import features, forest
from oomguard.errors import BundleError
from oomguard.learn.zoo import compile as compiler

F, K = features.COUNT, forest.CLASSES


def probabilities(data, rows):
    """Return what the forest file says, by the readable reference."""
    trees = forest.unpack(data)
    return np.array([forest.class_probabilities(trees, forest.reference_margins(trees, row.tolist())) for row in rows])


def rows_of(seed, n=400, unknown=0.2):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, F)).astype(np.float32)
    rows[rng.random(rows.shape) < unknown] = np.nan
    rows[rng.random(rows.shape) < 0.01] = np.inf
    rows[rng.random(rows.shape) < 0.01] = -np.inf
    return rows


def labels_of(rows):
    known = np.nan_to_num(rows, posinf=3, neginf=-3)
    return np.clip(np.floor(known[:, 0] + known[:, 1] + 3), 0, K - 1).astype(int)


def booster_of(seed=1, depth=4, rounds=5):
    rows = rows_of(seed)
    finite = np.where(np.isinf(rows), np.float32(2.0), rows)
    parameters = {"objective": "multi:softprob", "num_class": K, "max_depth": depth, "nthread": 1, "seed": seed}
    return xgboost.train(parameters, xgboost.DMatrix(finite, labels_of(rows), nthread=1), rounds)


def built(operator, threshold, *, default_left=True, postprocessor="softmax", depth=1):
    """Return a treelite model of one tree: class 1 to the left of its splits, class 2 to the right of the last."""
    builder = ModelBuilder(
        threshold_type="float64", leaf_output_type="float64",
        metadata=Metadata(num_feature=F, task_type="kMultiClf", average_tree_output=False, num_target=1, num_class=[K],
                          leaf_vector_shape=(1, K)),
        tree_annotation=TreeAnnotation(num_tree=1, target_id=[0], class_id=[-1]),
        postprocessor=PostProcessorFunc(name=postprocessor), base_scores=[0.0] * K)
    builder.start_tree()
    for level in range(depth):
        builder.start_node(2 * level)
        builder.numerical_test(feature_id=0, threshold=threshold, default_left=default_left, opname=operator,
                               left_child_key=2 * level + 1, right_child_key=2 * level + 2)
        builder.end_node()
        builder.start_node(2 * level + 1)
        builder.leaf([1.0 if k == 1 else 0.0 for k in range(K)])
        builder.end_node()
    builder.start_node(2 * depth)
    builder.leaf([1.0 if k == 2 else 0.0 for k in range(K)])
    builder.end_node()
    builder.end_tree()
    return builder.commit()


def goes_left(model, x):
    """Whether the compiled model sends a row with this first feature to the left (class 1)."""
    row = np.zeros(F, np.float32)
    row[0] = x
    margins = forest.reference_margins(compiler.flatten(model), row.tolist())
    return margins[1] > margins[2]


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_xgboost_gives_the_same_probabilities(depth):
    """Rows with unknown values get the trainer's own probabilities, whatever the depth."""
    booster = booster_of(depth=depth)
    rows = np.where(np.isinf(rows_of(7)), np.float32(1.5), rows_of(7))      # XGBoost refuses infinities
    said = probabilities(compiler.to_bytes(compiler.from_xgboost(booster)), rows)
    np.testing.assert_allclose(said, booster.predict(xgboost.DMatrix(rows, nthread=1)), atol=2e-6)


def test_infinities_go_where_treelite_sends_them():
    """Infinite features are compared like any other: treelite's own reference is the oracle."""
    model, rows = compiler.from_xgboost(booster_of()), rows_of(8)
    expected = treelite.gtil.predict(model, rows, nthread=1).reshape(len(rows), K)
    np.testing.assert_allclose(probabilities(compiler.to_bytes(model), rows), expected, atol=2e-6)


def test_a_random_forest_votes_the_same():
    """Averaged votes with float64 thresholds and `<=` are the same, where every feature is known."""
    rows = np.where(np.isfinite(rows_of(3, unknown=0.0)), rows_of(3, unknown=0.0), np.float32(0.0))
    labels = labels_of(rows)
    labels[:K] = np.arange(K)
    model = RandomForestClassifier(12, max_depth=6, random_state=1).fit(rows, labels)
    np.testing.assert_allclose(probabilities(compiler.to_bytes(compiler.from_sklearn(model)), rows),
                               model.predict_proba(rows), atol=1e-6)


OPERATORS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(sorted(OPERATORS)),
       st.floats(width=32, allow_nan=False) | st.none())
def test_every_operator_and_threshold_decides_as_in_float64(threshold, operator, x):
    """The float32 threshold and `<` say of any float32 what the model said in float64; also right beside it."""
    with np.errstate(over="ignore"):
        x = float(np.float32(threshold)) if x is None else x
    t = compiler.below(threshold, "<=" if operator in ("<=", ">") else "<")
    is_below = x < t
    assert (is_below if operator in ("<", "<=") else not is_below) == bool(OPERATORS[operator](x, threshold))


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@pytest.mark.parametrize("default_left", [True, False])
def test_unknown_goes_where_the_model_sends_it(operator, default_left):
    """Turning `>` around turns the way of unknown values around with it."""
    model = built(operator, 0.1, default_left=default_left)
    assert goes_left(model, math.nan) is default_left
    for x in (-math.inf, -1.0, 0.1, 0.10000001, 1.0, math.inf):
        assert goes_left(model, x) == bool(OPERATORS[operator](float(np.float32(x)), 0.1))


@pytest.mark.parametrize(("model", "says"), [
    (lambda: built("<", math.inf), "not finite"),
    (lambda: built("==", 1.0), "compares with =="),
    (lambda: built("<", 1.0, postprocessor="exponential"), "its output is exponential"),
    (lambda: built("<", 1.0, depth=11), "11 deep"),
])
def test_what_the_kernel_cannot_do_is_refused(model, says):
    """A model that cannot be compiled exactly is refused with the reason."""
    with pytest.raises(BundleError, match=says):
        compiler.flatten(model())


def test_other_classes_are_refused():
    """A model of two classes has no horizons."""
    rows = rows_of(1)[:, :3]
    finite = np.nan_to_num(rows, posinf=1, neginf=-1)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1},
                            xgboost.DMatrix(finite, finite[:, 0] > 0, nthread=1), 1)
    with pytest.raises(BundleError, match="classes"):
        compiler.flatten(compiler.from_xgboost(booster))


def test_a_saved_model_loads_and_others_do_not(tmp_path):
    """XGBoost's JSON compiles to the same bytes as the booster itself; a foreign file is refused by name."""
    booster = booster_of()
    booster.save_model(tmp_path / "booster.json")
    assert compiler.to_bytes(compiler.load(str(tmp_path / "booster.json"))) == compiler.to_bytes(
        compiler.from_xgboost(booster))
    with pytest.raises(BundleError, match="not one of"):
        compiler.load(str(tmp_path / "model.pkl"))
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(BundleError, match=r"bad\.json"):
        compiler.load(str(tmp_path / "bad.json"))
