"""Recordings written for tests: the five tables in the columns of DESIGN 4.9, each column as it is wanted."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq

from oomguard.record.tables import SCHEMAS

TV = {"device_type": "tv", "sdk_version": "1"}


def run_row(run_id="r", *, ended="stopped", after_s=1000.0, app="a", **more):
    return {"run_id": run_id, "app": app, "ended": ended, "ended_after_s": after_s, "device_type": "tv",
            "sdk_version": "1", "cache_capacity_bytes": 40, **more}


def sample(run_id, t_s, limit=100, headroom=50, **more):
    return {"run_id": run_id, "t_s": t_s, "constraint": "c", "limit_bytes": limit, "headroom_bytes": headroom,
            "used_bytes": 50, **more}


def steady(run_id="r", seconds=range(10), **more):
    """Return samples once a second."""
    return [sample(run_id, float(t_s), **more) for t_s in seconds]


def record(folder, samples, *, runs=None, kills=(), actions=(), devices=None, types=None, name="{}.parquet"):
    """Write the five tables into `folder`; return it as text.

    Args:
        folder: made where it is missing.
        samples: rows; what they do not name is NULL.
        runs: rows; None: one, `r`, that was stopped.
        kills: (run_id, t_s) or rows; so are actions.
        devices: rows; None: one, of which nothing is known.
        types: types of columns of samples other than those of DESIGN 4.9; None leaves a column out.
        name: of the files, by table.
    """
    folder = os.fspath(folder)
    os.makedirs(folder, exist_ok=True)
    kinds = {field.name: field.type for field in SCHEMAS["samples"]} | (types or {})
    fields = [(column, kind) for column, kind in kinds.items() if kind is not None]
    tables = {"samples": pa.Table.from_pylist(list(samples), pa.schema(fields)),
              "runs": pa.Table.from_pylist([run_row()] if runs is None else list(runs), SCHEMAS["runs"]),
              "devices": pa.Table.from_pylist([TV] if devices is None else list(devices), SCHEMAS["devices"])}
    for table, rows in (("kills", kills), ("actions", actions)):
        rows = [row if isinstance(row, dict) else dict(zip(("run_id", "t_s"), row, strict=True)) for row in rows]
        tables[table] = pa.Table.from_pylist(rows, SCHEMAS[table])
    for table, content in tables.items():
        pq.write_table(content, os.path.join(folder, name.format(table)))
    return folder
