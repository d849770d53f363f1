"""Write a simulated fleet as the five tables of DESIGN 4.9, with `simulated.json` beside them: what was planted."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oomguard._version import __version__
from oomguard.errors import UsageError
from oomguard.learn.simulate.fleet import device_rows, device_types, facts_of, runs_of
from oomguard.record.tables import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.learn.simulate.fleet import DeviceType, SimulatedRun

TRUTH_FILE = "simulated.json"
RUNS_AT_ONCE = 64                   # runs in memory: a fleet of any size takes the same
BEGUN = datetime.datetime(2015, 1, 1, tzinfo=datetime.UTC)      # no clock: the same seed gives the same bytes


def write_fleet(folder: str, *, types: int, runs: int, seed: int,
                progress: Callable[[int, int], None] = lambda _done, _of: None) -> dict[str, Any]:
    """Simulate a fleet into `folder`; return what `simulated.json` says.

    The tables are written beside it and moved there when all are whole.

    Raises:
        UsageError: the counts make no fleet, or `folder` exists and holds anything.
    """
    if types < 1 or runs < 1:
        raise UsageError(f"a fleet of {types} device types and {runs} runs is none: both begin at 1")
    if os.path.isdir(folder) and os.listdir(folder):
        raise UsageError(f"{folder} is not empty")
    kinds = device_types(types, seed)
    half = f"{folder.rstrip('/')}.partial"
    shutil.rmtree(half, ignore_errors=True)
    os.makedirs(half)
    try:
        counts = _write_runs(half, kinds, runs, seed, progress)
        _write(half, "devices", device_rows(kinds, seed))
        _write(half, "actions", [])
        truth = {"simulated": True, "generator": "oomguard.learn.simulate.fleet", "agent_version": __version__,
                 "seed": seed, "runs": runs, **counts, "device_types": {kind.name: _truth(kind) for kind in kinds}}
        with open(os.path.join(half, TRUTH_FILE), "w", encoding="utf-8") as file:
            json.dump(truth, file, indent=1)
        if os.path.isdir(folder):
            os.rmdir(folder)
        os.replace(half, folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return truth


def _truth(kind: DeviceType) -> dict[str, Any]:
    return {"shape": kind.shape, "critical_ratio": kind.critical_ratio, "holds_s": kind.holds_s,
            "stray_kills_per_h": kind.stray_per_h, "limit_bytes": kind.limit_bytes, "popularity": kind.popularity,
            "sdk_versions": list(kind.sdk_versions), "facts": facts_of(kind)}


def _write_runs(folder: str, kinds: list[DeviceType], count: int, seed: int,
                progress: Callable[[int, int], None]) -> dict[str, int]:
    rows: list[dict[str, Any]] = []
    kills: list[dict[str, Any]] = []
    samples = 0
    with pq.ParquetWriter(os.path.join(folder, "samples.parquet"), SCHEMAS["samples"], compression="zstd") as writer:
        batch: list[pa.Table] = []
        for done, run in enumerate(runs_of(kinds, count, seed), 1):
            rows.append({**run.row, "started_at": BEGUN + datetime.timedelta(hours=done), "agent_version": __version__})
            if run.kill_s == run.kill_s:
                kills.append({"run_id": run.row["run_id"], "t_s": run.kill_s, "killer": "unknown",
                              "whole_target": True})
            batch.append(_samples(run))
            samples += len(run.phases)
            if len(batch) == RUNS_AT_ONCE or done == count:
                writer.write_table(pa.concat_tables(batch))
                batch = []
                progress(done, count)
    _write(folder, "runs", rows)
    _write(folder, "kills", kills)
    return {"kills": len(kills), "samples": samples}


def _samples(run: SimulatedRun) -> pa.Table:
    count = len(run.phases)
    columns = []
    for field in SCHEMAS["samples"]:
        if field.name in ("run_id", "constraint", "phase"):
            columns.append(pa.array({"run_id": [run.row["run_id"]] * count, "constraint": ["profile"] * count,
                                     "phase": run.phases}[field.name], field.type))
            continue
        values = run.columns.get(field.name, np.full(count, np.nan))
        whole = np.floor(values) if pa.types.is_integer(field.type) else values
        columns.append(pa.array(whole, mask=np.isnan(values)).cast(field.type, safe=False))
    return pa.table(columns, schema=SCHEMAS["samples"])


def _write(folder: str, name: str, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS[name]), os.path.join(folder, f"{name}.parquet"))
