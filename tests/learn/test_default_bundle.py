"""The bundle inside the package: trusted, small, in time on plain leaks of any size, silent on what stands still."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from oomguard import features
from oomguard.forest import unpack
from oomguard.learn.dataset import read_recordings
from oomguard.learn.lab.catalogue import read_catalogue
from oomguard.learn.lab.plan import draw_runs
from oomguard.learn.label.examples import rows_of
from oomguard.learn.protocol.events import tally, track_of
from oomguard.learn.thresholds.levels import margin_of
from oomguard.learn.zoo.recipe import read_recipe
from oomguard.profile import Profile
from oomguard.series import features_of_run, forecasts_of_run, series_rows
from oomguard.trust.bundle import load_shipped, shipped_folder

from .made import run_of

MIB = 1 << 20


@pytest.fixture(scope="module")
def bundle():
    """Return the shipped bundle."""
    return load_shipped()


def manifest_bytes():
    return (Path(shipped_folder()) / "manifest.json").read_bytes()


def forecasts(bundle, run, limit_bytes):
    columns = dict(run.columns)
    scale = limit_bytes / columns["limit_bytes"][0]
    for name in ("limit_bytes", "headroom_bytes", "used_bytes"):
        columns[name] = columns[name] * scale
    return forecasts_of_run(series_rows(columns, run.constraint), Profile(), bundle.load_forest())


def counts(bundle, run, limit_bytes=256 * MIB):
    margin = margin_of(run, forecasts(bundle, run, limit_bytes), tuple(bundle.thresholds["default"][:5]))
    return tally(track_of(run, margin), 0.0)


def leak(fill_s, base, cadence_s, noise=0.0):
    kill_s = fill_s * (1 - base)
    times = np.arange(0.0, kill_s, cadence_s)
    grain = np.random.default_rng(1).normal(0.0, noise, len(times))
    return run_of(np.minimum(base + times / fill_s + grain, 0.9999), t_s=times, kills=[kill_s])


def test_it_is_trusted_and_within_its_budget(bundle):
    """The digest in shipped.py is its manifest's; the forest has at most 256 KiB and 240 trees of depth 5."""
    assert hashlib.sha256(manifest_bytes()).hexdigest() == bundle.digest
    assert len(bundle.forest) <= 256 * 1024
    trees = unpack(bundle.forest)
    assert (len(trees.tree_class) <= 240, trees.depth <= 5) == (True, True)


def test_its_recipe_is_the_one_in_the_tree(bundle):
    """Whoever changes the recipe must run `make model`."""
    manifest = json.loads(manifest_bytes())
    assert manifest["training"]["recipe_sha256"] == read_recipe("models/recipes/default.yaml").digest


@pytest.mark.parametrize("limit_mib", [64, 256, 1024, 4096])
@pytest.mark.parametrize("cadence_s", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("fill_s", "base", "noise"), [(240, 0.1, 0.0), (300, 0.05, 0.003), (900, 0.2, 0.001)])
def test_plain_leaks_are_caught_in_time(bundle, limit_mib, cadence_s, fill_s, base, noise):
    """A straight leak at any limit from 64 MiB to 4 GiB and any cadence stands in alarm 120, 60 and 30 s ahead."""
    result = counts(bundle, leak(fill_s, base, cadence_s, noise), limit_mib * MIB)
    assert result.caught[:3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("level", [0.05, 0.3, 0.6, 0.69])
def test_what_stands_still_is_left_alone(bundle, level):
    """An hour at one level, with a little noise, gives no alarm."""
    used = level + np.random.default_rng(2).normal(0.0, 0.002, 3600)
    assert counts(bundle, run_of(used)).false == 0


def test_page_cache_at_the_limit_is_no_danger(bundle):
    """Readers of files that fill their limit with page cache, alone in it, never reach level 2."""
    alone = {plan.run_id for plan in draw_runs(read_catalogue("models/lab.yaml")) if not plan.has_neighbour}
    runs = [run for run in read_recordings("models/recordings/lab") if run.app == "pagecache" and run.run_id in alone]
    assert len(runs) > 20
    assert sum(run.columns["charged_bytes"].max() > 0.95 * run.columns["limit_bytes"][0] for run in runs) >= 4
    for run in runs:
        said = forecasts_of_run(rows_of(run), run.profile, bundle.load_forest())[:, :4]     # p60…p240: levels 5 to 2
        assert not (said >= bundle.thresholds.get(run.device_type, bundle.thresholds["default"])[:4]).any(), run.run_id


def test_it_abstains_on_a_machine_far_larger_than_any_it_was_trained_on(bundle):
    """A limit of 24 GB is another world: no forecast, the plain levels hold."""
    run = leak(300, 0.1, 1.0)
    assert np.isnan(forecasts(bundle, run, 24e9)).all()
    assert not np.isnan(forecasts(bundle, run, 4e9)[40:]).any()


def test_it_never_looks_at_absolute_sizes(bundle):
    """The same curve under another limit gives the same forecast to the bit wherever features are the same."""
    run = leak(300, 0.1, 1.0)
    small, large = forecasts(bundle, run, 64 * MIB), forecasts(bundle, run, 1024 * MIB)
    rows = features_of_run(series_rows(run.columns, run.constraint), Profile())
    assert np.isfinite(rows[-1, features.NAMES.index("log2_limit")])
    np.testing.assert_array_equal(small, large)
