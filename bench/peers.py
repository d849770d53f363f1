"""The very model of the bundle in the peers' own form, so that everybody walks the same trees."""

from __future__ import annotations

import json

from oomguard import features
from oomguard.forest import CLASSES, Trees


def booster_of(trees: Trees):
    """Return an xgboost Booster with these trees; a branch whose leaves are all equal is one leaf again."""
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(json.dumps(_document(trees)).encode()))
    return booster


def _document(trees: Trees) -> dict[str, object]:
    inner, outer = (1 << trees.depth) - 1, 1 << trees.depth
    used = [i for i in range(len(trees.tree_class)) if any(trees.leaves[i * outer:(i + 1) * outer])]
    made = [_tree(number, trees.thresholds[i * inner:(i + 1) * inner], trees.at[i * inner:(i + 1) * inner],
                  list(trees.leaves[i * outer:(i + 1) * outer])) for number, i in enumerate(used)]
    parameters = {"num_trees": str(len(made)), "num_parallel_tree": "1"}
    groups = [trees.tree_class[i] for i in used]
    base = "[" + ",".join(f"{value:.9E}" for value in trees.base) + "]"
    return {"version": [3, 0, 0], "learner": {
        "attributes": {}, "feature_names": [], "feature_types": [],
        "gradient_booster": {"name": "gbtree", "model": {
            "gbtree_model_param": parameters, "iteration_indptr": [0, len(made)], "tree_info": groups, "trees": made,
            "cats": {"enc": [], "feature_segments": [], "sorted_idx": []}}},
        "learner_model_param": {"base_score": base, "boost_from_average": "1", "num_class": str(CLASSES),
                                "num_feature": str(features.COUNT), "num_target": "1"},
        "objective": {"name": "multi:softprob", "softmax_multiclass_param": {"num_class": str(CLASSES)}}}}


def _tree(number: int, thresholds, at, leaves) -> dict[str, object]:
    left: list[int] = []
    right: list[int] = []
    parents: list[int] = []
    splits: list[int] = []
    conditions: list[float] = []
    defaults: list[int] = []

    def add(place: int, first: int, width: int, parent: int) -> int:
        node = len(left)
        parents.append(parent)
        part = leaves[first:first + width]
        is_leaf = width == 1 or len(set(part)) == 1
        left.append(-1)
        right.append(-1)
        splits.append(0 if is_leaf else at[place] // 2)
        conditions.append(part[0] if is_leaf else thresholds[place])
        defaults.append(0 if is_leaf else 1 - at[place] % 2)
        if not is_leaf:
            left[node] = add(2 * place + 1, first, width // 2, node)
            right[node] = add(2 * place + 2, first + width // 2, width // 2, node)
        return node

    add(0, 0, len(leaves), 2147483647)
    n = len(left)
    return {"base_weights": conditions, "categories": [], "categories_nodes": [], "categories_segments": [],
            "categories_sizes": [], "default_left": defaults, "id": number, "left_children": left,
            "loss_changes": [0.0] * n, "parents": parents, "right_children": right, "split_conditions": conditions,
            "split_indices": splits, "split_type": [0] * n, "sum_hessian": [1.0] * n,
            "tree_param": {"num_deleted": "0", "num_feature": str(features.COUNT), "num_nodes": str(n),
                           "size_leaf_vector": "1"}}
