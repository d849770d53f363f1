"""Read the tables of a recording, larger than memory, with DuckDB: a million small files too."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from oomguard.ctrl_c import CtrlC
from oomguard.errors import NotPermittedError, UsageError
from oomguard.learn.dataset.columns import COLUMNS, Alike, check, rows_sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from oomguard.learn.dataset.account import Account

MEMORY = "1GB"                  # DuckDB's share; what does not fit is sorted in $TMPDIR
FILES_AT_ONCE = 2000            # in one query; more are gathered first
ROWS_AT_ONCE = 1 << 16


class Tables:
    """The tables of some files. Use as a context manager: what DuckDB spills is removed at the end."""

    def __init__(self, files: dict[str, list[str]], account: Account) -> None:
        with CtrlC():
            import duckdb

        self._files, self._account = files, account
        self._spill = tempfile.TemporaryDirectory(prefix="oomguard-dataset-")
        try:
            with _problems_told():
                # One thread: rows come in the order of the file, and features, on one core, are what takes long.
                self._con = duckdb.connect(config={
                    "memory_limit": MEMORY, "threads": 1, "temp_directory": self._spill.name,
                    "preserve_insertion_order": True})
                self._con.execute("SET enable_progress_bar = false")    # it would draw into our standard output
        except BaseException:       # Ctrl-C, too: nobody has entered yet who would clean up
            self._spill.cleanup()
            raise

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *_why: object) -> None:
        self._con.close()
        self._spill.cleanup()

    def whole(self, table: str) -> pa.Table:
        """Return a table, sorted, without doubled rows; but each row of `devices` is a vote, and two may agree.

        Raises UsageError, NotPermittedError.
        """
        select, files = self._select(table)
        names = ", ".join(f'"{name}"' for name in COLUMNS[table])
        distinct = "" if table == "devices" else "DISTINCT"
        with _problems_told():
            found = self._con.sql(f"SELECT {distinct} {names} FROM ({select}) ORDER BY ALL",  # noqa: S608
                                  params=files)
            return found.to_arrow_reader(ROWS_AT_ONCE).read_all()

    def count(self, table: str) -> int:
        """Return how many rows a table's files hold, by their own word."""
        rows = 0
        with _problems_told():
            for files in _some_at_once(self._files[table]):
                told = self._con.execute("SELECT sum(num_rows) FROM parquet_file_metadata(?)", [files]).fetchall()
                rows += int(told[0][0])
        return rows

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
            yield from found.to_arrow_reader(ROWS_AT_ONCE)

    def _is_ordered(self, select: str, files: list[list[str]]) -> bool:
        """Return whether rows stand in the order of run and time already: then nothing has to be sorted."""
        run, t_s = -1, -np.inf
        found = self._con.sql(f"SELECT run, t_s FROM ({select})", params=files)  # noqa: S608
        for batch in found.to_arrow_reader(ROWS_AT_ONCE):
            runs = np.concatenate([[run], batch["run"].to_numpy()])
            times = np.concatenate([[t_s], batch["t_s"].to_numpy(zero_copy_only=False)])
            is_later = (runs[1:] > runs[:-1]) | ((runs[1:] == runs[:-1]) & (times[1:] >= times[:-1]))
            if not is_later.all():
                return False
            run, t_s = runs[-1], times[-1]
        return True

    def _select(self, table: str) -> tuple[str, list[list[str]]]:
        """Return SQL for all rows of a table, each column of its kind, and the lists of files it takes."""
        parts, number = [], 0
        for alike in self._alike(table):
            check(table, alike, self._account)
            for files in _some_at_once(alike.files):
                parts.append((rows_sql(table, alike, number), files))
                number += len(files)
        if number > FILES_AT_ONCE:
            return self._gathered(table, parts)
        return " UNION ALL ".join(sql for sql, _files in parts), [files for _sql, files in parts]

    def _gathered(self, table: str, parts: list[tuple[str, list[str]]]) -> tuple[str, list[list[str]]]:
        """Copy many small files into few: DuckDB keeps some 20 KB for each that a query reads (measured, 2.0)."""
        gathered = []
        with _problems_told():
            for number, (sql, files) in enumerate(parts):
                gathered.append(os.path.join(self._spill.name, f"{table}-{number:06d}.parquet"))
                quoted = gathered[-1].replace("'", "''")
                self._con.execute(f"COPY ({sql}) TO '{quoted}' (FORMAT parquet)", [files])
        return "SELECT * FROM read_parquet(?)", [gathered]

    def _alike(self, table: str) -> list[Alike]:
        """Return a table's files by what columns they have."""
        by_look: dict[str, list[str]] = {}
        with _problems_told():
            for files in _some_at_once(self._files[table]):
                by_file = self._con.execute(
                    "SELECT file_name, string_agg(concat_ws(':', name, type, converted_type, logical_type), ',' "
                    "ORDER BY name, type) FROM parquet_schema(?) GROUP BY file_name ORDER BY file_name",
                    [files]).fetchall()
                for name, look in by_file:
                    by_look.setdefault(look, []).append(name)
            described = [(files, self._con.execute("DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)",
                                                   [files[:1]]).fetchall()) for files in by_look.values()]
        return [Alike(files, {row[0]: row[1] for row in rows}) for files, rows in described]


def _some_at_once(files: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(files), FILES_AT_ONCE):
        yield files[at:at + FILES_AT_ONCE]


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
