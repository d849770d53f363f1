"""Which columns the tables of a recording have, and the SQL that reads each as a number, a text or a flag."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from oomguard.errors import UsageError
from oomguard.learn.dataset.run import NUMBERS

if TYPE_CHECKING:
    from oomguard.learn.dataset.account import Account

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
    "actions": {"run_id": "text", "t_s": "number", "rule": "text", "hook": "text", "level": "number",
                "duration_s": "number"},
}
NEEDED = {"devices": ("device_type",), "runs": ("run_id", "app", "ended"), "kills": ("run_id", "t_s"),
          "actions": ("run_id", "t_s"),
          "samples": ("run_id", "t_s", "constraint", "limit_bytes", "headroom_bytes", "used_bytes")}
NOT_FIXED = ("buffer_capacity_bytes",)      # in runs it is no column of DESIGN 4.9: nothing is told where it is absent

ROW_BITS = 40                   # a row is known by file << 40 | row in the file

_WHOLE = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
                    "UBIGINT", "UHUGEINT", '"NULL"'})
_REAL = frozenset({"FLOAT", "DOUBLE", "DECIMAL"})
# Text that is no number becomes infinite, which no reading is: cleaning counts it.
_NUMBER = {**dict.fromkeys(_WHOLE | _REAL, "CAST({} AS DOUBLE)"),
           "VARCHAR": "CASE WHEN {0} IS NULL THEN NULL ELSE coalesce(TRY_CAST({0} AS DOUBLE), 'inf'::DOUBLE) END"}
_FLAG = {"BOOLEAN": "{}", "VARCHAR": "TRY_CAST({} AS BOOLEAN)", **dict.fromkeys(_WHOLE, "({} <> 0)")}
_ABSENT = {"number": "NULL::DOUBLE", "text": "NULL::VARCHAR", "flag": "NULL::BOOLEAN"}


class Alike(NamedTuple):
    """Files of one table with the same columns and types."""

    files: list[str]
    types: dict[str, str]       # as DuckDB calls them


def check(table: str, alike: Alike, account: Account) -> None:
    """Hold the columns against what the table needs, and note those that are absent.

    Raises:
        UsageError: a needed column is missing.
    """
    missing = [name for name in NEEDED[table] if name not in alike.types]
    if missing:
        raise UsageError(f"{alike.files[0]} has no column {', '.join(missing)}")
    for name in COLUMNS[table]:
        if name not in alike.types and name not in NOT_FIXED:
            account.note("columns_absent", len(alike.files), f"{table}.{name}")


def rows_sql(table: str, alike: Alike, file_number: int) -> str:
    """Return SQL for every row of a list of files, its parameter: COLUMNS, and `recorded`, which rises as they stand.

    Args:
        table: one of COLUMNS.
        alike: any number of files with these columns.
        file_number: of the first of them.

    Raises:
        UsageError: a column is of a type that cannot be read.
    """
    columns = ", ".join(f'{_cell_sql(table, name, alike)} AS "{name}"' for name in COLUMNS[table])
    recorded = f"((file_index + {file_number})::BIGINT << {ROW_BITS}) + file_row_number AS recorded"
    return f"SELECT {columns}, {recorded} FROM read_parquet(?, hive_partitioning = false)"  # noqa: S608


def _cell_sql(table: str, name: str, alike: Alike) -> str:
    kind = COLUMNS[table][name]
    if name not in alike.types:
        return _ABSENT[kind]
    told = alike.types[name]
    made = _text(told, name) if kind == "text" else (_NUMBER if kind == "number" else _FLAG).get(told.partition("(")[0])
    if made is None:
        raise UsageError(f"{alike.files[0]}: column {name} is {told}: a {kind} was expected")
    return made.format(f'"{name}"')


def _text(told: str, name: str) -> str | None:
    is_text = told == "VARCHAR" or told in _WHOLE or (name == "started_at" and told.startswith(("TIMESTAMP", "DATE")))
    return "CAST({} AS VARCHAR)" if is_text else None
