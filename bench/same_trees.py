"""The very model of the bundle in each peer's own form, so that everybody walks the same trees.

`grown` makes plain trees out of a forest; the rest needs no oomguard and runs in each peer's environment.
"""

from __future__ import annotations

import struct
from typing import NamedTuple


class Tree(NamedTuple):
    """One tree of one class, node 0 its root; a branch whose leaves are all equal is one leaf again."""

    of_class: int
    left: list[int]             # -1: a leaf
    right: list[int]
    feature: list[int]
    threshold: list[float]      # left where x < threshold, float32; of a leaf, its value
    unknown_left: list[int]
    parent: list[int]           # -1: the root


class Ensemble(NamedTuple):
    """A boosted model: softmax of each class's base and the sum of its trees' leaves."""

    features: int
    classes: int
    base: list[float]
    trees: list[Tree]

    @classmethod
    def of(cls, plain: dict) -> Ensemble:
        """Return what `_asdict`, JSON and back made of one."""
        return cls(plain["features"], plain["classes"], plain["base"], [Tree(*tree) for tree in plain["trees"]])


def grown(trees, features: int, classes: int) -> Ensemble:
    """Return the trees of an oomguard.forest.Trees. Raises ValueError where its leaves vote for all classes."""
    if trees.leaf_size != 1 or trees.transform != "softmax":
        raise ValueError("a forest whose leaves vote for every class is no boosted model of one class a tree")
    inner, outer = (1 << trees.depth) - 1, 1 << trees.depth
    used = [i for i in range(len(trees.tree_class)) if any(trees.leaves[i * outer:(i + 1) * outer])]
    made = [_tree(trees.tree_class[i], trees.thresholds[i * inner:(i + 1) * inner], trees.at[i * inner:(i + 1) * inner],
                  [leaf * trees.scale for leaf in trees.leaves[i * outer:(i + 1) * outer]]) for i in used]
    return Ensemble(features, classes, [value * trees.scale for value in trees.base], made)


def _tree(of_class: int, thresholds, at, leaves) -> Tree:
    made = Tree(of_class, [], [], [], [], [], [])
    places = [(0, 0, len(leaves), -1)]      # in the tree, its leaves, its parent
    for node, (place, first, width, parent) in enumerate(places):       # grows as it goes: level by level
        part = leaves[first:first + width]
        is_leaf = width == 1 or len(set(part)) == 1
        made.parent.append(parent)
        made.left.append(-1 if is_leaf else len(places))    # right is left + 1: XGBoost's walk of one row relies on it
        made.right.append(-1 if is_leaf else len(places) + 1)
        made.feature.append(0 if is_leaf else at[place] // 2)
        made.threshold.append(float(part[0] if is_leaf else thresholds[place]))
        made.unknown_left.append(0 if is_leaf else 1 - at[place] % 2)
        if not is_leaf:
            places += [(2 * place + 1, first, width // 2, node), (2 * place + 2, first + width // 2, width // 2, node)]
    return made


def base_in_leaves(model: Ensemble) -> Ensemble:
    """Return the same sums without a base: older importers know only one for all classes."""
    trees, given = [], set()
    for tree in model.trees:
        if tree.of_class not in given:
            given.add(tree.of_class)
            base = model.base[tree.of_class]
            tree = tree._replace(threshold=[value + base if left < 0 else value
                                            for value, left in zip(tree.threshold, tree.left, strict=True)])
        trees.append(tree)
    alone = [Tree(each, [-1], [-1], [0], [base], [0], [-1])
             for each, base in enumerate(model.base) if each not in given]
    return model._replace(base=[0.0] * model.classes, trees=trees + alone)


def just_below(threshold: float) -> float:
    """Return the greatest float32 below: `x <= just_below(t)` says what `x < t` says."""
    bits = struct.unpack("<i", struct.pack("<f", threshold))[0]
    if bits in (0, -(1 << 31)):
        return struct.unpack("<f", struct.pack("<I", 0x80000001))[0]
    return struct.unpack("<f", struct.pack("<i", bits - 1 if bits > 0 else bits + 1))[0]


# -- XGBoost -----------------------------------------------------------------------------------------------------------

def xgboost_document(model: Ensemble, *, has_bases: bool = True) -> dict:
    """Return the model as XGBoost's own JSON (format 3); without bases as readers of older formats take it."""
    made = [_xgboost_tree(number, tree, model.features) for number, tree in enumerate(model.trees)]
    base = f"[{','.join(f'{value:.9E}' for value in model.base)}]" if has_bases else "0E0"
    return {"version": [3, 0, 0], "learner": {
        "attributes": {}, "feature_names": [], "feature_types": [],
        "gradient_booster": {"name": "gbtree", "model": {
            "gbtree_model_param": {"num_trees": str(len(made)), "num_parallel_tree": "1"},
            "iteration_indptr": [0, len(made)], "tree_info": [tree.of_class for tree in model.trees], "trees": made,
            "cats": {"enc": [], "feature_segments": [], "sorted_idx": []}}},
        "learner_model_param": {"base_score": base, "boost_from_average": "1", "num_class": str(model.classes),
                                "num_feature": str(model.features), "num_target": "1"},
        "objective": {"name": "multi:softprob", "softmax_multiclass_param": {"num_class": str(model.classes)}}}}


def _xgboost_tree(number: int, tree: Tree, features: int) -> dict:
    n = len(tree.left)
    return {"base_weights": tree.threshold, "categories": [], "categories_nodes": [], "categories_segments": [],
            "categories_sizes": [], "default_left": tree.unknown_left, "id": number, "left_children": tree.left,
            "loss_changes": [0.0] * n, "parents": [2147483647 if parent < 0 else parent for parent in tree.parent],
            "right_children": tree.right, "split_conditions": tree.threshold, "split_indices": tree.feature,
            "split_type": [0] * n, "sum_hessian": [1.0] * n,
            "tree_param": {"num_deleted": "0", "num_feature": str(features), "num_nodes": str(n),
                           "size_leaf_vector": "1"}}


# -- LightGBM, and lleaves, which reads the same file --------------------------------------------------------------

def lightgbm_text(model: Ensemble, *, has_lone_leaves: bool = True) -> str:
    """Return the model as LightGBM's text file. Its trees take turns by class, and have no base: leaves hold it.

    A class with fewer trees than another takes turns with a lone leaf of 0; lleaves refuses such a tree, so there it is
    a split with 0 on both sides, which its compiler folds away.
    """
    by_class = [[tree for tree in model.trees if tree.of_class == of_class] for of_class in range(model.classes)]
    rounds = max(len(mine) for mine in by_class)
    nothing = Tree(0, [-1], [-1], [0], [0.0], [0], [-1]) if has_lone_leaves else \
        Tree(0, [1, -1, -1], [2, -1, -1], [0] * 3, [0.0] * 3, [0] * 3, [-1, 0, 0])
    parts = []
    for turn in range(rounds):
        for of_class, mine in enumerate(by_class):
            tree = mine[turn] if turn < len(mine) else nothing
            parts.append(_lightgbm_tree(len(parts), tree, 0.0 if turn else model.base[of_class]))
    names = " ".join(f"Column_{at}" for at in range(model.features))
    infos = " ".join(["[-1e+300:1e+300]"] * model.features)
    head = (f"tree\nversion=v4\nnum_class={model.classes}\nnum_tree_per_iteration={model.classes}\nlabel_index=0\n"
            f"max_feature_idx={model.features - 1}\nobjective=multiclass num_class:{model.classes}\n"
            f"feature_names={names}\nfeature_infos={infos}\n" + line_of("tree_sizes", map(len, parts)) + "\n")
    return head + "".join(parts) + "end of trees\n\npandas_categorical:null\n"


def line_of(key: str, values) -> str:
    """Return one line of the text file."""
    return f"{key}={' '.join(map(str, values))}\n"


def _lightgbm_tree(number: int, tree: Tree, base: float) -> str:
    inner = [node for node, left in enumerate(tree.left) if left >= 0]
    leaves = [node for node, left in enumerate(tree.left) if left < 0]
    name = {node: at for at, node in enumerate(inner)} | {node: ~at for at, node in enumerate(leaves)}

    line = line_of
    text = f"Tree={number}\nnum_leaves={len(leaves)}\nnum_cat=0\n"
    if inner:       # decision: bits 2 and 3 say that NaN is what is missing, bit 1 that it goes left
        text += line("split_feature", (tree.feature[node] for node in inner)) + line("split_gain", [1] * len(inner)) + \
            line("threshold", (repr(just_below(tree.threshold[node])) for node in inner)) + \
            line("decision_type", (8 + 2 * tree.unknown_left[node] for node in inner)) + \
            line("left_child", (name[tree.left[node]] for node in inner)) + \
            line("right_child", (name[tree.right[node]] for node in inner))
    text += line("leaf_value", (repr(tree.threshold[node] + base) for node in leaves))
    if inner:
        text += line("leaf_weight", [1] * len(leaves)) + line("leaf_count", [1] * len(leaves)) + \
            line("internal_value", [0] * len(inner)) + line("internal_weight", [1] * len(inner)) + \
            line("internal_count", [2] * len(inner))
    return text + "is_linear=0\nshrinkage=1\n\n\n"


# -- ONNX ------------------------------------------------------------------------------------------------------------

def onnx_bytes(model: Ensemble) -> bytes:
    """Return the model as one TreeEnsembleClassifier of ONNX's ML domain."""
    from onnx import TensorProto, helper

    nodes = [(tree, number, node) for number, tree in enumerate(model.trees) for node in range(len(tree.left))]
    leaves = [(tree, number, node) for tree, number, node in nodes if tree.left[node] < 0]
    inside = [(tree, node, tree.left[node] >= 0) for tree, _number, node in nodes]
    ensemble = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", post_transform="SOFTMAX",
        classlabels_int64s=list(range(model.classes)), base_values=model.base,
        nodes_treeids=[number for _tree, number, _node in nodes],
        nodes_nodeids=[node for _tree, _number, node in nodes],
        nodes_featureids=[tree.feature[node] for tree, _number, node in nodes],
        nodes_values=[tree.threshold[node] if is_in else 0.0 for tree, node, is_in in inside],
        nodes_modes=["BRANCH_LT" if is_in else "LEAF" for _tree, _node, is_in in inside],
        nodes_truenodeids=[max(tree.left[node], 0) for tree, node, _is_in in inside],
        nodes_falsenodeids=[max(tree.right[node], 0) for tree, node, _is_in in inside],
        nodes_missing_value_tracks_true=[tree.unknown_left[node] for tree, node, _is_in in inside],
        nodes_hitrates=[1.0] * len(nodes),
        class_treeids=[number for _tree, number, _node in leaves],
        class_nodeids=[node for _tree, _number, node in leaves],
        class_ids=[tree.of_class for tree, _number, _node in leaves],
        class_weights=[tree.threshold[node] for tree, _number, node in leaves])
    graph = helper.make_graph(
        [ensemble], "forest", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, model.features])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
         helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, model.classes])])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
                             ir_version=8)
    return made.SerializeToString()


# -- scikit-learn ----------------------------------------------------------------------------------------------------

def histogram_booster(model: Ensemble):
    """Return a fitted HistGradientBoostingClassifier whose trees were replaced by these."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60 * model.classes, model.features))
    fitted = HistGradientBoostingClassifier(max_iter=1, max_depth=2, early_stopping=False)
    fitted.fit(rows, np.arange(len(rows)) % model.classes)
    by_class = [[tree for tree in model.trees if tree.of_class == of_class] for of_class in range(model.classes)]
    rounds, one = max(len(mine) for mine in by_class), fitted._predictors[0][0]
    nothing = Tree(0, [-1], [-1], [0], [0.0], [0], [-1])
    fitted._predictors = [[type(one)(_nodes(mine[turn] if turn < len(mine) else nothing, one.nodes.dtype, np),
                                     one.raw_left_cat_bitsets, one.raw_left_cat_bitsets) for mine in by_class]
                          for turn in range(rounds)]
    fitted._baseline_prediction = np.array(model.base).reshape(1, -1)
    return fitted


def _nodes(tree: Tree, dtype, np):
    nodes = np.zeros(len(tree.left), dtype)
    for node, left in enumerate(tree.left):
        row = nodes[node]
        row["is_leaf"], row["missing_go_to_left"] = left < 0, tree.unknown_left[node]
        if left < 0:
            row["value"] = tree.threshold[node]
        else:
            row["feature_idx"], row["num_threshold"] = tree.feature[node], just_below(tree.threshold[node])
            row["left"], row["right"] = left, tree.right[node]
    return nodes
