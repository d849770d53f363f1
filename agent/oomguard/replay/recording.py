"""The one door for recordings: tables (DESIGN 4.9) or journals become runs as the guard saw them, sample by sample.

Nothing is cleaned away here: learning leaves rows out, a replay must see what the live guard saw.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oomguard.errors import UsageError
from oomguard.profile import Profile

Column = NDArray[np.float64]


class Acted(NamedTuple):
    """One recorded action. Unknown numbers are NaN."""

    t_s: float
    rule: str
    hook: str
    level: int                  # -1 where it was not recorded
    requested_bytes: float
    freed_bytes: float          # what the samples after it showed
    duration_s: float


class Killed(NamedTuple):
    """One recorded kill."""

    t_s: float
    pid: int                    # 0 where unknown
    killer: str
    is_whole_target: bool | None


class RecordedWith(NamedTuple):
    """What the run was guarded with; empty where it was not recorded."""

    bundle: str = ""            # sha256 of the manifest
    rules: str = ""             # sha256 of the rules' text
    profile: str = ""
    version: str = ""
    scorer: str = ""
    is_mixed: bool = False      # rules, model or profile changed within the run: their digest is empty


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One life of a target as recorded, in the order of time."""

    run_id: str
    app: str
    profile: Profile
    columns: dict[str, Column]          # every name of series.NUMBERS that was recorded, float64[n], NaN: unknown
    constraints: list[str]
    phases: list[str | None]
    actions: tuple[Acted, ...] = ()
    kills: tuple[Killed, ...] = ()
    ended: str = "unknown"              # oom | exit | crash | stopped | unknown
    ended_after_s: float = math.nan
    started_at_s: float = math.nan      # seconds since 1970, UTC
    recorded_with: RecordedWith = field(default_factory=RecordedWith)

    @property
    def t_s(self) -> Column:
        """Times of the samples, seconds since the run began."""
        return self.columns["t_s"]

    def until(self, count: int) -> RecordedRun:
        """Return the run's first `count` samples; actions and kills stay."""
        return replace(self, columns={name: values[:count] for name, values in self.columns.items()},
                       constraints=self.constraints[:count], phases=self.phases[:count])


def load_runs(path: str, run_id: str = "") -> list[RecordedRun]:
    """Return the runs of a recording, sorted by run_id.

    Args:
        path: a folder of tables, or of journals (record/).
        run_id: only this one; empty: all.

    Raises:
        UsageError: there is no recording, it is torn or lacks a column, or it has no such run.
    """
    from oomguard.replay.from_journals import from_journals
    from oomguard.replay.from_tables import from_tables

    is_tables = os.path.isfile(os.path.join(path, "samples.parquet")) or os.path.isfile(
        os.path.join(path, "runs.parquet"))
    runs = from_tables(path, run_id) if is_tables else from_journals(path, run_id)
    if run_id and not runs:
        raise UsageError(f"{path} has no run {run_id!r}")
    return sorted(runs, key=lambda run: run.run_id)
