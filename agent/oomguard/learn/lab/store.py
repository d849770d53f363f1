"""Where finished runs go: a Parquet file each, at once and whole, so that a lab that was stopped goes on.

`merge` makes the five tables of DESIGN 4.9 of them: integers as differences, for memory seldom jumps.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from oomguard._version import __version__
from oomguard.record.tables import SCHEMAS
from oomguard.sense.sample import Sample

if TYPE_CHECKING:
    from oomguard.learn.lab.catalogue import Catalogue
    from oomguard.learn.lab.chamber import Chamber

PARTS = "parts"
FACTS = b"oomguard.run"
LEVEL = 12
ROWS_PER_GROUP = 1 << 17


class Store:
    """The finished runs in `folder`/parts."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(f"{folder}/{PARTS}", exist_ok=True)

    def done(self) -> set[str]:
        """Return the ids of the runs that are there."""
        return {name.removesuffix(".parquet") for name in os.listdir(f"{self.folder}/{PARTS}")
                if name.endswith(".parquet")}

    def add(self, chamber: Chamber) -> None:
        """Write a finished run."""
        facts = {"run": chamber.facts(), "kills": [list(kill) for kill in chamber.kills],
                 "plan": chamber.plan._asdict(), "why": chamber.why}
        run_id = chamber.plan.run_id
        table = _samples_of(run_id, chamber.samples).replace_schema_metadata({FACTS: json.dumps(facts)})
        path = f"{self.folder}/{PARTS}/{run_id}.parquet"
        pq.write_table(table, path + ".new", compression="zstd")
        os.replace(path + ".new", path)

    def merge(self, catalogue: Catalogue, folder: str) -> dict[str, int]:
        """Write the five tables into `folder`; return how many rows each has. Failed runs are left out."""
        parts = [pq.read_table(f"{self.folder}/{PARTS}/{run_id}.parquet") for run_id in sorted(self.done())]
        told = [json.loads((part.schema.metadata or {})[FACTS]) for part in parts]
        kept = [(part, facts) for part, facts in zip(parts, told, strict=True)
                if facts["run"]["ended"] != "failed" and part.num_rows]
        tables = {
            "devices": pa.Table.from_pylist(_devices(catalogue, [facts for _part, facts in kept]),
                                            schema=SCHEMAS["devices"]),
            "runs": pa.Table.from_pylist([_run_row(facts["run"]) for _part, facts in kept], schema=SCHEMAS["runs"]),
            "samples": pa.concat_tables([part.replace_schema_metadata(None) for part, _facts in kept]
                                        or [SCHEMAS["samples"].empty_table()]),
            "kills": pa.Table.from_pylist(
                [{"run_id": facts["run"]["run_id"], "t_s": t_s, "pid": None, "killer": killer, "whole_target": whole}
                 for _part, facts in kept for t_s, killer, whole in facts["kills"]], schema=SCHEMAS["kills"]),
            "actions": SCHEMAS["actions"].empty_table()}
        os.makedirs(folder, exist_ok=True)
        for name, table in tables.items():
            _write(table, f"{folder}/{name}.parquet")
        return {name: table.num_rows for name, table in tables.items()}


def _write(table: pa.Table, path: str) -> None:
    """Write small: what is whole and moves little as differences, words by number."""
    whole = [field.name for field in table.schema if pa.types.is_integer(field.type) and field.name != "level"]
    words = [field.name for field in table.schema if pa.types.is_string(field.type)]
    pq.write_table(table, path + ".new", compression="zstd", compression_level=LEVEL, use_dictionary=words,
                   column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"), row_group_size=ROWS_PER_GROUP)
    os.replace(path + ".new", path)


def _samples_of(run_id: str, samples: list[Sample]) -> pa.Table:
    columns: dict[str, Any] = {}
    schema = SCHEMAS["samples"]
    for field in schema:
        if field.name == "run_id":
            columns[field.name] = pa.array([run_id] * len(samples), field.type)
        elif pa.types.is_string(field.type):
            columns[field.name] = pa.array([getattr(sample, field.name) for sample in samples], field.type)
        else:
            values = np.array([getattr(sample, field.name) for sample in samples], np.float64)
            columns[field.name] = pa.array(values, mask=~np.isfinite(values)).cast(field.type, safe=False)
    return pa.table(columns, schema=schema)


def _run_row(run: dict[str, Any]) -> dict[str, Any]:
    started = datetime.fromisoformat(run["started_at"]) if run["started_at"] else None
    return dict.fromkeys(SCHEMAS["runs"].names) | run | {"started_at": started, "agent_version": __version__}


def _devices(catalogue: Catalogue, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per device type: the machine's own facts, for all of them ran on it."""
    swaps = {device.name: device.swap for device in catalogue.device_types}
    keys = sorted({(facts["run"]["device_type"], facts["run"]["sdk_version"]) for facts in told})
    return [dict.fromkeys(SCHEMAS["devices"].names)
            | {"device_type": device_type, "sdk_version": sdk, "ram_bytes": psutil.virtual_memory().total,
               "swap_bytes": 0 if swaps.get(device_type, "none") == "none" else None, "cores": psutil.cpu_count(),
               "chipset": "x86-64 virtual machine"} for device_type, sdk in keys]
