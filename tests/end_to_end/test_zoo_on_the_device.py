"""Every member of the zoo guards on the device: one line of configuration names its bundle, `status` its forecasts."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from guarded import Guard, Holder, until

from oomguard.clock import now_s
from oomguard.decide.plan import TargetPlan
from oomguard.profile import Profile
from oomguard.sense.machine import Machine
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import resolve
from oomguard.trust.bundle import shipped_folder
from oomguard.window import Window

pytest.importorskip("sklearn", reason="the learn extra is not installed")
if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
    pytest.skip("onnx and onnxruntime are not installed", allow_module_level=True)

from oomguard.learn.dataset import read_recordings
from oomguard.learn.label.examples import examples_of
from oomguard.learn.train.model import train_model
from oomguard.learn.zoo.recipe import AdaBoost, ElasticNet, Network, RandomForest, Recipe, Settings, Trees

Start = Callable[..., Guard]
HISTORY_S = 60          # the model wants 30 s of window
SMALL: dict[str, Settings] = {
    "xgboost": Trees(rounds=3, depth=3), "adaboost": AdaBoost(rounds=5, depth=3),
    "forest": RandomForest(trees=8, depth=4), "ann": Network(hidden=(8,), epochs=2),
    "elastic-net": ElasticNet(epochs=5)}


@pytest.fixture(scope="module")
def material():
    """Return a few recorded runs and the rows to learn from."""
    runs = read_recordings("models/recordings/sample")[::8]
    return runs, examples_of(runs, 20, 1, 1)


@pytest.fixture(params=sorted(SMALL))
def bundle(request: pytest.FixtureRequest, material, tmp_path: Path) -> str:
    """Write a small bundle of each kind, with the shipped one's manifest but for what is the model's own."""
    runs, examples = material
    recipe = Recipe(request.param, 1, 1, (), model=SMALL[request.param])
    model = train_model(examples, runs, recipe)
    digests = {model.file: hashlib.sha256(model.data).hexdigest()}
    manifest = json.loads(Path(shipped_folder(), "manifest.json").read_bytes())
    manifest |= {"model_id": f"{request.param}-small", "files": digests, "ranges": {"low": {}, "high": {}},
                 "calibration": {horizon: [[0.0, 0.0], [1.0, 1.0]] for horizon in manifest["calibration"]}}
    (tmp_path / model.file).write_bytes(model.data)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return str(tmp_path)


def remember(folder: Path, pid: int, name: str) -> None:
    """Leave the window that a guard would have left after watching a process for a minute."""
    machine = Machine()
    sensor = open_sensor(resolve(TargetPlan(name, "pid", str(pid))), machine, Profile())
    os.makedirs(folder / "rt" / "windows")
    window = Window.open(str(folder / "rt" / "windows" / f"{name}.window"), sensor.identity, now_s() - HISTORY_S)
    reading = machine.read()
    for second in range(HISTORY_S):
        window.push(sensor.read(float(second), 0.0, reading, 0.0, None))
    for each in (window, sensor, machine):
        each.close()


def test_a_member_chosen_by_one_line_forecasts(
    start: Start, folder: Path, child: Callable[..., object], bundle: str,
) -> None:
    """`run --model BUNDLE` shows forecasts of that model in `status`, and the log says who speaks."""
    holder = Holder(child)
    remember(folder, holder.pid, "app")
    rules = folder / "rules.yaml"
    rules.write_text(f"version: 1\nmodel: {bundle}\ncadence: 100ms\ntargets: [{{name: app, pid: {holder.pid}}}]\n"
                     "rules: [{name: tell, when: {level_at_least: 5}, then: [{hook: pressure}]}]\n")
    guard = start("run", "--rules", str(rules), "--allow-unsigned")
    speaker = "onnx" if Path(bundle, "model.onnx").exists() else "forest"
    assert guard.event("start")["scorer"] == speaker
    shown = until(lambda: (its := guard.target("app")).get("probabilities") and its, "a forecast", guard.said)
    assert guard.status()["model"]["id"].endswith("-small")
    assert (shown["scorer"], shown["abstains_because"]) == (speaker, None)
    probabilities = list(shown["probabilities"].values())
    assert probabilities == sorted(probabilities) and 0 <= probabilities[0] <= probabilities[-1] <= 1
    if speaker == "onnx":
        assert guard.event("net-loaded")["bytes"] == Path(bundle, "model.onnx").stat().st_size
        maps = Path(f"/proc/{guard.pid}/maps").read_text()
        assert "onnxruntime" not in maps and "numpy" not in maps
    assert guard.stop() == 0


@pytest.mark.parametrize("bundle", ["ann"], indirect=True)
def test_an_altered_net_leaves_the_plain_levels(
    start: Start, child: Callable[..., object], bundle: str,
) -> None:
    """A model.onnx that is not the manifest's is refused by name, and the guard guards without it."""
    path = Path(bundle, "model.onnx")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    holder = Holder(child)
    guard = start("run", "--model", bundle, "--allow-unsigned", "--target", f"pid:{holder.pid}")
    assert guard.event("start")["scorer"] == "plain"
    assert any("model.onnx" in warning for warning in guard.status()["warnings"])
