"""A score beside the kernel's own loop of C, near, in turn and out of memory itself; features of a recording."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from floor import LOOP, Floor
from oomguard import features
from oomguard.measure import stages
from oomguard.series import features_of_run, series_rows

FLUSHED = 1000


@pytest.fixture(scope="module")
def floor(bench, rows):
    return Floor(bench.model.forest.compiled, bench.pairs, rows.tobytes())


def test_score_from_python_beside_the_c_loop(bench, rows, floor, side_by_side, figure):
    scored, near = stages.scorers(bench), stages.NEAR
    small = Floor(bench.model.forest.compiled, bench.pairs[:near] * 4, rows[:near].tobytes() * 4)
    turns, floors, walks, near_floors = itertools.cycle(range(0, len(scored) - LOOP + 1, LOOP)), [], [], []

    def next_windows():
        at = next(turns)
        for scorer, window in scored[at:at + LOOP]:
            scorer.score(window)

    def near_windows():
        for scorer, window in held:
            scorer.score(window)
    held = scored[:near] * (LOOP // near)
    took = side_by_side({"score": next_windows, "floor": lambda: floors.extend(floor.score_us()[:8]),
                         "near first": near_windows, "near": near_windows,
                         "near floor": lambda: near_floors.append(small.score_us()[1]),
                         "walk": lambda: walks.extend(floor.walk_us()[:8])}, 400, LOOP)
    floor_us, near_floor_us = statistics.median(floors), statistics.median(near_floors)
    figure("score from Python", took["near"], "us", how="window to forecast; windows that the second-level cache holds")
    figure("score in a C loop", near_floor_us, "us", how="the same kernel and windows, no Python")
    figure("score from Python / C loop", took["near"] / near_floor_us, "x", at_most=1.2)
    figure("score from Python, 4,096 windows in turn", took["score"], "us",
           how="126 MB of windows: each out of the last cache")
    figure("score in a C loop, 4,096 windows in turn", floor_us, "us")
    figure("score in a C loop, flushed out of every cache", statistics.median(floor.cold_us(FLUSHED)), "us",
           how="window and forest by clflush before each: what memory itself costs")
    figure("forest walk in C", statistics.median(walks), "us", at_most=1.0,
           how="unknowns folded, leaves summed; 4,096 rows in turn")


def test_push_and_features_in_c(bench, side_by_side, figure):
    from oomguard.kernel import native
    from oomguard.measure import inputs

    for cadence_s in (0.1, 1.0, 10.0):
        samples = list(inputs.random_run(inputs.random.Random(1), 600, cadence_s=cadence_s))
        call = (inputs.series_rows(samples), bench.facts[0], bytearray(4 * features.COUNT * len(samples)))
        took_us = _median_us(lambda call=call: native.series(*call), 300) / len(samples)
        figure(f"push + features in C, cadence {cadence_s:g} s", took_us, "us", at_most=1.0)
    side_by_side({"series": lambda: native.series(*call)}, 10)


def test_dataset_features_per_second(benchmark, bench, figure):
    rng = np.random.default_rng(1)
    n = 100_000
    limit = np.full(n, float(1 << 28))
    headroom = limit * (0.5 + 0.4 * np.sin(np.arange(n) / 500) + rng.normal(0, 0.001, n))
    columns = {"t_s": np.arange(n, dtype=float), "limit_bytes": limit, "headroom_bytes": headroom,
               "used_bytes": limit - headroom}
    constraints, profile = ["cgroup:/app"] * n, bench.plan.profile
    benchmark.pedantic(lambda: features_of_run(series_rows(columns, constraints), profile), rounds=7, warmup_rounds=1)
    figure("features of a recording", n / benchmark.stats.stats.median / 1e6, "M samples/s", at_least=0.5,
           how="columns to feature rows, one core; reading and labelling not counted")


def _median_us(function, rounds):
    import time

    took = []
    for _ in itertools.repeat(None, rounds):
        start_ns = time.perf_counter_ns()
        function()
        took.append(time.perf_counter_ns() - start_ns)
    return statistics.median(took) / 1000
