"""Compile any tree model treelite can import into a forest file that behaves exactly like it.

One direction: the trainer's model → treelite → nodes → perfect-depth arrays (forest.Trees) → bytes. A row of float32
features takes the same path as in the trainer, unknown values included; only the order of the float64 sums differs.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import treelite

from oomguard import features, forest
from oomguard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable

HALF_S = 150.0          # the time to a kill at which a survival model's score is one half
NO_SAY = -100.0         # its exponential is no addend to one
NEGATED = {">": "<=", ">=": "<"}        # x > t goes left  ⇔  x <= t goes right


def from_xgboost(booster: Any) -> treelite.Model:
    """Return the treelite model of an xgboost Booster."""
    return treelite.frontend.from_xgboost(booster)


def from_sklearn(model: Any) -> treelite.Model:
    """Return the treelite model of a scikit-learn forest or boosted ensemble."""
    return treelite.sklearn.import_model(model)


def from_adaboost(model: Any) -> treelite.Model:
    """Return the treelite model of a scikit-learn AdaBoostClassifier over decision trees: zoo/adaboost.py says why
    it is the same. treelite has no importer for it.

    Each leaf holds its tree's weighted vote, such that the softmax of their sums are `predict_proba`. Unknown values
    go left, as whatever is below every threshold does.
    """
    from treelite.model_builder import Metadata, ModelBuilder, PostProcessorFunc, TreeAnnotation

    count, classes = len(model.estimators_), len(model.classes_)
    builder = ModelBuilder(
        threshold_type="float64", leaf_output_type="float64",
        metadata=Metadata(num_feature=model.n_features_in_, task_type="kMultiClf", average_tree_output=False,
                          num_target=1, num_class=[classes], leaf_vector_shape=(1, classes)),
        tree_annotation=TreeAnnotation(num_tree=count, target_id=[0] * count, class_id=[-1] * count),
        postprocessor=PostProcessorFunc(name="softmax"), base_scores=[0.0] * classes)
    shares = model.estimator_weights_[:count] / model.estimator_weights_[:count].sum() / (classes - 1)
    for estimator, share in zip(model.estimators_, shares.tolist(), strict=True):
        _add_votes(builder, estimator.tree_, share, classes)
    return builder.commit()


def _add_votes(builder: Any, tree: Any, share: float, classes: int) -> None:
    """Add one decision tree of scikit-learn's whose leaves vote `share` for the class they name."""
    builder.start_tree()
    for node in range(tree.node_count):
        builder.start_node(node)
        left, right = int(tree.children_left[node]), int(tree.children_right[node])
        if left == right:           # a leaf
            votes = [-share / (classes - 1)] * classes
            votes[int(tree.value[node][0].argmax())] = share
            builder.leaf(votes)
        else:
            builder.numerical_test(feature_id=int(tree.feature[node]), threshold=float(tree.threshold[node]),
                                   default_left=True, opname="<=", left_child_key=left, right_child_key=right)
        builder.end_node()
    builder.end_tree()


def load(path: str) -> treelite.Model:
    """Return the model in a file: XGBoost's `.json` or `.ubj`, LightGBM's `.txt`, treelite's own `.tl`.

    Raises:
        BundleError: the suffix or the content is none of these.
    """
    readers: dict[str, Callable[[str], treelite.Model]] = {
        "json": lambda p: treelite.frontend.load_xgboost_model(p, format_choice="json"),
        "ubj": lambda p: treelite.frontend.load_xgboost_model(p, format_choice="ubjson"),
        "txt": treelite.frontend.load_lightgbm_model,
        "tl": treelite.Model.deserialize,
    }
    suffix = path.rsplit(".", 1)[-1]
    if suffix not in readers:
        raise BundleError(f"{path}: not one of *.{', *.'.join(readers)}")
    try:
        return readers[suffix](path)
    except treelite.TreeliteError as problem:
        raise BundleError(f"{path}: {problem}") from None


def to_bytes(model: treelite.Model) -> bytes:
    """Return the forest file of a model. Raises BundleError, as `flatten` does."""
    return forest.pack(flatten(model))


def flatten(model: treelite.Model) -> forest.Trees:
    """Return a model as perfect-depth arrays.

    Raises:
        BundleError: it is deeper than 10, splits on categories, has other classes or features than ours, a
            non-finite threshold, or turns sums into probabilities in a way the kernel does not know.
        Known are softmax, averaged votes, and a survival model's one sum (XGBoost's accelerated failure time).
    """
    try:
        dump = json.loads(model.dump_as_json(pretty_print=False))
    except ValueError:      # treelite writes inf and nan bare, which is no JSON
        raise BundleError("model: a threshold or a leaf is not finite") from None
    is_survival = dump["postprocessor"] == "exponential" and dump["num_class"] == [1]
    if dump["num_target"] != 1 or not (is_survival or dump["num_class"] == [forest.CLASSES]):
        raise BundleError(f"model: {dump['num_class']} classes, not {forest.CLASSES}")
    if dump["num_feature"] > features.COUNT:
        raise BundleError(f"model: made for {dump['num_feature']} features, there are {features.COUNT}")
    trees = [_Tree(tree) for tree in dump["trees"]]
    depth = max(1, *(tree.depth for tree in trees))
    if depth > forest.MAX_DEPTH:
        raise BundleError(f"model: its trees are {depth} deep, {forest.MAX_DEPTH} is allowed")
    leaf_size = forest.CLASSES if dump["leaf_vector_shape"] == [1, forest.CLASSES] else 1
    thresholds, at, leaves = [], [], []
    for tree in trees:
        tree_thresholds, tree_at, tree_leaves = tree.padded(depth, leaf_size)
        thresholds += tree_thresholds
        at += tree_at
        leaves += tree_leaves
    if is_survival:
        return _survival(depth, len(trees), dump["base_scores"][0], thresholds, at, leaves)
    transform, scale, base_scale = _transform(dump, len(trees))
    return forest.Trees(depth, leaf_size, transform, scale, [score * base_scale for score in dump["base_scores"]],
                        [max(class_id, 0) for class_id in dump["class_id"]], thresholds, at, leaves)


def _survival(depth: int, count: int, base: float, thresholds: list[float], at: list[int], leaves: list[float],
              ) -> forest.Trees:
    """Return the forest of a model whose sum is the logarithm of the time to the kill, in seconds.

    Only two classes have a say, the nearest and none: their softmax is HALF_S / (HALF_S + time). It ranks as the time
    does, and each horizon's calibration makes a probability of it.
    """
    nearest = forest.CLASSES - 1
    sums = [0.0, *[NO_SAY] * (nearest - 1), math.log(HALF_S) - base]
    return forest.Trees(depth, 1, "softmax", 1.0, sums, [nearest] * count, thresholds, at, [-leaf for leaf in leaves])


def _transform(dump: dict[str, Any], count: int) -> tuple[str, float, float]:
    """Return (transform, scale of the sums, factor for the base, which treelite adds after averaging)."""
    kind, is_averaged = dump["postprocessor"], dump["average_tree_output"]
    if kind == "softmax" and not is_averaged:
        return "softmax", 1.0, 1.0
    if kind == "identity_multiclass" and is_averaged:
        return "average", 1.0 / count, float(count)
    raise BundleError(f"model: its output is {kind}{' of averages' if is_averaged else ''}; "
                      "softmax of sums and averaged votes are known")


def below(threshold: float, operator: str) -> float:
    """Return the float32 t for which `x < t` says of every float32 x what `x operator threshold` says.

    Args:
        threshold: finite, of any precision.
        operator: `<` or `<=`.
    """
    up, down = np.float32(np.inf), np.float32(-np.inf)
    with np.errstate(over="ignore"):      # beyond the largest float32 lies infinity, and that is right
        nearest = np.float32(threshold)
        if operator == "<":               # the least float32 not below the threshold
            return float(nearest if float(nearest) >= threshold else np.nextafter(nearest, up))
        most = nearest if float(nearest) <= threshold else np.nextafter(nearest, down)
        return float(np.nextafter(most, up))


class _Tree:
    """One tree of treelite's dump, by node id."""

    def __init__(self, dump: dict[str, Any]) -> None:
        self.nodes = {node["node_id"]: node for node in dump["nodes"]}
        self.root = dump.get("root_id", dump["nodes"][0]["node_id"])
        if dump.get("has_categorical_split"):
            raise BundleError("model: it splits on categories, features are numbers")
        self.depth = self._depth(self.root)

    def _depth(self, node_id: int) -> int:
        deepest, stack = 0, [(node_id, 0)]
        while stack:
            node_id, depth = stack.pop()
            deepest = max(deepest, depth)
            node = self.nodes[node_id]
            if "left_child" in node:
                stack += [(node["left_child"], depth + 1), (node["right_child"], depth + 1)]
        return deepest

    def padded(self, depth: int, leaf_size: int) -> tuple[list[float], list[int], list[float]]:
        """Return (thresholds, feature codes, leaves) of a perfect tree; a leaf higher up is repeated below."""
        level = [self.root]
        thresholds: list[float] = []
        at: list[int] = []
        for _ in range(depth):
            below_it: list[int] = []
            for node_id in level:
                node = self.nodes[node_id]
                threshold, code, children = (
                    _split(node) if "left_child" in node else (0.0, 0, (node_id, node_id)))
                thresholds.append(threshold)
                at.append(code)
                below_it += children
            level = below_it
        leaves = [value for node_id in level for value in self._leaf(node_id, leaf_size)]
        return thresholds, at, leaves

    def _leaf(self, node_id: int, leaf_size: int) -> list[float]:
        value = self.nodes[node_id]["leaf_value"]
        values = [float(v) for v in value] if isinstance(value, list) else [float(value)]
        if len(values) != leaf_size or not all(map(math.isfinite, values)):
            raise BundleError(f"model: a leaf holds {value}, {leaf_size} finite numbers were expected")
        return values


def _split(node: dict[str, Any]) -> tuple[float, int, tuple[int, int]]:
    """Return (float32 threshold, 2 * feature + unknown-goes-right, (child where x < threshold, other child))."""
    operator, threshold = node["comparison_op"], float(node["threshold"])
    if not math.isfinite(threshold):      # 1e999 is JSON
        raise BundleError("model: a threshold or a leaf is not finite")
    left, right, unknown_goes_left = node["left_child"], node["right_child"], bool(node["default_left"])
    if operator in NEGATED:
        operator, left, right, unknown_goes_left = NEGATED[operator], right, left, not unknown_goes_left
    if operator not in ("<", "<="):
        raise BundleError(f"model: it compares with {operator}")
    code = 2 * int(node["split_feature_id"]) + (0 if unknown_goes_left else 1)
    return below(threshold, operator), code, (left, right)
