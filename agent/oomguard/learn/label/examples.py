"""From runs to training examples: features by the device's own kernel, labels, weights, hidden facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from oomguard import features
from oomguard.forest import MIN_WINDOW_S
from oomguard.learn.label.labels import UNLABELLED, labels_of, seconds_since_last
from oomguard.series import features_of_run, series_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

LAST_READINGS_S = 30.0      # must hold three (forest.abstention)
RESTARTED_SHARE = 1 / 3     # of a recorded run's rows come from windows that began somewhere in mid-life
RESTARTS_S = (15.0, 240.0)
AGES_S = (30.0, 60.0, 120.0, 200.0, 300.0, 450.0, 700.0, 1100.0)   # between which danger weighs the same
MOST_FACTOR = 10.0                  # that balancing gives a row: a handful must not stand for all

# What an app may say of itself: that it is filling up as it is meant to, or that it has done so. Ids are positions.
PHASES = ("loading", "steady")

# What a device may not know. Each group is hidden at random while learning, so that absence tells nothing.
HIDEABLE: dict[str, tuple[str, ...]] = {
    "bounds": ("cache_capacity_ratio", "buffer_capacity_ratio", "heap_limit_ratio", "bound_kind", "bound_room_ratio",
               "straight_line_to_bound_s"),
    "pressure": tuple(name for name in features.NAMES if name.startswith("psi_")),
    "faults": tuple(name for name in features.NAMES if name.startswith(("refaults_", "major_faults_"))),
    "kernel": ("kernel_ratio", "kernel_growth_120s"),
    "charged": ("charged_ratio", "charged_growth_30s", "charged_growth_120s"),
    "swap": ("swap_free_ratio",),
    "evictable": ("evictable_ratio",),
    "phase": ("phase", "in_phase_s"),
}


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows to learn from. `run` indexes the runs they came from."""

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    run: NDArray[np.int32]
    t_s: NDArray[np.float64]

    def of(self, is_kept: NDArray[np.bool_]) -> Examples:
        """Return the rows where `is_kept`."""
        return Examples(self.features[is_kept], self.labels[is_kept], self.run[is_kept], self.t_s[is_kept])


def rows_of(run: Run, *, hides_phase: bool = False) -> NDArray[np.float64]:
    """Return the run as series.series_rows wants it; a phase that is not one of PHASES is unknown."""
    ids = None
    if not hides_phase and any(run.phase):
        ids = np.array([PHASES.index(word) if word in PHASES else np.nan for word in run.phase], np.float64)
    return series_rows(run.columns, run.constraint, ids, run.releases_s.tolist())


def features_of(run: Run) -> NDArray[np.float32]:
    """Return float32[n, F]: the features at every sample, computed as on the device."""
    return features_of_run(rows_of(run), run.profile)


def speaks_at(run: Run) -> NDArray[np.bool_]:
    """Return where the window is long enough for the model: 10 s since run or release, three readings in 30 s."""
    third_s = np.concatenate([np.full(2, -np.inf), run.t_s])[:len(run.t_s)]
    length_s = np.minimum(run.t_s - run.start_s, seconds_since_last(run.t_s, run.releases_s))
    is_long = (length_s >= MIN_WINDOW_S) & (run.t_s - third_s <= LAST_READINGS_S)
    return np.asarray(is_long, np.bool_)


def restarted(run: Run, rng: np.random.Generator) -> Run:
    """Return the run as a guard sees it whose window begins anew now and then: after a release, or a new limit.

    Short windows are then no sign of a young run: without these rows the model had seen none at 90 % of a limit.
    """
    edges_s = run.start_s + np.cumsum(rng.uniform(*RESTARTS_S, size=int((run.end_s - run.start_s) / RESTARTS_S[0]) + 2))
    piece = np.searchsorted(edges_s, run.t_s).tolist()
    return replace(run, constraint=[f"{number} {name}" for number, name in zip(piece, run.constraint, strict=True)])


def examples_of(runs: list[Run], rows_per_run: int, rows_per_simulated_run: int, seed: int) -> Examples:
    """Return labelled rows of all runs: at most so many of each, evenly spread from a random start.

    Neighbouring samples say the same, and runs weigh the same however long they are (run_weights).
    """
    rng = np.random.default_rng(seed)
    parts = []
    for index, run in enumerate(runs):
        labels = labels_of(run)
        usable = np.flatnonzero((labels != UNLABELLED) & speaks_at(run))
        stride = max(1.0, len(usable) / (rows_per_simulated_run if run.is_simulated else rows_per_run))
        keep = usable[np.arange(rng.uniform(0.0, stride), len(usable), stride).astype(np.intp)]
        rows = features_of(run)[keep]
        if not run.is_simulated:
            is_restarted = rng.random(len(keep)) < RESTARTED_SHARE
            rows[is_restarted] = features_of(restarted(run, rng))[keep][is_restarted]
        is_known = np.isfinite(rows[:, 0])
        keep, rows = keep[is_known], rows[is_known]
        parts.append(Examples(rows, labels[keep], np.full(len(keep), index, np.int32), run.t_s[keep]))
    return Examples(*(np.concatenate([getattr(part, name) for part in parts])
                      for name in ("features", "labels", "run", "t_s")))


def hidden(rows: NDArray[np.float32], run: NDArray[np.int32], chance: float, seed: int) -> NDArray[np.float32]:
    """Return a copy in which each group of HIDEABLE is unknown in about `chance` of the runs."""
    out = rows.copy()
    for number, names in enumerate(HIDEABLE.values()):
        is_hidden = np.random.default_rng([seed, number]).random(int(run.max(initial=0)) + 1)[run] < chance
        columns = [features.NAMES.index(name) for name in names]
        out[np.flatnonzero(is_hidden)[:, None], columns] = np.nan
    return out


def left_out(rows: NDArray[np.float32], names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return a copy in which the named features are never known: a model cannot learn from them."""
    out = rows.copy()
    out[:, [features.NAMES.index(name) for name in names]] = np.nan
    return out


def run_weights(examples: Examples, runs: list[Run], simulated_share: float) -> NDArray[np.float32]:
    """Return row weights: programs weigh the same, and within a program its runs; the mean is 1.

    Of recorded runs, danger then weighs as much at each age as at any other. A lab's short run that is killed is
    dangerous from its start, and a quiet one's last 300 s have no label: without that a model that sees nothing but
    the age of a run does better than chance (evaluate/leaks.py).

    Args:
        examples: the rows.
        runs: what `examples.run` indexes.
        simulated_share: of the whole weight, what simulated runs have together (each of them the same).
    """
    rows_in_run = np.bincount(examples.run, minlength=len(runs)).astype(np.float64)
    weight = np.zeros(len(runs))
    present = [index for index in range(len(runs)) if rows_in_run[index] > 0]
    real = [index for index in present if not runs[index].is_simulated]
    programs: dict[str, list[int]] = {}
    for index in real:
        programs.setdefault(runs[index].app, []).append(index)
    simulated = [index for index in present if runs[index].is_simulated]
    share = simulated_share if real and simulated else float(not real)
    for indices in programs.values():
        weight[indices] = (1.0 - share) / len(programs) / len(indices)
    if simulated:
        weight[simulated] = share / len(simulated)
    row_weight = (weight / np.maximum(rows_in_run, 1.0))[examples.run]
    if real:
        row_weight = _balanced_by_age(row_weight, examples, runs)
    return np.asarray(row_weight / row_weight.mean(), np.float32)


def _balanced_by_age(weight: NDArray[np.float64], examples: Examples, runs: list[Run]) -> NDArray[np.float64]:
    """Return the weights with the share of danger among recorded rows the same at each age."""
    is_real = np.array([not run.is_simulated for run in runs])[examples.run]
    age_s = examples.t_s - np.array([run.start_s for run in runs])[examples.run]
    is_danger = examples.labels > 0
    share = np.average(is_danger[is_real], weights=weight[is_real])
    factor, piece = np.ones(len(weight)), np.searchsorted(AGES_S, age_s)
    for number in range(len(AGES_S) + 1):
        here = is_real & (piece == number)
        danger, all_ = weight[here & is_danger].sum(), weight[here].sum()
        if 0 < danger < all_:           # of one kind alone: there is nothing to balance
            factor[here & is_danger] = min(share * all_ / danger, MOST_FACTOR)
            factor[here & ~is_danger] = min((1.0 - share) * all_ / (all_ - danger), MOST_FACTOR)
    return weight * factor
