"""The kernel gives the same bits as the readable references, on whatever a device may show."""

from __future__ import annotations

import random
import re
from array import array
from pathlib import Path

import pytest

from oomguard import features, forest, ring
from oomguard.forecast import Forecast
from oomguard.ring import reference_push
from oomguard.window import Window
from windows import plain_sample, random_facts, random_run

_kernel = pytest.importorskip("oomguard._kernel", reason="installed without a C compiler")
SOURCE = (Path(features.__file__).parent / "_kernel.c").read_text()


def random_trees(seed: int, depth: int, leaf_size: int = 1, count: int = 24) -> forest.Trees:
    """Return a forest with random splits and leaves."""
    rng, inner = random.Random(seed), (1 << depth) - 1
    return forest.Trees(
        depth,
        leaf_size,
        rng.choice(forest.TRANSFORMS) if leaf_size > 1 else "softmax",
        rng.choice([1.0, 0.5]),
        [rng.gauss(0, 1) for _ in range(6)],
        [rng.randrange(6) for _ in range(count)],
        array("f", [rng.choice([rng.gauss(0.2, 0.3), 0.0, 3600.0, rng.random() * 1e-3]) for _ in range(count * inner)]),
        [rng.randrange(2 * features.COUNT) for _ in range(count * inner)],
        array("f", [rng.random() / 40 for _ in range(count * (inner + 1) * leaf_size)]),
    )


@pytest.mark.parametrize("seed", range(40))
def test_push_and_features_are_the_same_bits(seed: int) -> None:
    """After every sample both windows are the same bytes, and both give the same features."""
    fast, slow, facts = Window.in_memory(), Window.in_memory(), random_facts(random.Random(seed))
    out = array("f", bytes(4 * features.COUNT))
    for i, (sample, segment, phase_id) in enumerate(random_run(seed, (5, 60, 700)[seed % 3])):
        is_taken = reference_push(slow.buffer, sample, segment, phase_id)
        assert _kernel.push(fast.buffer, sample, segment, phase_id) == is_taken
        assert bytes(fast.buffer) == bytes(slow.buffer)
        if i % 50 == 49:
            fast.released(sample.t_s)
            slow.released(sample.t_s)
        if i % 17 == 0 and len(fast):
            _kernel.features(fast.buffer, facts, out)
            assert out.tobytes() == features.reference_of(slow.buffer, facts).tobytes(), sample


@pytest.mark.parametrize("edge_s", [5, 10, 30, 60, 120, 300])
@pytest.mark.parametrize("nudge_s", [-0.001, 0.0, 0.001])
def test_span_edges_are_the_same_bits(edge_s: int, nudge_s: float) -> None:
    """A block exactly at the edge of a span, or a millisecond to either side, falls in the same span on both sides."""
    facts, out = random_facts(random.Random(edge_s)), array("f", bytes(4 * features.COUNT))
    fast = Window.in_memory()
    for t_s in (0.0, 0.4, 1.0, edge_s + nudge_s):
        _kernel.push(fast.buffer, next(random_run(edge_s, 1))[0]._replace(t_s=t_s), 1, 0.0)
    _kernel.features(fast.buffer, facts, out)
    assert out.tobytes() == features.reference_of(fast.buffer, facts).tobytes()
    within = dict(zip(features.NAMES, out, strict=True))[f"above_low_{edge_s}s"]
    assert within == within


@pytest.mark.parametrize("leaf_size", [1, 6])
@pytest.mark.parametrize("depth", range(1, 11))
def test_walk_is_the_same_bits_at_every_depth(depth: int, leaf_size: int) -> None:
    """Summed leaves and forecasts agree to the bit for known, unknown, infinite and exactly-at-threshold features."""
    trees = random_trees(depth, depth, leaf_size, count=11)
    data, rng = forest.pack(trees), random.Random(depth)
    knots = ((0.0, 0.0), (0.3, 0.45), (1.0, 0.99))
    bounds = [-float("inf")] * features.COUNT, [float("inf")] * features.COUNT
    fast, slow = forest.Forest(data, *bounds, [knots] * 5), forest.Forest(data, *bounds, [knots] * 5, is_reference=True)
    unpacked = forest.unpack(data)
    special = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, *trees.thresholds[:20]]
    rows = [array("f", [rng.choice(special) if rng.random() < 0.4 else rng.gauss(0.2, 0.4)
                        for _ in range(features.COUNT)]) for _ in range(40)]
    out = array("d", bytes(8 * 6 * len(rows)))
    assert fast.compiled is not None
    fast.compiled.margins(b"".join(row.tobytes() for row in rows), out)
    for i, row in enumerate(rows):
        assert forest.reference_margins(unpacked, row) == list(out[6 * i:6 * i + 6])
    window, facts = Window.in_memory(), random_facts(rng)
    for sample, segment, phase_id in random_run(depth, 120):
        t_s = window.last_t_s + 1 if len(window) else 0.0
        _kernel.push(window.buffer, sample._replace(t_s=t_s), min(segment, 1), phase_id)
    assert fast.score(window.buffer, facts) == slow.score(window.buffer, facts)
    assert fast.score(window.buffer, facts) is not None


@pytest.mark.parametrize("classes", [[5] * 24, [*range(6)] * 4, [3] * 9 + [1] * 15], ids=["one", "in turn", "two"])
def test_walk_is_the_same_bits_however_the_classes_lie(classes: list[int]) -> None:
    """Trees of one class, of all in turn, of two that share a group of eight: each sum keeps the file's order."""
    trees = random_trees(7, 3)._replace(tree_class=classes)
    bounds = [-float("inf")] * features.COUNT, [float("inf")] * features.COUNT
    rng, out = random.Random(7), array("d", bytes(8 * 6))
    fast = forest.Forest(forest.pack(trees), *bounds, [()] * 5).compiled
    assert fast is not None
    for _ in range(40):
        row = array("f", [rng.gauss(0.2, 0.4) for _ in range(features.COUNT)])
        fast.margins(row, out)
        assert forest.reference_margins(trees, row) == list(out)


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_bound_forest_says_what_single_calls_say(is_kept: bool) -> None:
    """Each forecast is the window's as it is now; one that the caller kept stays as it was."""
    bounds = [-float("inf")] * features.COUNT, [float("inf")] * features.COUNT
    model = forest.Forest(forest.pack(random_trees(2, 4)), *bounds, [()] * 5).compiled
    window, facts = Window.in_memory(), random_facts(random.Random(2))
    assert model is not None
    bound, kept, expected = model.bind(window.buffer, facts, Forecast), [], []
    for second in range(100):
        window.push(plain_sample(float(second), 1e8 + second * 1e6))
        forecast, alone = bound.score(), model.score(window.buffer, facts)
        assert forecast == alone
        assert forecast is None or isinstance(forecast, Forecast)
        if is_kept:
            kept.append(forecast)
            expected.append(alone)
    assert kept == expected
    bound.release()


def test_batch_and_series_say_what_single_calls_say() -> None:
    """N windows in one call, and a whole run in one call, give what one score after the other gives."""
    np = pytest.importorskip("numpy")
    from oomguard.profile import Profile
    from oomguard.series import NUMBERS, features_of_run, forecasts_of_run, series_rows

    run = [sample for sample, _, _ in random_run(3, 400)]
    columns = {name: np.array([getattr(sample, name) for sample in run], dtype=np.float64) for name in NUMBERS}
    rows = series_rows(columns, [sample.constraint for sample in run])
    window, profile = Window.in_memory(), Profile(ram_bytes=2e9, cores=2)
    bounds = [-float("inf")] * features.COUNT, [float("inf")] * features.COUNT
    model, facts = forest.Forest(forest.pack(random_trees(1, 4)), *bounds, [()] * 5), features.statics(profile)
    table, forecasts = features_of_run(rows, profile), forecasts_of_run(rows, profile, model)
    for i, sample in enumerate(run):
        if not window.push(sample):
            assert np.isnan(table[i]).all()
            continue
        assert table[i].tobytes() == features.of(window.buffer, facts).tobytes()
        single = model.score(window.buffer, facts)
        assert np.isnan(forecasts[i]).all() if single is None else tuple(forecasts[i]) == single
    out = np.empty((3, 5))
    assert model.compiled is not None
    model.compiled.score_batch([window.buffer, Window.in_memory().buffer, window.buffer], [facts] * 3, out)
    assert tuple(out[0]) == tuple(out[2]) == model.score(window.buffer, facts)
    assert np.isnan(out[1]).all()


def test_layout_constants_agree() -> None:
    """The numbers that stand in both _kernel.c and Python are the same."""
    def number(name: str) -> int:
        found = re.search(rf"\b{name} = (\d+)", SOURCE)
        assert found is not None, name
        return int(found[1])

    assert _kernel.WINDOW_BYTES == ring.WINDOW_BYTES <= 32 * 1024
    assert _kernel.FEATURES == features.COUNT
    assert (number("CAPACITY"), number("HEADER_BYTES")) == (ring.CAPACITY, ring.HEADER_BYTES)
    for name in ("MAX_DEPTH", "MAX_TREES", "MAX_KNOTS", "TOGETHER"):
        assert number(name) == getattr(forest, name)
    assert f"SPAN_S[SPANS] = {{{', '.join(map(str, features.SPANS_S))}}}" in SOURCE


@pytest.mark.parametrize(
    "call",
    [
        lambda: _kernel.push(b"short", (), 0, 0.0),
        lambda: _kernel.push(Window.in_memory().buffer, (1.0,) * 3, 0, 0.0),
        lambda: _kernel.features(bytes(ring.WINDOW_BYTES), b"", bytearray(4 * features.COUNT)),
        _kernel.features,
        lambda: _kernel.series(b"123", b"", b""),
        lambda: _kernel.Forest(b"", b"", b"", b""),
        lambda: _kernel.features(
            Window.in_memory().buffer, features.statics(random_profile_of_one()), bytearray(4 * features.COUNT)
        ),
    ],
)
def test_wrong_arguments_raise(call) -> None:
    """A buffer of the wrong size, an empty window, a missing argument: an exception, never a read out of bounds."""
    with pytest.raises((TypeError, ValueError, BufferError)):
        call()


def random_profile_of_one():
    """Return the default profile."""
    from oomguard.profile import Profile
    return Profile()
