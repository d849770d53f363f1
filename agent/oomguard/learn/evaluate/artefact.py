"""An evaluation on disk: evaluation.json, and scores.npz with what the model said at every sample.

With it and the recordings a report is drawn without training anything again. No number in it is trusted beyond being
drawn; arrays are read without pickles.
"""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.errors import UsageError
from oomguard.forest import HORIZONS_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run
    from oomguard.learn.evaluate.systems import System

REPORT, SCORES = "evaluation.json", "scores.npz"
FORMAT = 1


class Said(NamedTuple):
    """What one system said, run by run: forecasts p60…p300 at every sample, and the thresholds it stood at."""

    forecasts: list[NDArray[np.float64]]
    levels: list[tuple[float, ...]]


def save(folder: str, report: dict[str, Any], runs: Sequence[Run], systems: Mapping[str, System],
         recordings: Sequence[str], data_sha256: str) -> None:
    """Write both files. The same evaluation gives the same bytes."""
    os.makedirs(folder, exist_ok=True)
    said = {name: system for name, system in systems.items() if system.forecasts is not None}
    arrays: dict[str, Any] = {"run_ids": np.array([run.run_id for run in runs], dtype=np.str_),
                              "samples": np.array([len(run.t_s) for run in runs], np.int64)}
    for at, system in enumerate(said.values()):
        arrays[f"forecasts_{at}"] = np.concatenate(system.forecasts or []).astype(np.float32)
        arrays[f"levels_{at}"] = np.array(system.levels, np.float64)
    whole = {**report, "artefact": {"format": FORMAT, "systems": list(said), "recordings": list(recordings),
                                    "data_sha256": data_sha256}}
    np.savez_compressed(os.path.join(folder, SCORES), **arrays)
    with open(os.path.join(folder, REPORT), "w", encoding="utf-8") as file:
        json.dump(whole, file, indent=1, allow_nan=False)
        file.write("\n")


def load(folder: str) -> dict[str, Any]:
    """Return the report of a saved evaluation.

    Raises:
        UsageError: it is not there, is no JSON, or of another format.
    """
    path = os.path.join(folder, REPORT)
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path}: {problem}: `oomguard learn evaluate RECIPE --out FOLDER` writes one") from None
    if not isinstance(report, dict) or report.get("artefact", {}).get("format") != FORMAT:
        raise UsageError(f"{path}: not an evaluation of format {FORMAT}")
    return report


def load_said(folder: str, report: dict[str, Any], runs: Sequence[Run]) -> dict[str, Said]:
    """Return what each saved system said, in the order of `runs`.

    Raises:
        UsageError: the file cannot be read, or belongs to other recordings.
    """
    path = os.path.join(folder, SCORES)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            lengths = dict(zip(arrays["run_ids"].tolist(), arrays["samples"].tolist(), strict=True))
            if lengths != {run.run_id: len(run.t_s) for run in runs}:
                raise UsageError(f"{path} was made from other recordings: evaluate them again")
            order = [list(lengths).index(run.run_id) for run in runs]
            edges = np.cumsum([0, *lengths.values()])
            return {name: _said(arrays[f"forecasts_{at}"], arrays[f"levels_{at}"], order, edges)
                    for at, name in enumerate(report["artefact"]["systems"])}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as problem:
        raise UsageError(f"{path}: {problem}") from None


def _said(forecasts: NDArray[np.float32], levels: NDArray[np.float64], order: list[int],
          edges: NDArray[np.int64]) -> Said:
    if forecasts.shape != (edges[-1], len(HORIZONS_S)) or levels.shape != (len(order), len(HORIZONS_S)):
        raise ValueError("arrays of the wrong shape")
    return Said([forecasts[edges[at]:edges[at + 1]].astype(np.float64) for at in order],
                [tuple(levels[at].tolist()) for at in order])
