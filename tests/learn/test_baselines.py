"""Each baseline by numbers known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.learn.evaluate.baselines import (
    EMA_TIME_CONSTANT_S,
    all_baselines,
    earlyoom_score,
    ema_score,
    ema_slope_per_s,
    psi_share,
    slope_per_s,
    used_ratio,
)

from .made import LIMIT, killed_run, quiet_run, run_of


def by_the_book(t_s, values):
    """Return the exponentially averaged slope, step by step."""
    slope = [0.0]
    for at in range(1, len(t_s)):
        step_s = t_s[at] - t_s[at - 1]
        share = 1.0 - math.exp(-step_s / EMA_TIME_CONSTANT_S)
        slope.append(slope[-1] + share * ((values[at] - values[at - 1]) / step_s - slope[-1]))
    return slope


@given(st.lists(st.tuples(st.floats(0.05, 4000.0), st.floats(-1.0, 1.0)), min_size=1, max_size=60))
def test_the_running_sum_is_the_step_by_step_average(steps):
    """Over any gaps, within and beyond a block."""
    t_s, values = np.cumsum([step for step, _value in steps]), np.array([value for _step, value in steps])
    np.testing.assert_allclose(ema_slope_per_s(t_s, values), by_the_book(t_s, values), rtol=1e-6, atol=1e-9)


def test_an_hour_at_a_constant_slope_is_that_slope():
    """The average of one thing is that thing; long runs do not overflow."""
    t_s = np.arange(0.0, 40_000.0)
    assert ema_slope_per_s(t_s, -3.0 * t_s)[-1] == pytest.approx(-3.0)


def test_a_straight_line_has_its_slope_at_every_span():
    """Under three samples or 5 s nothing is known, then the slope is exact."""
    t_s = np.arange(0.0, 400.0)
    slope = slope_per_s(t_s, 7.0 - 2.0 * t_s, 60.0)
    assert np.isnan(slope[:5]).all()
    np.testing.assert_allclose(slope[5:], -2.0, rtol=1e-6)


def test_lines_give_the_seconds_that_are_left():
    """Half way through a straight leak of 400 s there are 200 s left, for each fit and for the average."""
    run = killed_run(400)
    for baseline in all_baselines():
        if baseline.name.startswith("linear"):
            assert baseline.score(run)[200] == pytest.approx(-200.0, rel=1e-3)
    assert ema_score(run)[200] == pytest.approx(-200.0, rel=0.01)


def test_what_stands_still_has_no_seconds_left_to_count():
    """Minus infinity: in alarm at no threshold."""
    assert np.isneginf(ema_score(quiet_run(100))).all()


def test_used_is_what_swap_cannot_take_either():
    """Headroom counts swap, so the ratio rises with it and falls when swap helps."""
    run = quiet_run(10)
    run.columns["headroom_bytes"] += 0.25 * LIMIT
    assert used_ratio(run).tolist() == [0.25] * 11


def test_pressure_is_the_share_of_the_last_two_seconds():
    """300 ms of stall in 2 s are 0.15; the first sample knows nothing."""
    run = quiet_run(10)
    run.columns["psi_some_us"] = np.cumsum(np.full(11, 150_000.0))
    share = psi_share(run)
    assert np.isnan(share[0])
    assert share[5] == pytest.approx(0.15)


def test_earlyoom_acts_when_memory_and_swap_are_both_low():
    """5 % left without swap is an alarm at its 10 %; with half the swap free it is none."""
    full = run_of(np.full(20, 0.95))
    assert (earlyoom_score(full) >= -0.10).all()
    full.columns["swap_limit_bytes"][:] = LIMIT
    full.columns["swap_free_bytes"][:] = 0.5 * LIMIT
    assert (earlyoom_score(full) < -0.10).all()


def test_every_baseline_of_the_design_is_there():
    """Also the two that anybody can win one figure with."""
    names = {baseline.name for baseline in all_baselines()}
    assert {"level threshold", "per-type threshold", "linear 30 s", "linear 60 s", "linear 120 s", "linear 300 s",
            "EMA slope", "PSI rule", "earlyoom's rule", "constant", "never"} <= names
