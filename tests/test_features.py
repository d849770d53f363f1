"""The feature table says what its rows say, on windows whose answers are known by hand."""

from __future__ import annotations

from math import isnan, nan

import pytest

from oomguard import features
from oomguard.profile import Profile
from oomguard.window import Window
from windows import LIMIT_BYTES, plain_sample, window_of


def named(window: Window, profile: Profile | None = None) -> dict[str, float]:
    """Return the features of a window by name."""
    return dict(zip(features.NAMES, features.of(window.buffer, features.statics(profile or Profile())), strict=True))


def test_a_straight_leak_is_read_off_exactly() -> None:
    """A leak of 1 % of the limit per second has that slope on every span, no spread, and the time that is left."""
    step = LIMIT_BYTES / 100
    found = named(window_of([LIMIT_BYTES - i * step for i in range(61)]))
    for span in (5, 10, 30, 60):
        assert found[f"slope_{span}s"] == pytest.approx(-0.01, rel=1e-5)
        assert found[f"straight_line_{span}s"] == pytest.approx(40, rel=1e-4)
        assert found[f"spread_{span}s"] == pytest.approx(0, abs=1e-6)
        assert found[f"below_high_{span}s"] == pytest.approx(span / 100, rel=1e-5)
    assert found["headroom_ratio"] == pytest.approx(0.4)
    assert found["acceleration_10s_60s"] == pytest.approx(0, abs=1e-7)


def test_a_flat_line_reaches_no_limit() -> None:
    """Without growth the straight line ends at the cap: not in sight."""
    found = named(window_of([LIMIT_BYTES / 2] * 100))
    assert found["straight_line_60s"] == features.FAR_S
    assert found["slope_60s"] == 0


@pytest.mark.parametrize("cadence_s", [0.1, 0.5, 1.0, 2.5])
def test_features_are_of_time_not_of_counts(cadence_s: float) -> None:
    """The same leak read at another cadence gives the same slope and time."""
    count = int(120 / cadence_s) + 1
    found = named(window_of([LIMIT_BYTES * (1 - 0.002 * i * cadence_s) for i in range(count)], cadence_s))
    assert found["slope_60s"] == pytest.approx(-0.002, rel=1e-3)
    assert found["straight_line_60s"] == pytest.approx(380, rel=0.01)


def test_features_are_scale_free() -> None:
    """The same shape under a limit 64 times as large has the same features, but for the limit's own logarithm."""
    shape = [0.9 - 0.001 * i - (0.05 if i % 20 < 3 else 0) for i in range(200)]
    small = named(window_of([x * LIMIT_BYTES for x in shape]))
    large = named(window_of([x * LIMIT_BYTES * 64 for x in shape], limit_bytes=LIMIT_BYTES * 64))
    different = {name for name in features.NAMES
                 if small[name] != pytest.approx(large[name], rel=1e-4, abs=1e-7, nan_ok=True)}
    assert different == {"log2_limit"}


def test_one_sample_knows_levels_but_no_slopes() -> None:
    """A span with fewer than two blocks is unknown, not zero."""
    found = named(window_of([LIMIT_BYTES / 4]))
    assert found["headroom_ratio"] == pytest.approx(0.25)
    assert isnan(found["slope_5s"])
    assert isnan(found["below_high_300s"])


def test_a_change_of_constraint_cuts_the_spans() -> None:
    """A sibling fills the parent: the fall of the parent's headroom is seen without the old constraint's numbers."""
    window = window_of([LIMIT_BYTES] * 100)
    for i in range(11):
        window.push(plain_sample(100.0 + i, 1e8 - i * 1e6, 2e8)._replace(constraint="cgroup:/parent"))
    found = named(window)
    assert found["slope_300s"] == found["slope_10s"] == pytest.approx(-1e6 / 2e8, rel=1e-4)


def test_counters_are_rates_and_a_reset_is_unknown() -> None:
    """PSI and faults are differences of the kernel's counters; a counter that fell says nothing."""
    window = Window.in_memory()
    for i in range(61):
        window.push(plain_sample(float(i), 1e8, psi_some_us=i * 1e5, refaults=i * 10.0, major_faults=100.0 - i))
    found = named(window)
    assert found["psi_some_10s"] == pytest.approx(0.1)
    assert found["refaults_60s"] == pytest.approx(10 * 4096 / LIMIT_BYTES, rel=1e-5)
    assert isnan(found["major_faults_10s"])
    assert isnan(found["psi_full_10s"])


def test_time_since_release_and_in_phase() -> None:
    """Both are seconds since what the window was told, capped; unknown where it was told nothing."""
    window = Window.in_memory(phases={"browse": 0, "playback": 1})
    assert window.push(plain_sample(0.0, 1e8, phase="browse"))
    for i in range(1, 20):
        window.push(plain_sample(float(i), 1e8, phase="playback" if i > 5 else "browse"))
    assert isnan(named(window)["since_release_s"])
    window.released(12.0)
    found = named(window)
    assert (found["since_release_s"], found["phase"], found["in_phase_s"]) == (7.0, 1.0, 13.0)
    window.push(plain_sample(20.0, 1e8, phase="never heard of"))
    assert isnan(named(window)["in_phase_s"])


def test_the_apps_own_bound_is_seen_coming() -> None:
    """A cache that stops by design: the room under its own cap, and when the line gets there."""
    window = window_of([LIMIT_BYTES * (0.5 - 0.001 * i) for i in range(101)])
    found = named(window, Profile(
        cache_capacity_bytes=0.7 * LIMIT_BYTES, heap_limit_bytes=0.9 * LIMIT_BYTES, bound_kind="evicts"))
    assert found["bound_room_ratio"] == pytest.approx(0.1, rel=1e-4)
    assert found["straight_line_to_bound_s"] == pytest.approx(100, rel=1e-3)
    assert (found["heap_limit_ratio"], found["bound_kind"]) == (pytest.approx(0.9), 0.0)


def test_unknown_facts_stay_unknown() -> None:
    """A profile that knows nothing gives NaN, never a default that looks like a fact."""
    found = named(window_of([1e8] * 5))
    for name in ("log2_ram", "cores", "swap_to_ram", "cache_capacity_ratio", "bound_kind", "bound_room_ratio",
                 "available_ratio"):
        assert isnan(found[name]), name


def test_absurd_facts_are_unknown() -> None:
    """Zero, negative or infinite RAM is no RAM."""
    for ram in (0.0, -1.0, float("inf"), nan):
        assert isnan(features.statics(Profile(ram_bytes=ram))[0])


def test_table_is_whole_and_its_hash_names_it() -> None:
    """Names are unique, every row has a formula, and the hash is stable within a version."""
    assert len(set(features.NAMES)) == features.COUNT == len(features.TABLE)
    assert all(row.unit and row.formula for row in features.TABLE)
    assert features.table_hash() == features.table_hash()


def test_empty_window_is_an_error() -> None:
    """There is nothing to say about no samples."""
    with pytest.raises(ValueError, match="empty"):
        features.of(Window.in_memory().buffer, features.statics(Profile()))
    with pytest.raises(ValueError, match="empty"):
        features.reference_of(Window.in_memory().buffer, features.statics(Profile()))


def test_no_span_reaches_behind_a_release() -> None:
    """What came before a release is not looked at, by the reference and by the kernel; what comes after is."""
    window, facts = Window.in_memory(), features.statics(Profile())
    for t in range(100):
        window.push(plain_sample(float(t), 1e8 - 5e5 * t))
    falling = dict(zip(features.NAMES, features.of(window.buffer, facts), strict=True))
    window.released(99.0)
    for t in range(100, 120):
        window.push(plain_sample(float(t), 9e7))
    for compute in (features.of, features.reference_of):
        row = dict(zip(features.NAMES, compute(window.buffer, facts), strict=True))
        assert falling["slope_60s"] < 0 and row["slope_60s"] == 0 and row["below_high_300s"] == 0
    assert features.reach(window.buffer)[0] == 19.0
