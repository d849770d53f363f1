"""A forest file is data: what does not fit, or points outside, is refused before a walk."""

from __future__ import annotations

import struct
from math import inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard import features, forest
from oomguard.errors import BundleError
from oomguard.profile import Profile
from oomguard.scorer import Model, Scorer
from oomguard.window import Window
from test_kernel import random_trees
from windows import LIMIT_BYTES, plain_sample, window_of

OPEN = [-inf] * features.COUNT, [inf] * features.COUNT
IDENTITY: list[forest.Knots] = [()] * 5
DATA = forest.pack(random_trees(5, 3))
HEADER = 64


def both(data: bytes, low=OPEN[0], high=OPEN[1], calibration=IDENTITY) -> list[forest.Forest]:
    """Load a forest for the kernel and for the reference."""
    return [forest.Forest(data, low, high, calibration), forest.Forest(data, low, high, calibration, is_reference=True)]


def altered(at: int, raw: bytes) -> bytes:
    """Return the forest file with some bytes replaced."""
    return DATA[:at] + raw + DATA[at + len(raw):]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OOMGFOR1",
        DATA[:-1],
        DATA + b"\0",
        altered(0, b"X"),
        altered(8, b"\x07"),
        altered(12, b"\x01\x02\x03\x04"),
        altered(16, struct.pack("=I", 7)),
        altered(16, struct.pack("=I", 0)),
        altered(20, struct.pack("=I", 11)),
        altered(20, struct.pack("=I", 0)),
        altered(24, struct.pack("=I", 5)),
        altered(28, struct.pack("=I", 3)),
        altered(32, struct.pack("=I", 2)),
        altered(36, struct.pack("=I", 9)),
        altered(40, struct.pack("=d", nan)),
        altered(HEADER, struct.pack("=d", inf)),
        altered(HEADER + 48, struct.pack("=I", 6)),
        altered(HEADER + 48 + 4 * 24, struct.pack("=f", nan)),
        altered(HEADER + 48 + 4 * 24 + 4, struct.pack("=I", 2 * features.COUNT)),
        altered(len(DATA) - 4, struct.pack("=f", inf)),
    ],
)
def test_whatever_does_not_fit_is_refused_by_both(data: bytes) -> None:
    """Kernel and reference refuse the same files."""
    for is_reference in (False, True):
        with pytest.raises(BundleError):
            forest.Forest(data, *OPEN, IDENTITY, is_reference=is_reference)


@given(at=st.integers(0, len(DATA) - 1), raw=st.binary(min_size=1, max_size=16))
def test_flipped_bytes_are_refused_or_still_safe(at: int, raw: bytes) -> None:
    """A tampered file is refused, or gives finite numbers within 0…1: never a read out of bounds."""
    data = altered(at, raw)[:len(DATA)]
    try:
        fast, slow = both(data)
    except BundleError:
        return
    window, facts = window_of([LIMIT_BYTES / 2 - i for i in range(60)]), features.statics(Profile())
    assert repr(fast.score(window.buffer, facts)) == repr(slow.score(window.buffer, facts))


def test_pack_and_unpack_are_inverse() -> None:
    """Nothing is lost, and padding trees say nothing."""
    trees = random_trees(9, 4, count=11)
    back = forest.unpack(forest.pack(trees))
    assert list(back.thresholds)[:len(trees.thresholds)] == list(trees.thresholds)
    assert list(back.leaves)[:len(trees.leaves)] == list(trees.leaves)
    row = [0.1] * features.COUNT
    assert forest.reference_margins(back, row) == forest.reference_margins(trees, row)


@pytest.mark.parametrize("calibration", [
    [()] * 4, [((0.5, 0.5), (0.5, 0.6))] * 5, [((0.1, 0.9), (0.2, 0.1))] * 5, [((-0.1, 0.0),)] * 5, [((0.0, 1.1),)] * 5,
    [tuple((i / 20, i / 20) for i in range(17))] * 5])
def test_bad_calibration_is_refused(calibration) -> None:
    """Knots rise, lie within 0…1, are at most 16, one curve per horizon."""
    with pytest.raises(BundleError, match="calibration"):
        forest.Forest(DATA, *OPEN, calibration)


def test_forecast_never_falls_with_the_horizon() -> None:
    """p60 ≤ p120 ≤ … ≤ p300, whatever the calibration curves say."""
    curves: list[forest.Knots] = [((0.0, 0.5), (1.0, 1.0)), ((0.0, 0.0), (1.0, 0.2)), (), ((0.0, 0.3), (1.0, 0.3)), ()]
    window, facts = window_of([LIMIT_BYTES / 2 - i * 1e5 for i in range(60)]), features.statics(Profile())
    for model in both(DATA, calibration=curves):
        forecast = model.score(window.buffer, facts)
        assert forecast is not None
        assert list(forecast) == sorted(forecast)


def test_abstains_on_short_and_gappy_windows() -> None:
    """The model speaks from 5 s of window on, with three readings in the last 30 s; not before, not after a gap."""
    facts = features.statics(Profile())
    long, short = window_of([1e8] * 6), window_of([1e8] * 5)
    slow = window_of([1e8] * 4, cadence_s=10.0)
    gappy = window_of([1e8] * 31)
    gappy.push(plain_sample(75.0, 1e8))
    for model in both(DATA):
        assert model.score(long.buffer, facts) is not None
        assert model.score(slow.buffer, facts) is not None
        assert model.score(short.buffer, facts) is None
        assert model.score(gappy.buffer, facts) is None
        assert model.score(Window.in_memory().buffer, facts) is None
    assert forest.abstention(long.buffer) == ""
    assert "4 s" in forest.abstention(short.buffer)
    assert "three" in forest.abstention(gappy.buffer)


def test_abstains_outside_the_trained_ranges_and_names_the_feature() -> None:
    """A feature beyond its range silences the model; an unknown one does not."""
    at = features.NAMES.index("headroom_ratio")
    low, high = list(OPEN[0]), list(OPEN[1])
    high[at] = 0.3
    window, facts = window_of([LIMIT_BYTES / 2] * 40), features.statics(Profile())
    for model in both(DATA, low, high):
        assert model.score(window.buffer, facts) is None
        scorer = Scorer(Model("m", "", model, (0.5,) * 5, 0.9, {}), Profile())
        assert "headroom_ratio" in scorer.abstains_because(window)
    at = features.NAMES.index("cores")
    low = list(OPEN[0])
    low[at] = 1.0
    assert all(model.score(window.buffer, facts) is not None for model in both(DATA, low))
    assert isnan(facts[2])


def test_without_a_model_nobody_speaks() -> None:
    """A scorer without a model abstains and says so."""
    scorer = Scorer(None, Profile())
    assert scorer.score(window_of([1.0] * 60)) is None
    assert scorer.abstains_because(window_of([1.0])) == "no model"
