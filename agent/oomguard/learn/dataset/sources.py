"""Which files hold which table: folders, searched to any depth, and globs."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

from oomguard.errors import UsageError
from oomguard.record.tables import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oomguard.learn.dataset.account import Account

TABLES = tuple(SCHEMAS)
SUFFIX = ".parquet"
WHAT = f"a recording is {', '.join(TABLES)}{SUFFIX} (docs/recordings.md)"


def find_files(sources: Sequence[str], account: Account) -> dict[str, list[str]]:
    """Return the files of each table, in the order of their names.

    Args:
        sources: folders, Parquet files, or globs of either (`**` crosses folders).
        account: told of files that are no table and of files named twice.

    Raises:
        UsageError: a source is not there or matches nothing, or a table has no file.
    """
    found: dict[str, set[str]] = {table: set() for table in TABLES}
    for source in sources:
        for path in _parquet_files(source):
            table = table_of(path)
            if table is None:
                account.note("files_no_table", of=os.path.basename(path))
            elif path in found[table]:
                account.note("files_named_twice", of=os.path.basename(path))
            else:
                found[table].add(path)
    for table, paths in found.items():
        if not paths:
            raise UsageError(f"{_where(sources, table)} is missing: {WHAT}")
        account.files[table] = len(paths)
        account.bytes += sum(map(os.path.getsize, paths))
    return {table: sorted(paths) for table, paths in found.items()}


def table_of(path: str) -> str | None:
    """Return the table that a file holds part of, by its name.

    `samples.parquet`, `samples-2026-11-22.parquet`, `samples_17.parquet`, `samples.17.parquet` and anything directly
    in a folder `samples/` hold samples.
    """
    folder, name = os.path.split(path)
    for table in TABLES:
        rest = name.removeprefix(table)
        if rest != name and rest[:1] in ("-", "_", "."):
            return table
    parent = os.path.basename(folder)
    return parent if parent in TABLES else None


def _parquet_files(source: str) -> Iterator[str]:
    if os.path.exists(source):
        matches = [source]
    else:
        matches = sorted(glob.glob(source, recursive=True))
        if not matches:
            raise UsageError(f"{source}: no such file or folder, and nothing matches it")
    for match in matches:
        if os.path.isdir(match):
            yield from _below(match)
        elif match.endswith(SUFFIX):
            yield os.path.abspath(match)
        elif match == source:
            raise UsageError(f"{source}: no Parquet file: {WHAT}")


def _below(folder: str) -> Iterator[str]:
    for place, _folders, names in os.walk(folder):
        for name in names:
            if name.endswith(SUFFIX) and not name.startswith("."):
                yield os.path.abspath(os.path.join(place, name))


def _where(sources: Sequence[str], table: str) -> str:
    if len(sources) == 1 and os.path.isdir(sources[0]):
        return os.path.join(sources[0], table + SUFFIX)
    return f"{', '.join(sources)}: {table}{SUFFIX}"
