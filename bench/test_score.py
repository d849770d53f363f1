"""A score beside the kernel's own loop of C, and beside the peers' calls for one row on the same model."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from floor import Floor
from oomguard import features, forest
from oomguard.measure import stages
from oomguard.series import features_of_run, series_rows
from oomguard.trust.bundle import load_shipped
from peers import booster_of


@pytest.fixture(scope="module")
def rows(bench):
    """float32[512, F]: the features of every window."""
    return np.array([features.of(*pair) for pair in bench.pairs], dtype=np.float32)


@pytest.fixture(scope="module")
def floor(bench, rows):
    return Floor(bench.model.forest.compiled, bench.pairs, rows.tobytes())


@pytest.fixture(scope="module")
def booster():
    """The shipped trees as an xgboost model."""
    return booster_of(forest.unpack(load_shipped().forest))


def test_score_from_python_beside_the_c_loop(bench, floor, side_by_side, figure):
    held, floors, walks = [(scorer.score, window) for scorer, window in stages.scorers(bench)], [], []

    def all_windows():
        for score, window in held:
            score(window)
    took = side_by_side({"score": all_windows, "floor": lambda: floors.append(floor.score_us()),
                         "walk": lambda: walks.append(floor.walk_us())}, 200, len(held))
    floor_us = statistics.median(floors)
    figure("score from Python", took["score"], "us", how="window to forecast, 512 windows in turn, p50 of rounds")
    figure("score in a C loop", floor_us, "us", how="the same kernel and windows, no Python")
    figure("score from Python / C loop", took["score"] / floor_us, "x", at_most=1.2)
    figure("forest walk in C", statistics.median(walks), "us", at_most=1.0,
           how="unknowns folded, leaves summed; 512 rows")


def test_push_and_features_in_c(bench, side_by_side, figure):
    from oomguard.kernel import native
    from oomguard.measure import inputs

    for cadence_s in (0.1, 1.0, 10.0):
        samples = list(inputs.random_run(inputs.random.Random(1), 3000, cadence_s=cadence_s))
        call = (inputs.series_rows(samples), bench.facts[0], bytearray(4 * features.COUNT * len(samples)))
        took_us = _median_us(lambda call=call: native.series(*call), 60) / len(samples)
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


def test_one_row_beside_the_peers(bench, booster, rows, side_by_side, figure):
    treelite = pytest.importorskip("treelite")
    imported = treelite.frontend.from_xgboost(booster)
    one = [np.ascontiguousarray(row[None, :]) for row in rows[:128]]
    told = _forecasts(booster.inplace_predict(rows))
    everywhere = [-np.inf] * features.COUNT, [np.inf] * features.COUNT
    uncalibrated = forest.Forest(load_shipped().forest, *everywhere, ((),) * 5)
    ours = np.array([uncalibrated.score(*pair) for pair in bench.pairs])
    assert np.allclose(told, ours, atol=1e-5)       # it is the same model
    held = stages.scorers(bench)[:128]

    def each(function, arguments):
        return lambda: [function(argument) for argument in arguments]
    took = side_by_side({
        "oomguard": lambda: [scorer.score(window) for scorer, window in held],
        "xgboost inplace_predict": each(booster.inplace_predict, one),
        "treelite GTIL": each(lambda row: treelite.gtil.predict(imported, row, nthread=1), one)}, 15, 128)
    for name in ("xgboost inplace_predict", "treelite GTIL"):
        figure(f"{name}, one row from Python", took[name], "us", how="its features not counted, ours are")
        figure(f"{name} / score from Python", took[name] / took["oomguard"], "x", at_least=5)
    loops = side_by_side_loops(booster, treelite, imported, rows)
    for name, took_us in loops.items():
        figure(f"{name}, its own loop", took_us, "us", how="512 rows in one call, one thread, per row")


def side_by_side_loops(booster, treelite, imported, rows):
    return {"xgboost": _median_us(lambda: booster.inplace_predict(rows), 30) / len(rows),
            "treelite GTIL": _median_us(lambda: treelite.gtil.predict(imported, rows, nthread=1), 30) / len(rows)}


def _forecasts(classes):
    return np.minimum(np.cumsum(classes[:, :0:-1].astype(np.float64), axis=1), 1.0)


def _median_us(function, rounds):
    import time

    took = []
    for _ in itertools.repeat(None, rounds):
        start_ns = time.perf_counter_ns()
        function()
        took.append(time.perf_counter_ns() - start_ns)
    return statistics.median(took) / 1000
