"""Write the dataset: one row per sample with its label and features, whole or not at all, the same bytes every time."""

from __future__ import annotations

import hashlib
import os
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oomguard import features
from oomguard._version import __version__
from oomguard.errors import NotPermittedError, UsageError
from oomguard.learn.dataset.account import Account
from oomguard.learn.dataset.card import Card, Summary, card_of
from oomguard.learn.dataset.recordings import stream_recordings
from oomguard.learn.dataset.run import Digest
from oomguard.learn.label.examples import features_of
from oomguard.learn.label.labels import UNLABELLED, labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset.run import Run

KEYS = pa.schema([("run_id", pa.string()), ("t_s", pa.float64()), ("label", pa.int8()), ("age_s", pa.float64()),
                  ("app", pa.string()), ("device_type", pa.string()), ("is_simulated", pa.bool_())])
TEXTS = ("run_id", "app", "device_type")
LIBRARIES = ("numpy", "pyarrow", "duckdb")


def schema() -> pa.Schema:
    """Return the columns of a dataset: KEYS, then every feature as float32, NaN where unknown."""
    return pa.schema([*KEYS, *((name, pa.float32()) for name in features.NAMES)],
                     metadata={"oomguard.feature_hash": features.table_hash()})


def make_dataset(sources: Sequence[str], out: str,
                 progress: Callable[[int, int], None] = lambda _done, _of: None) -> Card:
    """Read recordings of any size and write `out` with its data card.

    `out` is Parquet, a row group per batch of runs, sorted by run_id and time; beside it stand OUT.card.json and
    OUT.card.md. All three appear together or not at all.

    Args:
        sources: folders, and globs of folders or Parquet files.
        out: the file; its folder is made.
        progress: told samples done and samples in all.

    Raises:
        UsageError: the recordings cannot be read, or nothing in them can be learned from.
        NotPermittedError: the place cannot be written, or a disk is full.
    """
    names = (out, f"{out}.card.json", f"{out}.card.md")
    folder, name = os.path.split(os.path.abspath(out))
    temporary = [os.path.join(folder, f".{name}.{os.getpid()}.{at}") for at in range(len(names))]
    try:
        os.makedirs(folder, exist_ok=True)
        card = _write(sources, temporary[0], progress)
        for path, data in zip(temporary[1:], (card.to_json(), card.to_markdown()), strict=True):
            with open(path, "wb") as file:
                file.write(data)
        for made, wanted in reversed(list(zip(temporary, names, strict=True))):     # the dataset last: it has a card
            os.replace(made, wanted)
    except OSError as error:
        raise NotPermittedError(f"{out}: {error.strerror or error}") from None
    finally:
        for path in temporary:
            if os.path.exists(path):
                os.unlink(path)
    return card


def _write(sources: Sequence[str], path: str, progress: Callable[[int, int], None]) -> Card:
    account, summary, digest = Account(), Summary(), Digest()
    sink = _Sink(path)
    try:
        with pq.ParquetWriter(sink, schema(), compression="snappy", use_dictionary=list(TEXTS),
                              write_statistics=["run_id", "t_s", "label"]) as writer:
            for runs in stream_recordings(sources, account, progress):
                labels = [labels_of(run) for run in runs]
                for run, of_run in zip(runs, labels, strict=True):
                    digest.update(run)
                    summary.add(run, of_run)
                if runs:
                    writer.write_table(_table(runs, labels))
    finally:
        sink.close()
    if not summary.recorded.runs + summary.simulated.runs:
        raise UsageError(f"{', '.join(sources)}: no run has two usable samples: {account.dropped() or 'there is none'}")
    return card_of(sources, account, summary, data_sha256=digest.hex(), dataset_sha256=sink.digest.hexdigest(),
                   dataset_bytes=sink.size,
                   made_with={"oomguard": __version__, "features": features.table_hash(),
                              **{name: str(import_module(name).__version__) for name in LIBRARIES}})


def _table(runs: list[Run], labels: list[NDArray[np.int8]]) -> pa.Table:
    label = np.concatenate(labels)
    count = [len(of_run) for of_run in labels]
    of_run = pa.array(np.repeat(np.arange(len(runs), dtype=np.int32), count))
    columns = {name: pa.array([getattr(run, name) for run in runs]).take(of_run) for name in TEXTS}
    columns |= {"t_s": np.concatenate([run.t_s for run in runs]), "label": pa.array(label, mask=label == UNLABELLED),
                "age_s": np.concatenate([run.t_s - run.start_s for run in runs]),
                "is_simulated": pa.array([run.is_simulated for run in runs]).take(of_run)}
    rows = np.empty((features.COUNT, len(label)), np.float32)
    at = 0
    for run, length in zip(runs, count, strict=True):
        rows[:, at:at + length] = features_of(run).T
        at += length
    return pa.table([*(columns[name] for name in KEYS.names), *map(pa.array, rows)], schema=schema())


class _Sink:
    """A file that knows the sha256 of what was written to it."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb")       # noqa: SIM115 (closed by its owner)
        self.digest = hashlib.sha256()
        self.size = 0

    @property
    def closed(self) -> bool:
        """Whether it is closed, as Arrow asks."""
        return self._file.closed

    def write(self, data: bytes) -> int:
        """Append."""
        self.digest.update(data)
        self.size += len(memoryview(data).cast("B"))
        return self._file.write(data)

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._file.flush()

    def close(self) -> None:
        """Write it to the disk and close it."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
