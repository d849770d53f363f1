"""Stream clean runs out of recordings of any size, in the order of run_id, some at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from oomguard.errors import UsageError
from oomguard.learn.dataset import facts
from oomguard.learn.dataset.account import Account
from oomguard.learn.dataset.cleaning import samples_of
from oomguard.learn.dataset.lives import Lives
from oomguard.learn.dataset.sources import TABLES, find_files
from oomguard.learn.dataset.tables import ROWS_AT_ONCE, Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset.run import Run

    Whole = NDArray[np.int64]

MAX_ROWS = 200_000_000          # that read_recordings takes into memory
MAX_ROWS_OF_RUN = 20_000_000    # a run is cleaned in one piece: 3 GB


def read_recordings(folder: str, account: Account | None = None) -> list[Run]:
    """Return the runs of one source, sorted by run_id, all in memory.

    Args:
        folder: holds `devices, runs, samples, kills, actions.parquet` with the columns of DESIGN 4.9, at any depth;
            or a glob of such files or folders.
        account: told what was left out or repaired.

    Raises:
        UsageError: a table or a column is missing, or there are more than MAX_ROWS samples.
        NotPermittedError: no room to sort.
    """
    return [run for batch in stream_recordings([folder], account or Account(), most=MAX_ROWS) for run in batch]


def stream_recordings(
    sources: Sequence[str], account: Account, progress: Callable[[int, int], None] = lambda _done, _of: None, *,
    most: int | None = None,
) -> Iterator[list[Run]]:
    """Yield clean runs in the order of run_id, in batches of at least ROWS_AT_ONCE samples but the last.

    Args:
        sources: folders and globs.
        account: told what was read, left out and repaired; complete when the last batch is out.
        progress: told samples read and samples in all.
        most: samples; more are refused.

    Raises:
        UsageError, NotPermittedError: as read_recordings.
    """
    with Tables(find_files(sources, account), account) as tables:
        account.read = {table: tables.count(table) for table in TABLES}
        of = account.read["samples"]
        if most is not None and of > most:
            raise UsageError(f"{', '.join(sources)}: {of} samples are more than {most}: `learn dataset` has no bound")
        rows = _run_rows(tables, account)
        lives = Lives(rows, tables, account)
        done = 0
        for table in _whole_runs(tables.samples([row["run_id"] for row in rows]) if rows else ()):
            done += table.num_rows
            yield lives.runs_in(samples_of(table, account))
            progress(done, of)
        account.note("samples_without_run", of - done)
        lives.close()
        progress(of, of)


def _run_rows(tables: Tables, account: Account) -> list[dict[str, Any]]:
    found = tables.whole("runs").to_pylist()
    account.note("runs_doubled", account.read["runs"] - len(found))
    return facts.settle_runs(found, account)


def _whole_runs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield tables of whole runs of at least ROWS_AT_ONCE rows but the last, cut alike however the batches came in."""
    held: list[pa.RecordBatch] = []
    rows, last = 0, -1
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        newest = batch["run"][batch.num_rows - 1].as_py() if batch.num_rows else last
        if newest == last and rows > MAX_ROWS_OF_RUN:
            raise UsageError(f"a run has more than {MAX_ROWS_OF_RUN} samples")
        if newest != last and rows >= ROWS_AT_ONCE:
            table = pa.Table.from_batches(held)
            begin = 0
            for end in _edges(table["run"].to_numpy()):
                if end - begin >= ROWS_AT_ONCE:
                    yield table.slice(begin, end - begin)
                    begin = end
            held = table.slice(begin).to_batches()
            rows -= begin
        last = newest
    if rows:
        yield pa.Table.from_batches(held)


def _edges(run: Whole) -> list[int]:
    """Return where another run begins."""
    return (np.flatnonzero(run[1:] != run[:-1]) + 1).tolist()
