"""Read the tables of a recording, larger than memory, with DuckDB: columns are checked by name and type."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.errors import NotPermittedError, UsageError
from oomguard.learn.dataset.run import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from oomguard.learn.dataset.account import Account

MEMORY = "1GB"                  # DuckDB's share; what does not fit is sorted in $TMPDIR
FILES_AT_ONCE = 2000            # whose columns are looked at in one query
ROWS_AT_ONCE = 1 << 16
ROW_BITS = 40                   # a row is known by file << 40 | row in the file

# Column kinds: a number (float64, NULL unknown), a text, a flag. Those of NEEDED must be in every file.
DEVICE_FACTS = ("ram_bytes", "swap_bytes", "cores", "cache_capacity_bytes", "buffer_capacity_bytes")
RUN_TEXTS = ("run_id", "app", "ended", "device_type", "sdk_version", "bound_kind", "profile_digest", "boot_id",
             "device_id", "app_version", "started_at")
RUN_NUMBERS = ("limit_bytes", "cache_capacity_bytes", "buffer_capacity_bytes", "heap_limit_bytes", "ended_after_s")
COLUMNS: dict[str, dict[str, str]] = {
    "devices": {"device_type": "text", "sdk_version": "text", **dict.fromkeys(DEVICE_FACTS, "number")},
    "runs": {**dict.fromkeys(RUN_TEXTS, "text"), **dict.fromkeys(RUN_NUMBERS, "number")},
    "samples": {"run_id": "text", "t_s": "number", "constraint": "text", "phase": "text",
                **dict.fromkeys(NUMBERS, "number")},
    "kills": {"run_id": "text", "t_s": "number", "pid": "number", "killer": "text", "whole_target": "flag"},
    "actions": {"run_id": "text", "t_s": "number", "rule": "text", "hook": "text", "level": "number"},
}
NEEDED = {"devices": ("device_type",), "runs": ("run_id", "app", "ended"), "kills": ("run_id", "t_s"),
          "actions": ("run_id", "t_s"),
          "samples": ("run_id", "t_s", "constraint", "limit_bytes", "headroom_bytes", "used_bytes")}
NOT_FIXED = ("buffer_capacity_bytes",)      # in runs it is no column of DESIGN 4.9: nothing is told where it is absent

_WHOLE = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
                    "UBIGINT", "UHUGEINT", '"NULL"'})
_REAL = frozenset({"FLOAT", "DOUBLE"})


class _Alike(NamedTuple):
    """Files of one table with the same columns and types."""

    files: list[str]
    types: dict[str, str]


class Tables:
    """The tables of some files. Use as a context manager: what DuckDB spills is removed at the end."""

    def __init__(self, files: dict[str, list[str]], account: Account) -> None:
        import duckdb

        self._files, self._account = files, account
        self._spill = tempfile.TemporaryDirectory(prefix="oomguard-dataset-")
        # One thread: rows come in the order of the file, and features, on one core, are what takes long.
        self._con = duckdb.connect(config={"memory_limit": MEMORY, "threads": 1, "temp_directory": self._spill.name,
                                           "preserve_insertion_order": True})
        self._selects: dict[str, tuple[str, list[list[str]]]] = {}

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *_why: object) -> None:
        self._con.close()
        self._spill.cleanup()

    def whole(self, table: str) -> pa.Table:
        """Return a table without doubled rows, sorted. Raises UsageError, NotPermittedError."""
        select, files = self._select(table)
        names = ", ".join(f'"{name}"' for name in COLUMNS[table])
        with _problems_told():
            found = self._con.sql(f"SELECT DISTINCT {names} FROM ({select}) ORDER BY ALL",  # noqa: S608
                                  params=files)
            return _arrow(found).read_all()

    def count(self, table: str) -> int:
        """Return how many rows a table's files hold, by their own word."""
        with _problems_told():
            rows = self._con.execute("SELECT coalesce(sum(num_rows), 0) FROM parquet_file_metadata(?)",
                                     [self._files[table]]).fetchone()
        return int(rows[0]) if rows else 0

    def samples(self, run_ids: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield the samples of the runs in `run_ids` (sorted), in the order of run and time.

        Yields:
            Batches of `run` (its index in `run_ids`), `recorded` (rising as recorded) and the columns of samples. Rows
            whose run is not in `run_ids` are left out.
        """
        import pyarrow as pa

        select, files = self._select("samples")
        names = ", ".join(f'"{name}"' for name in COLUMNS["samples"] if name != "run_id")
        index = pa.table({"run_id": pa.array(run_ids, pa.string()), "number": pa.array(np.arange(len(run_ids)))})
        with _problems_told():
            self._con.register("run_index", index)
            self._con.execute("CREATE TYPE run_name AS ENUM (SELECT run_id FROM run_index ORDER BY number)")
            of_run = f"SELECT enum_code(TRY_CAST(run_id AS run_name))::BIGINT AS run, * FROM ({select})"  # noqa: S608
            numbered = f"SELECT * FROM ({of_run}) WHERE run IS NOT NULL"  # noqa: S608
            order = "" if self._is_ordered(numbered, files) else "ORDER BY run, t_s, recorded"
            found = self._con.sql(f"SELECT run, recorded, {names} FROM ({numbered}) {order}", params=files)  # noqa: S608
            yield from _arrow(found)

    def _is_ordered(self, select: str, files: list[list[str]]) -> bool:
        """Return whether rows stand in the order of run and time already: then nothing has to be sorted."""
        run, t_s = -1, -np.inf
        for batch in _arrow(self._con.sql(f"SELECT run, t_s FROM ({select})", params=files)):  # noqa: S608
            runs = np.concatenate([[run], batch["run"].to_numpy()])
            times = np.concatenate([[t_s], batch["t_s"].to_numpy(zero_copy_only=False)])
            is_later = (runs[1:] > runs[:-1]) | ((runs[1:] == runs[:-1]) & (times[1:] >= times[:-1]))
            if not is_later.all():
                return False
            run, t_s = runs[-1], times[-1]
        return True

    def _select(self, table: str) -> tuple[str, list[list[str]]]:
        """Return SQL for all rows of a table, each column of its kind, and the lists of files it takes."""
        if table not in self._selects:
            parts, files, before = [], [], 0
            for alike in self._alike(table):
                columns = ", ".join(f'{self._expression(table, name, alike)} AS "{name}"' for name in COLUMNS[table])
                recorded = f"((file_index + {before})::BIGINT << {ROW_BITS}) + file_row_number AS recorded"
                parts.append(f"SELECT {columns}, {recorded} FROM read_parquet(?, hive_partitioning = false)")  # noqa: S608
                files.append(alike.files)
                before += len(alike.files)
            self._selects[table] = " UNION ALL ".join(parts), files
        return self._selects[table]

    def _alike(self, table: str) -> list[_Alike]:
        """Return a table's files by what columns they have. Raises UsageError where one lacks what is needed."""
        by_look: dict[str, list[str]] = {}
        files = self._files[table]
        with _problems_told():
            for at in range(0, len(files), FILES_AT_ONCE):
                by_file = self._con.execute(
                    "SELECT file_name, string_agg(concat_ws(':', name, type, converted_type, logical_type), ',' "
                    "ORDER BY column_id) FROM parquet_schema(?) GROUP BY file_name ORDER BY file_name",
                    [files[at:at + FILES_AT_ONCE]]).fetchall()
                for name, look in by_file:
                    by_look.setdefault(look, []).append(name)
            found = []
            for alike in by_look.values():
                described = self._con.execute("DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)",
                                              [alike[:1]]).fetchall()
                found.append(_Alike(alike, {row[0]: row[1] for row in described}))
        for each in found:
            missing = [name for name in NEEDED[table] if name not in each.types]
            if missing:
                raise UsageError(f"{each.files[0]} has no column {', '.join(missing)}")
        return found

    def _expression(self, table: str, name: str, alike: _Alike) -> str:
        kind, of = COLUMNS[table][name], f'"{name}"'
        if name not in alike.types:
            if name not in NOT_FIXED:
                self._account.note("columns_absent", len(alike.files), f"{table}.{name}")
            return {"number": "NULL::DOUBLE", "text": "NULL::VARCHAR", "flag": "NULL::BOOLEAN"}[kind]
        told = alike.types[name]
        made = _NUMBER.get(told) if kind == "number" else _text(told, name) if kind == "text" else _FLAG.get(told)
        if kind == "number" and told.startswith("DECIMAL"):
            made = "CAST({} AS DOUBLE)"
        if made is None:
            raise UsageError(f"{alike.files[0]}: column {name} is {told}: a {kind} was expected")
        return made.format(of)


# Text that is no number becomes infinite, which no reading is: cleaning counts it.
_NUMBER = {**dict.fromkeys(_WHOLE | _REAL, "CAST({} AS DOUBLE)"),
           "VARCHAR": "CASE WHEN {0} IS NULL THEN NULL ELSE coalesce(TRY_CAST({0} AS DOUBLE), 'inf'::DOUBLE) END"}
_FLAG = {"BOOLEAN": "{}", "VARCHAR": "TRY_CAST({} AS BOOLEAN)", **dict.fromkeys(_WHOLE, "({} <> 0)")}


def _text(told: str, name: str) -> str | None:
    is_text = told == "VARCHAR" or told in _WHOLE or (name == "started_at" and told.startswith(("TIMESTAMP", "DATE")))
    return "CAST({} AS VARCHAR)" if is_text else None


def _arrow(found: Any) -> Any:
    """Return a reader of record batches; before DuckDB 1.4 the method had another name."""
    return (getattr(found, "to_arrow_reader", None) or found.fetch_arrow_reader)(ROWS_AT_ONCE)


@contextmanager
def _problems_told() -> Iterator[None]:
    """Turn what DuckDB and Arrow raise into our errors."""
    import duckdb
    import pyarrow as pa

    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError, RuntimeError) as problem:
        text = str(problem).strip().partition("\n")[0][:300]
        if "interrupted" in text.lower():       # Ctrl-C comes as a RuntimeError, "Query interrupted" (DuckDB 2.0)
            raise KeyboardInterrupt from None
        if isinstance(problem, duckdb.OutOfMemoryException) or "space left" in text or "Could not write" in text:
            raise NotPermittedError(f"{tempfile.gettempdir()}: no room to sort in (set TMPDIR): {text}") from None
        raise UsageError(f"cannot be read: {text}") from None
