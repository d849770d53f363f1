"""Read recordings (DESIGN 4.9) into clean runs: sorted, bounded, with nothing at or after the kill."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oomguard.errors import UsageError
from oomguard.profile import Profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

TABLES = ("devices", "runs", "samples", "kills", "actions")
NUMBERS = (
    "limit_bytes", "headroom_bytes", "used_bytes", "charged_bytes", "kernel_bytes", "available_bytes",
    "swap_used_bytes", "swap_free_bytes", "swap_limit_bytes", "psi_some_us", "psi_full_us", "refaults",
    "major_faults", "late_s", "evictable_bytes")
DEVICE_FACTS = ("ram_bytes", "swap_bytes", "cores", "cache_capacity_bytes", "buffer_capacity_bytes")
MAX_ROWS = 200_000_000
KILL_MARGIN_S = 1e-9


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a target.

    `columns` holds `t_s` and every name of NUMBERS as float64[n], NaN where unknown; `constraint` and `phase`
    are parallel to it. `kills_s` and `releases_s` are sorted times in the run.
    """

    run_id: str
    app: str
    device_type: str
    profile: Profile
    columns: dict[str, NDArray[np.float64]]
    constraint: list[str]
    phase: list[str | None]
    kills_s: NDArray[np.float64]
    releases_s: NDArray[np.float64]
    ended: str
    end_s: float
    is_simulated: bool = False

    @property
    def t_s(self) -> NDArray[np.float64]:
        """Times of the samples, strictly increasing."""
        return self.columns["t_s"]

    @property
    def start_s(self) -> float:
        """When the run was first seen: its age counts from here."""
        return float(self.t_s[0])

    @property
    def cadence_s(self) -> float:
        """The median distance of two samples; 1 s where there is only one."""
        return float(np.median(np.diff(self.t_s))) if len(self.t_s) > 1 else 1.0

    @property
    def ended_in_kill(self) -> bool:
        """Whether the last thing that happened in the run was a kill of it."""
        return self.ended == "oom" and len(self.kills_s) > 0


def read_recordings(folder: str) -> list[Run]:
    """Return the runs in `folder`, sorted by run_id.

    Args:
        folder: holds `devices, runs, samples, kills, actions.parquet` with the columns of DESIGN 4.9.

    Raises:
        UsageError: a table or a column is missing, or a table is larger than MAX_ROWS.
    """
    tables = {name: _read_table(folder, name) for name in TABLES}
    devices = clean_devices(tables["devices"].to_pylist())
    kills = _times_by_run(tables["kills"])
    releases = _times_by_run(tables["actions"])
    pieces = _split_samples(tables["samples"])
    runs = [_run_of(row, pieces[row["run_id"]], devices, kills, releases)
            for row in tables["runs"].to_pylist() if row["run_id"] in pieces]
    return sorted((run for run in runs if len(run.t_s) > 1), key=lambda run: run.run_id)


def digest_of(runs: list[Run]) -> str:
    """Return the sha256 over the runs in a canonical form: the same data, the same digest, whatever the file."""
    state = hashlib.sha256()
    for run in sorted(runs, key=lambda run: run.run_id):
        facts = (run.run_id, run.app, run.device_type, repr(run.profile), run.ended, repr(run.end_s))
        state.update("\x1f".join(facts).encode())
        for name in ("t_s", *NUMBERS):
            state.update(np.ascontiguousarray(run.columns[name], "<f8").tobytes())
        state.update("\x1f".join(run.constraint).encode())
        state.update("\x1f".join(phase or "" for phase in run.phase).encode())
        state.update(np.ascontiguousarray(run.kills_s, "<f8").tobytes())
        state.update(np.ascontiguousarray(run.releases_s, "<f8").tobytes())
    return state.hexdigest()


def clean_devices(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, float]]:
    """Settle conflicting or missing device facts by majority vote within (device_type, sdk_version).

    A tie goes to the larger value, so that the order of the rows does not matter; a fact that nobody states is NaN.
    """
    votes: dict[tuple[str, str], dict[str, Counter[float]]] = {}
    for row in rows:
        key = (row.get("device_type") or "generic", row.get("sdk_version") or "")
        facts = votes.setdefault(key, {name: Counter() for name in DEVICE_FACTS})
        for name in DEVICE_FACTS:
            if row.get(name) is not None:
                facts[name][float(row[name])] += 1
    return {key: {name: max(counts, key=lambda value: (counts[value], value)) if counts else math.nan
                  for name, counts in facts.items()} for key, facts in votes.items()}


def _read_table(folder: str, name: str) -> pa.Table:
    path = os.path.join(folder, f"{name}.parquet")
    if not os.path.isfile(path):
        raise UsageError(f"{path} is missing: a recording is {', '.join(TABLES)}.parquet (DESIGN 4.9)")
    if pq.read_metadata(path).num_rows > MAX_ROWS:
        raise UsageError(f"{path} holds more than {MAX_ROWS} rows")
    table = pq.read_table(path)
    needed = {"samples": ("run_id", "t_s", "constraint", "phase", *NUMBERS), "kills": ("run_id", "t_s"),
              "actions": ("run_id", "t_s"), "runs": ("run_id", "app", "ended"), "devices": ("device_type",)}[name]
    missing = [column for column in needed if column not in table.column_names]
    if missing:
        raise UsageError(f"{path} has no column {', '.join(missing)}")
    return table


def _times_by_run(table: pa.Table) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    for run_id, t_s in zip(table["run_id"].to_pylist(), table["t_s"].to_pylist(), strict=True):
        if t_s is not None:
            times.setdefault(run_id, []).append(float(t_s))
    return times


def _split_samples(table: pa.Table) -> dict[str, pa.Table]:
    """Return each run's samples, sorted by time."""
    table = table.sort_by([("run_id", "ascending"), ("t_s", "ascending")])
    ids = np.asarray(table["run_id"].to_pylist(), dtype=object)
    if not len(ids):
        return {}
    edges = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
    return {ids[low]: table.slice(low, high - low) for low, high in pairwise(edges)}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _column(table: pa.Table, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = table[name].cast(pa.float64()).to_numpy()
    return np.array(values, np.float64)


def _profile_of(row: dict[str, Any], facts: dict[str, float]) -> Profile:
    def own(name: str) -> float:   # the run's own figure where it has one, else the device's
        value = _number(row.get(name))
        return facts.get(name, math.nan) if value != value else value

    return Profile(
        device_type=row.get("device_type") or "generic", sdk_version=row.get("sdk_version") or "",
        ram_bytes=facts.get("ram_bytes", math.nan), swap_bytes=facts.get("swap_bytes", math.nan),
        cores=facts.get("cores", math.nan), cache_capacity_bytes=own("cache_capacity_bytes"),
        buffer_capacity_bytes=own("buffer_capacity_bytes"), heap_limit_bytes=_number(row.get("heap_limit_bytes")),
        bound_kind=row.get("bound_kind") or "", limit_bytes=_number(row.get("limit_bytes")))


def _run_of(row: dict[str, Any], samples: pa.Table, devices: dict[tuple[str, str], dict[str, float]],
            kills: dict[str, list[float]], releases: dict[str, list[float]]) -> Run:
    run_id = row["run_id"]
    columns = {name: _column(samples, name) for name in ("t_s", *NUMBERS)}
    ended = row.get("ended") or "unknown"
    end_s = _number(row.get("ended_after_s"))
    kills_s = sorted(kills.get(run_id, []))
    if ended == "oom" and not kills_s and end_s == end_s:
        kills_s = [end_s]      # the recorder saw the end but not who was killed
    if ended == "oom" and kills_s:
        end_s = kills_s[-1]
    times = columns["t_s"]
    is_kept = np.isfinite(times) & (columns["limit_bytes"] > 0) & np.isfinite(columns["headroom_bytes"])
    is_kept[1:] &= np.diff(times) > 0
    if end_s == end_s:
        is_kept &= times < end_s - KILL_MARGIN_S if ended == "oom" else times <= end_s + 1.0
    keep = np.flatnonzero(is_kept)
    columns = {name: values[keep] for name, values in columns.items()}
    names, phases = samples["constraint"].to_pylist(), samples["phase"].to_pylist()
    key = (row.get("device_type") or "generic", row.get("sdk_version") or "")
    last_s = float(columns["t_s"][-1]) if len(keep) else 0.0
    return Run(
        run_id=run_id, app=row.get("app") or "unknown", device_type=key[0],
        profile=_profile_of(row, devices.get(key, {})), columns=columns,
        constraint=[names[i] or "" for i in keep], phase=[phases[i] for i in keep],
        kills_s=np.asarray(kills_s, np.float64), releases_s=np.asarray(sorted(releases.get(run_id, [])), np.float64),
        ended=ended, end_s=end_s if end_s == end_s else last_s)
