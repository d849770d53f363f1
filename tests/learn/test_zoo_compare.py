"""Tuning inside the training folds, what a score costs, and the table in which all members stand together."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from oomguard import features
from oomguard.errors import UsageError
from oomguard.learn.bundle.zoo_compare import train_zoo, zoo_table
from oomguard.learn.dataset import read_recordings
from oomguard.learn.evaluate.latency import latency_of, windows_of
from oomguard.learn.label.examples import examples_of
from oomguard.learn.train.crossval import Material
from oomguard.learn.train.model import train_model
from oomguard.learn.train.tune import tune
from oomguard.learn.zoo.recipe import ElasticNet, RandomForest, Recipe, Trees, read_recipe
from oomguard.trust.bundle import load_bundle

RECORDINGS = "models/recordings/sample"
PROGRAMS = ("pagecache", "py-linear", "py-saw", "redis-leak")
TEXT = """
name: {name}
release: 1
seed: 1
recordings: [recordings]
inputs: {{rows_per_run: 10}}
evaluation: {{folds_by_run: 3, seed: 1}}
model: {{kind: {model}}}
"""
needs_runtime = pytest.mark.skipif(not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")),
                                   reason="onnx and onnxruntime are not installed")


@pytest.fixture(scope="module")
def runs():
    """Return three recorded runs of each of four programs."""
    every = read_recordings(RECORDINGS)
    return [run for app in PROGRAMS for run in [each for each in every if each.app == app][:3]]


@pytest.fixture(scope="module")
def material(runs):
    """Return what there is to learn from them."""
    return Material(runs, examples_of(runs, 20, 1, 1), [], Recipe("x", 1, 1, ()))


@pytest.fixture(scope="module")
def folder(runs, tmp_path_factory):
    """Return a folder with a recording of those runs, and recipes beside it."""
    base = tmp_path_factory.mktemp("zoo")
    (base / "recordings").mkdir()
    for name in ("devices", "runs", "samples", "kills", "actions"):
        table = pq.read_table(f"{RECORDINGS}/{name}.parquet")
        if name != "devices":
            table = table.filter(pc.is_in(table["run_id"], pa.array([run.run_id for run in runs])))
        pq.write_table(table, base / "recordings" / f"{name}.parquet")
    for name, model in (("trees", "xgboost, rounds: 2, depth: 3"), ("linear", "elastic-net, epochs: 3")):
        (base / f"{name}.yaml").write_text(TEXT.format(name=name, model=model))
    return base


def test_tuning_prefers_what_can_learn(material):
    """Trees that may not split at all lose against ones that may."""
    grid = (RandomForest(trees=4, depth=1, least_leaf_ratio=0.49), RandomForest(trees=8, depth=5))
    tuned = tune(material, grid)
    assert tuned.chosen == 1 and tuned.scores[1] > tuned.scores[0]
    assert 1 <= tuned.agreeing <= 4
    assert tuned.table()[0].startswith(f"{tuned.scores[1]:.3f}")


def test_what_is_judged_was_not_seen(material, monkeypatch):
    """No model that is asked about a program was trained on a run of it."""
    seen = []

    def watched(examples, runs, recipe):
        seen.append({runs[at].app for at in np.unique(examples.run)})
        return train_model(examples, runs, recipe)

    monkeypatch.setattr("oomguard.learn.train.tune.train_model", watched)
    tune(material, [Trees(rounds=1, depth=2)])
    assert len(seen) == 6                                       # every pair of the four is left out once
    assert all(len(apps) == 2 for apps in seen) and len({tuple(sorted(apps)) for apps in seen}) == 6


def test_windows_are_those_of_the_runs(runs):
    """Each one stood so at some moment of a recorded run, long enough for the model; the same seed gives the same."""
    windows, again = windows_of(runs, 3, 20), windows_of(runs, 3, 20)
    for (window, profile), (other, _profile) in zip(windows, again, strict=True):
        row = features.of(window.buffer, features.statics(profile))
        assert row.tobytes() == features.of(other.buffer, features.statics(profile)).tobytes()
        assert features.reach(window.buffer)[0] >= 29
    assert len({window.last_t_s for window, _profile in windows}) > 10


@needs_runtime
@pytest.mark.parametrize(("settings", "is_net"), [(Trees(rounds=1), False), (ElasticNet(epochs=2), True)])
def test_a_score_costs_something(material, runs, settings, is_net):
    """Forest and net are both timed by the device's scorer; only a net has an answer that comes later."""
    model = train_model(material.examples, runs, Recipe("x", 1, 1, (), model=settings))
    measured = latency_of(model.forest([((0.0, 0.0), (1.0, 1.0))] * 5), windows_of(runs, 1, 8))
    assert 0 < measured.score_p50_us <= measured.score_p99_us
    assert (measured.answer_p50_us is not None) == is_net


@needs_runtime
def test_the_zoo_stands_in_one_table(folder, tmp_path):
    """Figures of each member and of every baseline, what each costs, and a bundle of each that loads."""
    stages = []
    report = train_zoo([str(folder / "trees.yaml"), str(folder / "linear.yaml")], str(tmp_path),
                       lambda stage, _done, _of: stages.append(stage))
    assert list(report["members"]) == ["trees", "linear"]
    assert {name: row["kind"] for name, row in report["members"].items()} == {
        "trees": "xgboost", "linear": "elastic-net"}
    assert "constant" in report["baselines"] and not any("oomguard" in name for name in report["baselines"])
    assert {"recall", "false_alarms_per_hour", "alarm_time_ratio"} <= set(report["members"]["linear"]["figures"])
    assert json.loads(json.dumps(report, allow_nan=False))
    table = zoo_table(report)
    assert "| trees |" in table and "XGBoost trees of depth <= 3" in table and "a tick late" in table
    for name in ("trees", "linear"):
        bundle = load_bundle(str(tmp_path / name), allow_unsigned=True)
        assert bool(bundle.onnx) == (name == "linear") and bundle.load_forest() is not None
        assert report["members"][name]["cost"]["bytes"] == len(bundle.forest or bundle.onnx)
    assert stages[0].startswith("trees: ")


def test_what_cannot_be_compared_is_refused(folder, tmp_path):
    """Recipes of one name, of other seeds, or none at all."""
    trees = str(folder / "trees.yaml")
    other = tmp_path / "other.yaml"
    other.write_text(TEXT.format(name="other", model="ann").replace("[recordings]", f"[{folder}/recordings]")
                     .replace("seed: 1}", "seed: 2}"))
    for paths, says in (([], "none"), ([trees, trees], "different names"), ([trees, str(other)], "its evaluation")):
        with pytest.raises(UsageError, match=says):
            train_zoo(paths)


@pytest.mark.parametrize(("name", "kind"), [
    ("default", "xgboost"), ("adaboost", "adaboost"), ("forest", "forest"), ("ann", "ann"),
    ("elastic-net", "elastic-net")])
def test_the_recipes_in_the_tree_can_be_compared(name, kind):
    """One recipe for each kind, of the same data, inputs, cost and folds as the default's."""
    recipe, default = (read_recipe(f"models/recipes/{each}.yaml") for each in (name, "default"))
    assert (recipe.name, recipe.kind) == (name, kind)
    for part in ("recordings", "simulation", "inputs", "levels", "evaluation", "seed"):
        assert getattr(recipe, part) == getattr(default, part), part
