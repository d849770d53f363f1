"""Give a bundle thresholds for other devices than it was made on: the model and its calibration stay as they are."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from oomguard.errors import UsageError
from oomguard.learn.dataset import digest_of
from oomguard.learn.label.examples import rows_of
from oomguard.learn.thresholds.levels import fit_thresholds
from oomguard.learn.thresholds.per_type import manifest_parts
from oomguard.series import forecasts_of_run
from oomguard.trust.bundle import load_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run
    from oomguard.learn.thresholds.critical import Study
    from oomguard.learn.thresholds.levels import Cost, TypeThresholds
    from oomguard.trust.bundle import Bundle


def forecasts_of(runs: Sequence[Run], bundle: Bundle,
                 progress: Callable[[int, int], None] = lambda _done, _of: None) -> list[NDArray[np.float64]]:
    """Return float[n, 5] p60…p300 per run, as the device computes them.

    Raises:
        UsageError: the bundle was trained on these very runs: its forecasts of them say nothing about others.
    """
    with open(os.path.join(bundle.folder, "manifest.json"), "rb") as file:
        training = json.load(file).get("training") or {}
    if training.get("data_sha256") == digest_of(list(runs)):
        raise UsageError(f"{bundle.folder} was trained on these recordings: `learn train` sets their thresholds, "
                         "from forecasts of models that had not seen them")
    forest = bundle.load_forest()
    found = []
    for done, run in enumerate(runs, 1):
        found.append(forecasts_of_run(rows_of(run), run.profile, forest))
        progress(done, len(runs))
    return found


def global_thresholds(runs: Sequence[Run], forecasts: Sequence[NDArray[np.float64]], cost: Cost) -> tuple[float, ...]:
    """Return the thresholds for all types together.

    Raises:
        UsageError: no run was killed, so that no miss has a cost.
    """
    if not any(len(run.kills_s) for run in runs):
        raise UsageError("no run in the recordings was killed: there is nothing to set alarm thresholds by")
    return fit_thresholds(runs, forecasts, cost)


def write_with_thresholds(bundle: Bundle, folder: str, study: Study, whole: tuple[float, ...],
                          by_type: Mapping[str, TypeThresholds], cost: Cost, runs: Sequence[Run]) -> str:
    """Write a copy of the bundle with these thresholds; return the sha256 of its manifest. It needs a new signature.

    The release number goes up by one, so that a service takes it after the one it came from.
    """
    with open(os.path.join(bundle.folder, "manifest.json"), "rb") as file:
        manifest = json.load(file)
    manifest |= manifest_parts(study, whole, by_type)
    manifest |= {"release": bundle.release + 1, "cost": {"miss_to_false_alarm": cost.miss_to_false_alarm,
                                                         "field_kills_per_h": cost.field_kills_per_h},
                 "thresholds_from": {"data_sha256": digest_of(list(runs)), "runs": len(runs),
                                     "kills": int(sum(len(run.kills_s) for run in runs)),
                                     "manifest_sha256": bundle.digest}}
    raw = (json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    os.makedirs(folder, exist_ok=True)
    for name in sorted(manifest["files"]):
        with open(os.path.join(bundle.folder, os.path.basename(name)), "rb") as file:
            _write(folder, os.path.basename(name), file.read())
    _write(folder, "manifest.json", raw)
    digest = hashlib.sha256(raw).hexdigest()
    load_bundle(folder, expect_digest=digest)
    return digest


def _write(folder: str, name: str, data: bytes) -> None:
    """Write a file whole or not at all."""
    half = os.path.join(folder, f"{name}.partial")
    with open(half, "wb") as file:
        file.write(data)
    os.replace(half, os.path.join(folder, name))
