"""What was learned per device type reaches the device: manifest, bundle, model, release."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest

from oomguard.act.release import needed_bytes
from oomguard.briefing import Options, read_briefing, write_briefing
from oomguard.errors import UsageError
from oomguard.learn.bundle.rebundle import forecasts_of, write_with_thresholds
from oomguard.learn.dataset import digest_of
from oomguard.learn.thresholds.critical import study_of
from oomguard.learn.thresholds.levels import Cost, TypeThresholds
from oomguard.learn.thresholds.per_type import MOST_HISTOGRAMS, MOST_TYPES, manifest_parts, table_of, told
from oomguard.settings import model_of, plan_from
from oomguard.trust.bundle import MANIFEST_MAX_BYTES, load_bundle, load_shipped, shipped_folder

from .made import quiet_run
from .test_critical import leaks_to

GLOBAL = (0.5, 0.6, 0.7, 0.8, 0.9)
OWN = (0.1, 0.2, 0.3, 0.4, 0.45)


@pytest.fixture(scope="module")
def study():
    """Return a study of two types that are killed in different places, and one that is not killed."""
    return study_of([*leaks_to(0.6, 20, 1, device_type="stick"), *leaks_to(0.95, 20, 2, device_type="stb"),
                     quiet_run(600, device_type="new")])


@pytest.fixture
def bundle(study, tmp_path):
    """Return the shipped bundle with this study's thresholds."""
    alarms = {"stick": TypeThresholds(OWN, -1.0, 20, 3.0), "stb": TypeThresholds(GLOBAL, 0.0, 20, 3.0)}
    folder = str(tmp_path / "mine")
    digest = write_with_thresholds(load_shipped(), folder, study, GLOBAL, alarms, Cost(), [quiet_run(60)])
    return load_bundle(folder, expect_digest=digest)


def test_the_device_uses_the_thresholds_of_its_own_type(bundle, study):
    """A stick's levels and critical ratio are the stick's; the order of levels is 1…5, p300 first."""
    model = model_of(bundle, "stick")
    assert model.thresholds == OWN[::-1]
    assert model.critical_ratio == study.types["stick"].ratio == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("name", ["new", "never heard of", "generic"])
def test_a_type_without_kills_uses_the_default(bundle, study, name):
    """What nobody has seen killed has the global thresholds and the fleet's critical ratio."""
    model = model_of(bundle, name)
    assert model.thresholds == GLOBAL[::-1]
    assert model.critical_ratio == study.ratio


def test_a_type_may_have_a_critical_ratio_of_its_own_with_global_alarms(bundle, study):
    """The set-top box alarms as all do and is critical where it is."""
    assert model_of(bundle, "stb").thresholds == GLOBAL[::-1]
    assert model_of(bundle, "stb").critical_ratio == study.types["stb"].ratio > 0.9


def test_the_daemon_is_briefed_with_its_types_thresholds(bundle, tmp_path):
    """The plan's device type chooses; what the daemon reads back is what a stick needs."""
    path = tmp_path / "briefing"
    path.write_bytes(write_briefing(plan_from(device_type="stick"), bundle, Options(runtime_dir=str(tmp_path))))
    with path.open("rb") as file:
        import os
        model = read_briefing(os.dup(file.fileno())).model
    assert model.thresholds == OWN[::-1]
    assert model.critical_ratio == bundle.thresholds_for("stick").critical_ratio


def test_a_device_that_kills_early_asks_for_more(bundle):
    """At 70 % used and standing still, a box needs nothing; a stick, 10 points beyond, needs those."""
    history = [(float(t), 300.0) for t in range(60)]
    box, stick = (needed_bytes(history, 300.0, 1000.0, 10.0, 1, model_of(bundle, name).critical_ratio)
                  for name in ("stb", "stick"))
    assert box == 0
    assert stick == pytest.approx(100, abs=20)


def test_the_bundle_says_where_its_thresholds_come_from(bundle):
    """Digest, counts and the bundle it was made from; one release further, so that a service takes it."""
    with open(f"{bundle.folder}/manifest.json", encoding="utf-8") as file:
        manifest = json.load(file)
    assert manifest["thresholds_from"]["manifest_sha256"] == load_shipped().digest
    assert bundle.release == load_shipped().release + 1
    assert manifest["histograms"]["types"]["stick"]["kills"] == 20
    assert sum(manifest["histograms"]["types"]["stick"]["at_kill_histogram"]) == 20
    assert bundle.forest == load_shipped().forest


def test_a_manifest_holds_the_types_with_most_kills_and_says_how_many_it_leaves_out(study):
    """A fleet of 400 types stays within what a bundle's reader takes."""
    many = study.__class__({f"type-{at:03d}": study.types["stick"] for at in range(MOST_TYPES + 100)}, study.fleet)
    parts = manifest_parts(many, GLOBAL)
    assert len(parts["thresholds"]) == MOST_TYPES + 1
    assert parts["histograms"]["types_with_kills"] == MOST_TYPES + 100
    assert len(parts["histograms"]["types"]) == MOST_HISTOGRAMS
    assert len(json.dumps(parts, indent=1)) < MANIFEST_MAX_BYTES / 2


def test_a_bundle_trained_on_the_same_runs_is_refused(tmp_path):
    """Forecasts of what a model has learned by heart set no thresholds; of other runs they do."""
    runs = [quiet_run(60)]
    folder = shutil.copytree(shipped_folder(), tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["training"]["data_sha256"] = digest_of(runs)
    raw = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(raw)
    learned = load_bundle(str(folder), expect_digest=sha256(raw).hexdigest())
    with pytest.raises(UsageError, match="was trained on these recordings"):
        forecasts_of(runs, learned)
    assert np.shape(forecasts_of([quiet_run(90)], learned)[0]) == (91, 5)


def test_everything_told_is_plain_json(study):
    """No NaN, no numpy: a program can read it; and the table has a line per type and one for all others."""
    assert json.loads(json.dumps(told(study), allow_nan=False))["device_types"]["new"]["shape"] == "unknown"
    lines = table_of(study).splitlines()
    assert len(lines) == 2 + 3 + 1
    assert "premature peak" in next(line for line in lines if line.startswith("stick"))
    assert "unknown: 0 kills" in next(line for line in lines if line.startswith("new"))
