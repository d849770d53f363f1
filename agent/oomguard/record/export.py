"""Write a recording as Parquet tables: each appears whole or not at all, the same bytes for the same journal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from oomguard.errors import NotPermittedError
from oomguard.record.reader import Progress, Recording
from oomguard.record.tables import SCHEMAS, Account, Tables

COMPRESSION = "zstd"
ROWS_PER_GROUP = 1 << 17        # short runs share a row group


class Exported(NamedTuple):
    """What was written."""

    rows: dict[str, int]    # by table
    bytes: int
    account: Account


def export(recording: Recording, folder: str, progress: Progress = lambda _done, _of: None) -> Exported:
    """Write `devices, runs, samples, kills, actions.parquet` into `folder`, over what is there.

    All five are written under other names before the first is renamed.

    Args:
        recording: from `read_journals`.
        folder: made where it is missing.
        progress: told samples written and samples in all, after each run.

    Raises:
        NotPermittedError: the folder cannot be written, or the disk is full: it says which.
    """
    tables = Tables(recording.runs)
    temporary = {name: os.path.join(folder, f".{name}.parquet.{os.getpid()}") for name in SCHEMAS}
    try:
        os.makedirs(folder, exist_ok=True)
        rows = {"samples": _write_samples(temporary["samples"], tables.samples(), progress,
                                          sum(map(len, recording.runs)))}
        for name in ("devices", "runs", "kills", "actions"):
            table = getattr(tables, name)()
            pq.write_table(table, temporary[name], compression=COMPRESSION)
            rows[name] = table.num_rows
        size = sum(os.path.getsize(path) for path in temporary.values())
        for name, path in temporary.items():
            os.replace(path, os.path.join(folder, f"{name}.parquet"))
    except OSError as error:
        raise NotPermittedError(f"{folder}: {error.strerror or error}") from None
    finally:
        _remove(temporary.values())
    return Exported({name: rows[name] for name in SCHEMAS}, size, tables.account)


def _write_samples(path: str, tables: Iterator[pa.Table], progress: Progress, of: int) -> int:
    rows, waiting = 0, [SCHEMAS["samples"].empty_table()]
    with pq.ParquetWriter(path, SCHEMAS["samples"], compression=COMPRESSION) as writer:
        for table in tables:
            waiting.append(table)
            rows += table.num_rows
            if sum(each.num_rows for each in waiting) >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = [SCHEMAS["samples"].empty_table()]
            progress(rows, of)
        writer.write_table(pa.concat_tables(waiting))
    return rows


def _remove(paths: Iterable[str]) -> None:
    """Remove what an error left behind."""
    for path in paths:
        if os.path.exists(path):
            os.unlink(path)
