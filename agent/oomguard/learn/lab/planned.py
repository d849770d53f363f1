"""What the lab had planned for the runs of a recording: drawn again from the catalogue, for those who explain figures.

No training, scoring or baseline reads this: it knows caps that were hidden from them. A recording in
models/recordings/NAME is of the catalogue models/NAME.yaml.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from oomguard.learn.evaluate.why import Planned
from oomguard.learn.lab.catalogue import read_catalogue
from oomguard.learn.lab.plan import CURVE_STEP_S, curve_of, draw_runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oomguard.learn.lab.plan import RunPlan


def planned_of(recordings: Iterable[str]) -> dict[str, Planned]:
    """Return the plans by run of every folder that has a catalogue beside it; of others nothing is known.

    Raises:
        ConfigError: such a catalogue cannot be read.
    """
    return {plan.run_id: _planned(plan) for folder in recordings if os.path.isfile(catalogue := _catalogue(folder))
            for plan in draw_runs(read_catalogue(catalogue))}


def _catalogue(folder: str) -> str:
    whole = os.path.abspath(folder)
    return os.path.join(os.path.dirname(os.path.dirname(whole)), os.path.basename(whole) + ".yaml")


def _planned(plan: RunPlan) -> Planned:
    above = np.flatnonzero(curve_of(plan) >= plan.limit_bytes + plan.swap_bytes)
    return Planned(plan.kind, plan.shape, float(plan.limit_bytes), plan.bound_bytes == plan.bound_bytes,
                   plan.loading_until_s, plan.is_phase_told, float(above[0]) * CURVE_STEP_S if len(above) else np.inf)
