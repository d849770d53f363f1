"""The same model on the same recordings, looked at less often, or with samples lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

THINNED_S = (1.0, 10.0)
FAST_S = 0.15               # recorded at about 0.1 s
TOLERANCE = 1.05            # a recorder at 1 s jitters by milliseconds
LOST_RATIO = 0.1


def at_cadence(run: Run, cadence_s: float) -> Run | None:
    """Return the run as a guard at that cadence would have seen it; None where it was recorded more slowly.

    The first sample of each period is kept: readings are thinned, never invented.
    """
    if run.cadence_s > cadence_s * TOLERANCE:
        return None
    if run.cadence_s > cadence_s / TOLERANCE:
        return run
    period = np.floor((run.t_s - run.start_s) / cadence_s + 1e-6)
    return _kept(run, np.flatnonzero(np.append(True, period[1:] != period[:-1])))


def with_losses(run: Run, seed: int) -> Run:
    """Return the run without 10 % of its samples, drawn by the seed and the run's name; the first stays."""
    rng = np.random.default_rng([seed, *run.run_id.encode()])
    is_kept = rng.random(len(run.t_s)) >= LOST_RATIO
    is_kept[:2] = True          # the run begins when it began
    return _kept(run, np.flatnonzero(is_kept))


def variants(runs: list[Run], seed: int) -> dict[str, list[tuple[int, Run]]]:
    """Return {name: [(which run, the run as seen then)]}, with the same runs as recorded beside each thinned set."""
    fast = [(at, run) for at, run in enumerate(runs) if run.cadence_s <= FAST_S]
    found = {"as recorded": list(enumerate(runs)), "recorded at 0.1 s": fast,
             "10 % of samples lost": [(at, with_losses(run, seed)) for at, run in enumerate(runs)]}
    for cadence_s in THINNED_S:
        thinned = [(at, at_cadence(run, cadence_s)) for at, run in enumerate(runs)]
        found[f"{cadence_s:g} s"] = [(at, run) for at, run in thinned if run is not None and len(run.t_s) > 1]
    found["0.1 s, thinned to 1 s"] = [(at, run) for at, run in found["1 s"] if runs[at].cadence_s <= FAST_S]
    return {name: some for name, some in found.items() if some}


def _kept(run: Run, keep: NDArray[np.intp]) -> Run:
    return replace(run, columns={name: values[keep] for name, values in run.columns.items()},
                   constraint=[run.constraint[at] for at in keep], phase=[run.phase[at] for at in keep])
