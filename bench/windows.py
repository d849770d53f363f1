"""What the suite scores: at least 4,096 different windows out of recordings of real programs.

`OOMGUARD_BENCH_RECORDINGS` names another folder of recordings (DESIGN 4.9) than models/recordings/sample.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np

from oomguard import features
from oomguard.measure.inputs import SEED, facts
from oomguard.replay.from_tables import from_tables
from oomguard.replay.recording import RecordedRun
from oomguard.sense.sample import Sample
from oomguard.series import NUMBERS
from oomguard.window import Window

WANTED = 4096
SPARE_RATIO = 1.25      # looked at so many more: on a plateau two windows have the same features
SHORTEST_S = 31.0       # below 30 s the model abstains, and a score that returns early would flatter
FOLDER = Path(os.environ.get("OOMGUARD_BENCH_RECORDINGS",
                             Path(__file__).parent.parent / "models" / "recordings" / "sample"))


def recorded_windows(wanted: int = WANTED, folder: Path = FOLDER) -> list[Window]:
    """Return windows as a guard would hold them at `wanted` moments spread evenly over all runs, in random order.

    Raises ValueError where the recordings hold fewer different ones.
    """
    runs = from_tables(str(folder))
    moments = [int(np.count_nonzero(run.t_s >= run.t_s[0] + SHORTEST_S)) if len(run.t_s) else 0 for run in runs]
    chosen = np.unique((np.arange(int(wanted * SPARE_RATIO)) * sum(moments)) // int(wanted * SPARE_RATIO))
    different: dict[bytes, Window] = {}
    begin = 0
    for run, count in zip(runs, moments, strict=True):
        mine = chosen[(chosen >= begin) & (chosen < begin + count)] - begin + len(run.t_s) - count
        for window in _windows_of(run, set(mine.tolist())):
            different[features.of(window.buffer, facts()[0]).tobytes()] = window
        begin += count
    if len(different) < wanted:
        raise ValueError(f"{folder}: {len(different)} different windows of {SHORTEST_S:g} s, {wanted} are wanted")
    windows = list(different.values())
    random.Random(SEED).shuffle(windows)
    return windows[:wanted]


def _windows_of(run: RecordedRun, moments: set[int]) -> list[Window]:
    """Return a copy of the run's window after each of these samples."""
    if not moments:
        return []
    window, made = Window.in_memory(), []
    columns = [run.columns.get(name, np.full(len(run.t_s), 0.0 if name == "late_s" else np.nan)).tolist()
               for name in NUMBERS]
    for at, values in enumerate(zip(*columns, strict=True)):
        window.push(Sample(**dict(zip(NUMBERS, values, strict=True)), constraint=run.constraints[at], phase=None))
        if at in moments:
            made.append(Window(bytearray(window.buffer)))
        if at >= max(moments):
            break
    return made


def rows_of(pairs) -> np.ndarray:
    """Return float32[n, F], the features of every window."""
    return np.array([features.of(*pair) for pair in pairs], dtype=np.float32)
