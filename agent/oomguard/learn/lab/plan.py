"""Which runs the lab does: drawn from a catalogue and a seed, the same ones every time.

A run's curve is one of simulate/shapes.py: a leak must reach its limit within the planned time, a quiet one must not.
Whether it is killed is then the kernel's affair, not ours. Run lengths of both kinds are drawn from the same range,
and start-up looks alike, so that age tells nothing of the outcome.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from oomguard.learn.lab.program import driver_of
from oomguard.learn.simulate.shapes import LEAKS, LOADING, QUIET, Shape, flat

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from oomguard.learn.lab.catalogue import Catalogue, DeviceType, Entry

CURVE_STEP_S = 1.0
TRIES = 400
KILL_WITHIN = (0.15, 0.95)          # of the planned time: when a leak's curve crosses the limit
RECORDS_CADENCE_S = ((1.0, 0.62), (0.5, 0.25), (0.2, 0.08), (0.1, 0.05))
FAST_CADENCE_MOST_S = 900.0         # how long a run at less than 0.5 s may last: rows cost space


class RunPlan(NamedTuple):
    """One run; plain JSON but for the curve, which follows from it."""

    run_id: str
    program: str
    kind: str               # leak | bounded | quiet | still
    shape: str
    device_type: str
    limit_bytes: int
    swap: str               # none | file | zram
    swap_bytes: int         # what the target may put there
    cadence_s: float
    planned_s: float
    bound_bytes: float      # NaN: none
    is_bound_told: bool     # whether the recording may know it
    is_phase_told: bool
    loading_until_s: float
    has_neighbour: bool     # a sibling shares a parent whose limit binds
    churn_bytes_per_s: float
    seed: int


def draw_runs(catalogue: Catalogue) -> list[RunPlan]:
    """Return every run of the catalogue, in the order in which to start them: the long ones first."""
    runs = [_draw(catalogue, entry, kind, number)
            for entry in catalogue.programs
            for kind, count in (("leak", entry.leaks), ("bounded", entry.bounded), ("quiet", entry.quiet))
            for number in range(count)]
    return sorted(runs, key=lambda run: (-run.planned_s, run.run_id))


def curve_of(plan: RunPlan) -> NDArray[np.float64]:
    """Return what the run is to be charged, in bytes, every CURVE_STEP_S."""
    shape = _shape_of(plan.kind, plan.planned_s, np.random.default_rng(plan.seed), plan.program)
    return shape.curve * (plan.limit_bytes + plan.swap_bytes)


def _draw(catalogue: Catalogue, entry: Entry, kind: str, number: int) -> RunPlan:
    run_id = "-".join(word for word in (entry.program, kind, catalogue.tag, f"{number:02d}") if word)
    rng = np.random.default_rng([catalogue.seed, *run_id.encode()])
    device = _device(catalogue, entry, rng)
    limit_bytes = max(_limit_bytes(device, rng), entry.least_limit_bytes)
    seed = int(rng.integers(2**31))
    planned_s = _planned_s(catalogue, min(entry.longest_s, device.longest_s), rng)
    if kind == "quiet" and catalogue.still_share and rng.random() < catalogue.still_share:
        kind = "still"
    shape = _shape_of(kind, planned_s, np.random.default_rng(seed), entry.program)
    swap_bytes = int(limit_bytes * rng.uniform(0.1, 0.6)) if device.swap != "none" else 0
    bound_bytes = _bound_bytes(entry, kind, limit_bytes, shape, rng)
    loading_s = _loading_until_s(shape, kind, rng)
    cadence_s = float(rng.choice([c for c, _share in RECORDS_CADENCE_S], p=[s for _cadence, s in RECORDS_CADENCE_S]))
    if planned_s > FAST_CADENCE_MOST_S:
        cadence_s = max(cadence_s, 1.0 if planned_s > 2 * FAST_CADENCE_MOST_S else 0.5)
    return RunPlan(
        run_id=run_id, program=entry.program, kind=kind, shape=shape.kind, device_type=device.name,
        limit_bytes=limit_bytes, swap=device.swap, swap_bytes=swap_bytes, cadence_s=cadence_s, planned_s=planned_s,
        bound_bytes=bound_bytes, is_bound_told=bool(rng.random() < 0.5), is_phase_told=bool(rng.random() < 0.5),
        loading_until_s=loading_s, has_neighbour=kind != "bounded" and bool(rng.random() < entry.neighbour_share),
        churn_bytes_per_s=float(entry.churn_per_s * limit_bytes * rng.uniform(0.2, 1.0)) if rng.random() < 0.5 else 0.0,
        seed=seed)


def _device(catalogue: Catalogue, entry: Entry, rng: Generator) -> DeviceType:
    """Return a device that has room for the program."""
    fitting = [device for device in catalogue.device_types if device.most_bytes >= 1.2 * entry.least_limit_bytes]
    share = np.array([device.share for device in fitting])
    return fitting[int(rng.choice(len(fitting), p=share / share.sum()))]


def _limit_bytes(device: DeviceType, rng: Generator) -> int:
    exact = math.exp(rng.uniform(math.log(device.least_bytes), math.log(device.most_bytes)))
    return int(exact) // 4096 * 4096


def _planned_s(catalogue: Catalogue, longest_s: float, rng: Generator) -> float:
    low, high = catalogue.planned_s
    return round(math.exp(rng.uniform(math.log(low), math.log(min(high, longest_s)))))


def _shape_of(kind: str, planned_s: float, rng: Generator, program: str) -> Shape:
    """Return a curve over limit; a bounded run begins as a leak does, and its own bound stops it."""
    t = np.arange(0.0, planned_s + CURVE_STEP_S, CURVE_STEP_S)
    wants_leak = kind == "leak" or (kind == "bounded" and driver_of(program).bound_kind != "aborts")
    shapes = (flat,) if kind == "still" else LEAKS if wants_leak else QUIET
    wished = shapes[int(rng.integers(len(shapes)))]     # once: what crosses easily must not crowd out the rest
    low, high = (share * planned_s for share in KILL_WITHIN)
    for _try in range(TRIES):
        shape = wished(t, rng)
        above = np.flatnonzero(shape.curve >= 1.0)
        crosses_s = float(t[above[0]]) if len(above) else math.inf
        if shape.releases or (crosses_s < math.inf) != wants_leak:
            continue
        if not wants_leak or low <= crosses_s <= high:
            return shape
    ratio = 0.1 + 0.9 * t / (0.8 * planned_s) if wants_leak else np.full(len(t), 0.5)
    return Shape("straight" if wants_leak else "flat", ratio)


def _bound_bytes(entry: Entry, kind: str, limit_bytes: int, shape: Shape, rng: Generator) -> float:
    if kind != "bounded":
        return math.nan
    driver = driver_of(entry.program)
    if not driver.bound_kind:
        return math.nan
    room_bytes = max(limit_bytes - driver.base_bytes, 0.25 * limit_bytes)
    if driver.bound_kind == "aborts":       # the heap's cap: garbage grows up to it, live data stays below
        return float(max(room_bytes * rng.uniform(0.6, 0.9), float(shape.curve.max()) * limit_bytes))
    return float(room_bytes * rng.uniform(0.4, 0.92) / driver.charge_ratio)


def _loading_until_s(shape: Shape, kind: str, rng: Generator) -> float:
    """Return when the app would say that it has loaded: growth before is by design, growth after is not."""
    start_s = float(rng.uniform(3.0, 20.0))
    if kind == "quiet" and shape.kind in LOADING:
        reached = np.flatnonzero(shape.curve >= 0.98 * shape.curve.max())
        return max(start_s, float(reached[0]) * CURVE_STEP_S)
    return start_s
