"""One small evaluation, trained once for all tests that look at its parts."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from oomguard.learn.bundle.make import train
from oomguard.learn.dataset import read_recordings
from oomguard.learn.zoo.recipe import read_recipe

RECORDINGS = "models/recordings/sample"
PROGRAMS = ("pagecache", "py-linear", "py-saw", "redis-leak")
RECIPE = """
name: small
release: 1
seed: 1
recordings: [recordings]
simulation: {runs: 40, seed: 2, share: 0.5, rows_per_run: 10}
inputs: {rows_per_run: 10, left_out: [log2_ram, log2_limit]}
trees: {rounds: 2, depth: 3}
evaluation: {folds_by_run: 3, seed: 1}
"""


@functools.cache
def recipe():
    """Return the recipe, beside recordings of four runs of each of four programs."""
    base = Path(tempfile.mkdtemp(prefix="oomguard-test-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    (base / "recordings").mkdir()
    ids = [run.run_id for app in PROGRAMS for run in [r for r in read_recordings(RECORDINGS) if r.app == app][:4]]
    for name in ("devices", "runs", "samples", "kills", "actions"):
        table = pq.read_table(f"{RECORDINGS}/{name}.parquet")
        if name != "devices":
            table = table.filter(pc.is_in(table["run_id"], pa.array(ids)))
        pq.write_table(table, base / "recordings" / f"{name}.parquet")
    (base / "small.yaml").write_text(RECIPE)
    return read_recipe(str(base / "small.yaml"))


@functools.cache
def trained():
    """Return what training it gives."""
    return train(recipe())
