"""What tests of faults look at afterwards: the guard that they started, and what it recorded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guarded import Guard

from oomguard.record.reader import Recording, read_journals
from oomguard.record.runs import JournalRun


def guard_of_us(start: Callable[..., Guard], *more: str, **others: Any) -> Guard:
    """Guard this very process on plain levels, and record it."""
    return start("run", "--model", "none", "--target", f"pid:{os.getpid()}", *more, **others)


def recording_of(folder: Path) -> Recording:
    """Return what the guards of a test recorded."""
    return read_journals(str(folder / "state" / "journal"))


def runs_of(folder: Path) -> list[JournalRun]:
    """Return the recorded runs in order of their start."""
    return sorted(recording_of(folder).runs, key=lambda run: run.facts["start_s"])


def times_of(folder: Path) -> list[list[float]]:
    """Return the times of the samples of each recorded run, in order of their start."""
    return [run.column("t_s").tolist() for run in runs_of(folder)]
