"""From a small recipe to a bundle: honest folds, the same bytes twice, and errors that name their place."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from oomguard import features
from oomguard.cli import learn as verb
from oomguard.errors import ConfigError, UsageError
from oomguard.learn.bundle.make import train, write_bundle, write_shipped
from oomguard.learn.dataset import read_recordings
from oomguard.learn.evaluate.compare import forecasts_of
from oomguard.learn.label.examples import features_of, speaks_at
from oomguard.learn.simulate.runs import simulate
from oomguard.learn.train import crossval
from oomguard.learn.train.calibrate import calibrated
from oomguard.learn.zoo.recipe import read_recipe
from oomguard.trust.bundle import load_bundle

RECORDINGS = "models/recordings/sample"
SMALL = """
name: small
release: 3
seed: 1
recordings: [recordings]
simulation: {runs: 40, seed: 2, share: 0.5, rows_per_run: 10}
inputs: {rows_per_run: 10, left_out: [log2_ram, log2_limit], range_kept: [log2_limit]}
trees: {rounds: 2, depth: 3}
evaluation: {folds_by_run: 3, seed: 1}
"""


PROGRAMS = ("pagecache", "py-linear", "py-saw", "redis-leak")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a small recipe and three recorded runs of each of four programs."""
    base = tmp_path_factory.mktemp("learn")
    (base / "recordings").mkdir()
    ids = [run.run_id for app in PROGRAMS for run in [r for r in read_recordings(RECORDINGS) if r.app == app][:3]]
    for name in ("devices", "runs", "samples", "kills", "actions"):
        table = pq.read_table(f"{RECORDINGS}/{name}.parquet")
        if name != "devices":
            table = table.filter(pc.is_in(table["run_id"], pa.array(ids)))
        pq.write_table(table, base / "recordings" / f"{name}.parquet")
    (base / "small.yaml").write_text(SMALL)
    return base


@pytest.fixture(scope="module")
def trained(folder):
    """Return what training the small recipe gives."""
    return train(read_recipe(str(folder / "small.yaml")))


def test_training_twice_gives_the_same_bytes_and_a_bundle_that_loads(folder, trained, tmp_path):
    """Forest, card and manifest depend on recipe, data and versions alone; the bundle passes its own check."""
    recipe = read_recipe(str(folder / "small.yaml"))
    digests = [write_bundle(each, recipe, str(tmp_path / name)) for each, name in (
        (trained, "one"), (train(recipe), "two"))]
    for name in ("manifest.json", "forest.bin", "card.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    bundle = load_bundle(str(tmp_path / "one"), expect_digest=digests[0])
    assert (bundle.release, bundle.model_id.split("-")[0]) == (3, "small")
    at = features.NAMES.index("log2_limit")
    assert np.isfinite([bundle.low[at], bundle.high[at]]).all()               # kept, though no tree sees it
    assert np.isinf(bundle.low[features.NAMES.index("log2_ram")])
    assert digests[0] == digests[1]


def test_the_report_has_the_keys_of_the_design(trained):
    """Every system shows all its figures together, the constant alarm and never among them."""
    report = trained.report
    assert {"protocol", "data", "systems"} <= set(report)
    assert {"runs", "kills", "quiet_hours"} <= set(report["data"])
    assert (report["data"]["runs"], report["data"]["kills"]) == (12, 6)       # no simulated run among them
    for row in report["systems"].values():
        assert {"operating_point", "recall", "false_alarms_per_hour", "early_per_hour", "alarm_time_ratio",
                "median_lead_s", "recall_at_budget", "pr_auc", "intervals"} <= set(row)
    assert report["systems"]["constant"]["recall"]["60"] == 1.0
    assert report["systems"]["never"]["false_alarms_per_hour"] == 0.0
    json.dumps(report, allow_nan=False)


def test_a_fold_never_sees_its_own_program():
    """Each program is one fold, simulated runs are spread, and runs of a program are dealt over all folds by run."""
    runs = read_recordings(RECORDINGS) + simulate(16, 1)
    by_program, by_run = crossval.folds_by_program(runs), crossval.folds_by_run(runs, 5, 1)
    folds = {}
    for run, fold in zip(runs, by_program, strict=True):
        folds.setdefault((run.is_simulated, run.app if not run.is_simulated else ""), set()).add(fold)
    assert all(len(seen) == 1 for (is_simulated, _), seen in folds.items() if not is_simulated)
    assert len(folds[True, ""]) == 8
    for app in {run.app for run in runs if not run.is_simulated}:
        assert {fold for run, fold in zip(runs, by_run, strict=True) if run.app == app} == set(range(5))


@pytest.mark.parametrize(("change", "says"), [
    ("speed: 9", "speed: not one of"), ("trees: {depth: deep}", "trees.depth: 'deep' is not a whole number"),
    ("trees: {depth: true}", "trees.depth: True is not"), ("levels: [1]", "levels: a mapping was expected"),
    ("inputs: {left_out: [no_such]}", "no_such' is no feature"), ("levels: {miss_to_false_alarm: -1}", "not in 0"),
])
def test_a_wrong_recipe_is_refused_with_its_place(tmp_path, change, says):
    """File, path and value are named; unknown keys are refused."""
    path = tmp_path / "bad.yaml"
    path.write_text(f"name: x\nrelease: 1\nseed: 1\nrecordings: []\n{change}\n")
    with pytest.raises(ConfigError, match=says) as error:
        read_recipe(str(path))
    assert str(error.value).startswith(str(path))


def test_a_recipe_that_lacks_its_name_or_is_no_yaml_is_refused(tmp_path):
    """What is missing is listed."""
    path = tmp_path / "bad.yaml"
    path.write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="name, release, recordings missing"):
        read_recipe(str(path))
    path.write_text("a: [")
    with pytest.raises(ConfigError):
        read_recipe(str(path))
    with pytest.raises(ConfigError, match="No such file"):
        read_recipe(str(tmp_path / "none.yaml"))


def test_too_few_programs_are_refused(tmp_path):
    """One program is tested, one calibrates, at least one is learned from."""
    (tmp_path / "small.yaml").write_text(SMALL.replace("[recordings]", "[]"))
    with pytest.raises(UsageError, match="at least 3 programs"):
        train(read_recipe(str(tmp_path / "small.yaml")))


def test_what_thresholds_are_fitted_on_is_what_the_device_says(trained):
    """Raw forest, calibration and abstention by numpy give the forecasts of the kernel on every sample of a run."""
    fitted = trained.fitted
    run = next(run for run in read_recordings(RECORDINGS) if run.app == "redis-leak")
    rows = features_of(run)
    expected = calibrated(fitted.calibration, fitted.model.raw(rows))
    expected[~speaks_at(run) | fitted.model.is_strange(rows)] = np.nan
    said = forecasts_of(run, fitted)
    is_edge = np.isnan(said[:, 0]) != np.isnan(expected[:, 0])     # blocks are whole seconds: a sample or two differ
    assert is_edge.sum() <= 2
    np.testing.assert_allclose(said[~is_edge], expected[~is_edge], atol=1e-9)


def test_shipped_py_holds_the_digest(tmp_path):
    """The module that the package trusts is one constant."""
    path = tmp_path / "shipped.py"
    write_shipped("ab" * 32, str(path))
    scope = {}
    exec(path.read_text(), scope)
    assert scope["SHIPPED_MANIFEST_SHA256"] == "ab" * 32


def test_the_verb_trains_and_compiles(folder, tmp_path, capsys):
    """`learn train` writes a bundle that loads; `learn compile` says how large the forest is."""
    import argparse

    import xgboost

    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    recipe, out = str(folder / "small.yaml"), str(tmp_path / "out")
    assert verb.run(parser.parse_args(["train", recipe, "--out", out, "--json"])) == 0
    assert "oomguard" in json.loads(capsys.readouterr().out)["systems"]
    rows = np.random.default_rng(1).normal(size=(60, features.COUNT))
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 6, "nthread": 1},
                            xgboost.DMatrix(rows, np.arange(60) % 6, nthread=1), 1)
    booster.save_model(tmp_path / "b.json")
    saved, out = str(tmp_path / "b.json"), str(tmp_path / "f.bin")
    assert verb.run(parser.parse_args(["compile", saved, "--out", out])) == 0
    assert "bytes" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no such file"):
        verb.run(parser.parse_args(["compile", "none.json", "--out", "x"]))
