"""Recordings in the table format (DESIGN 4.9), from any folder: hostile until read."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oomguard.errors import UsageError
from oomguard.profile import Profile
from oomguard.record.runs import profile_digest
from oomguard.replay.recording import Acted, Column, Killed, RecordedRun, RecordedWith
from oomguard.series import NUMBERS

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 200_000_000
NEEDED = {"runs": ("run_id",),
          "samples": ("run_id", "t_s", "constraint", "limit_bytes", "headroom_bytes", "used_bytes"),
          "devices": ("device_type",), "kills": ("run_id", "t_s"), "actions": ("run_id", "t_s")}
MAY_BE_ABSENT = ("devices", "kills", "actions")
DEVICE_FACTS = ("ram_bytes", "swap_bytes", "cores", "cache_capacity_bytes", "buffer_capacity_bytes")

Row = dict[str, Any]


def from_tables(folder: str, run_id: str = "") -> list[RecordedRun]:
    """Return the runs in a folder of tables, or the one of that name. Raises UsageError."""
    tables = {name: _read(folder, name, run_id) for name in NEEDED}
    try:
        devices = _devices(_rows(tables["devices"]))
        actions, kills = _by_run(tables["actions"], _acted), _by_run(tables["kills"], _killed)
        samples = _split(tables["samples"]) if tables["samples"] is not None else {}
        return [_run(row, samples[str(row["run_id"])], devices, actions, kills)
                for row in _rows(tables["runs"]) if str(row["run_id"]) in samples]
    except (ValueError, TypeError, OverflowError) as problem:       # pyarrow's own errors are among them
        raise UsageError(f"{folder}: not in the format of a recording: {problem}") from None


def _read(folder: str, name: str, run_id: str) -> pa.Table | None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError("reading recordings needs pyarrow: pip install 'oomguard[learn]'") from None
    path = os.path.join(folder, f"{name}.parquet")
    if not os.path.isfile(path):
        if name in MAY_BE_ABSENT:
            return None
        raise UsageError(f"{path} is missing: a recording is a folder of {', '.join(NEEDED)}.parquet (DESIGN 4.9)")
    try:
        file = pq.ParquetFile(path)
        missing = [column for column in NEEDED[name] if column not in file.schema_arrow.names]
        if missing:
            raise UsageError(f"{path} has no column {', '.join(missing)}")
        if file.metadata.num_rows > MAX_ROWS:
            raise UsageError(f"{path} holds more than {MAX_ROWS} rows")
        is_one = bool(run_id) and "run_id" in NEEDED[name]
        return pq.read_table(path, filters=[("run_id", "=", run_id)] if is_one else None)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise UsageError(f"{path}: cannot be read: {str(problem)[:200]}") from None


def _rows(table: pa.Table | None) -> list[Row]:
    return [] if table is None else table.to_pylist()


def _by_run(table: pa.Table | None, made: Callable[[Row], Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in _rows(table):
        if row.get("t_s") is not None:
            found.setdefault(str(row["run_id"]), []).append(made(row))
    return {run_id: sorted(them, key=lambda one: float(one.t_s)) for run_id, them in found.items()}


def _acted(row: Row) -> Acted:
    level = row.get("level")
    return Acted(float(row["t_s"]), str(row.get("rule") or ""), str(row.get("hook") or ""),
                 -1 if level is None else int(level), _number(row.get("requested_bytes")),
                 _number(row.get("freed_bytes")), _number(row.get("duration_s")))


def _killed(row: Row) -> Killed:
    return Killed(float(row["t_s"]), int(row.get("pid") or 0), str(row.get("killer") or "unknown"),
                  row.get("whole_target"))


def _devices(rows: list[Row]) -> dict[tuple[str, str], dict[str, float]]:
    """Settle conflicting or missing facts by majority within (device_type, sdk_version); a tie goes to the larger."""
    votes: dict[tuple[str, str], dict[str, Counter[float]]] = {}
    for row in rows:
        facts = votes.setdefault(_device_key(row), {name: Counter() for name in DEVICE_FACTS})
        for name in DEVICE_FACTS:
            if row.get(name) is not None:
                facts[name][float(row[name])] += 1
    return {key: {name: _elected(count) for name, count in facts.items()} for key, facts in votes.items()}


def _elected(count: Counter[float]) -> float:
    return max(count, key=lambda value: (count[value], value)) if count else math.nan


def _device_key(row: Row) -> tuple[str, str]:
    return str(row.get("device_type") or "generic"), str(row.get("sdk_version") or "")


class _Samples(NamedTuple):
    """The rows of one run."""

    columns: dict[str, Column]
    constraints: list[str]
    phases: list[str | None]


def _split(table: pa.Table) -> dict[str, _Samples]:
    """Return each run's samples in the order of time."""
    ids, names = _codes(table, "run_id")
    columns = {name: _column(table, name) for name in NUMBERS if name in table.column_names}
    order = _order(ids, columns["t_s"])
    constraint_codes, constraints = _codes(table, "constraint")
    has_phase = "phase" in table.column_names
    phase_codes, phases = _codes(table, "phase") if has_phase else (np.zeros(len(ids), np.intp), [None])
    if order is not None:
        ids, constraint_codes, phase_codes = ids[order], constraint_codes[order], phase_codes[order]
        columns = {name: values[order] for name, values in columns.items()}
    known = np.array([name or "" for name in constraints], dtype=object)
    words = np.array(phases, dtype=object)
    edges = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)] if len(ids) else []
    return {str(names[ids[low]]): _Samples({name: values[low:high] for name, values in columns.items()},
                                           known[constraint_codes[low:high]].tolist(),
                                           words[phase_codes[low:high]].tolist())
            for low, high in pairwise(edges)}


def _order(ids: NDArray[np.intp], t_s: Column) -> NDArray[np.intp] | None:
    """Return the order by run and time, None where the rows stand in it already."""
    is_same = ids[1:] == ids[:-1]
    if len(ids) and bool(np.all((ids[1:] > ids[:-1]) | (is_same & (t_s[1:] >= t_s[:-1])))):
        return None
    return np.lexsort((t_s, ids))


def _codes(table: pa.Table, name: str) -> tuple[NDArray[np.intp], list[str | None]]:
    """Return a text column as numbers and what they stand for; NULL is the last one."""
    encoded = table[name].combine_chunks().dictionary_encode()
    words: list[str | None] = encoded.dictionary.to_pylist()
    return np.asarray(encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False), np.intp), [*words, None]


def _column(table: pa.Table, name: str) -> Column:
    import pyarrow as pa

    return np.array(table[name].cast(pa.float64()).to_numpy(), np.float64)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _run(row: Row, samples: _Samples, devices: dict[tuple[str, str], dict[str, float]],
         actions: dict[str, list[Acted]], kills: dict[str, list[Killed]]) -> RecordedRun:
    run_id, started = str(row["run_id"]), row.get("started_at")
    profile = _profile(row, devices.get(_device_key(row), {}))
    without_limit = profile._replace(limit_bytes=math.nan)
    if row.get("profile_digest") == profile_digest(without_limit):      # the table's limit was a constraint's then
        profile = without_limit
    return RecordedRun(
        run_id, str(row.get("app") or ""), profile, samples.columns,
        samples.constraints, samples.phases, tuple(actions.get(run_id, ())), tuple(kills.get(run_id, ())),
        str(row.get("ended") or "unknown"), _number(row.get("ended_after_s")),
        started.timestamp() if isinstance(started, datetime) else math.nan,
        RecordedWith(str(row.get("bundle_digest") or ""), str(row.get("rules_digest") or ""),
                     str(row.get("profile_digest") or ""), str(row.get("agent_version") or ""),
                     str(row.get("scorer") or "")))


def _profile(row: Row, facts: dict[str, float]) -> Profile:
    def own(name: str) -> float:        # the run's own figure where it has one, else the device's
        value = _number(row.get(name))
        return facts.get(name, math.nan) if value != value else value

    device_type, sdk_version = _device_key(row)
    return Profile(
        device_type, sdk_version, own("ram_bytes"), own("swap_bytes"), own("cores"), own("cache_capacity_bytes"),
        own("buffer_capacity_bytes"), _number(row.get("heap_limit_bytes")), str(row.get("bound_kind") or ""),
        _number(row.get("limit_bytes")))
