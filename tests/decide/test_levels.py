"""The level by forecast and by plain headroom."""

from __future__ import annotations

import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.decide.levels import BACK_RATIO, KEPT_S, kept_level, level_of
from oomguard.decide.plan import STATE_SLOTS
from oomguard.forecast import Forecast

NAN = float("nan")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)          # of p300, p240, p180, p120, p60
PLAIN = (0.30, 0.20, 0.15, 0.10, 0.05)


@pytest.mark.parametrize(("forecast", "level"), [
    (Forecast(0.0, 0.0, 0.0, 0.0, 0.0), 0),
    (Forecast(0.0, 0.0, 0.0, 0.0, 0.0999), 0),
    (Forecast(0.0, 0.0, 0.0, 0.0, 0.1), 1),
    (Forecast(0.0, 0.0, 0.0, 0.2, 0.2), 2),
    (Forecast(0.0, 0.0, 0.3, 0.3, 0.3), 3),
    (Forecast(0.0, 0.4, 0.4, 0.4, 0.4), 4),
    (Forecast(0.5, 0.5, 0.5, 0.5, 0.5), 5),
    (Forecast(0.49, 0.49, 0.49, 0.49, 0.49), 4),
])
def test_the_level_is_the_highest_horizon_whose_threshold_is_reached(forecast, level):
    """Each level compares its own horizon with its own threshold; equal counts; headroom plays no part."""
    assert level_of(forecast, THRESHOLDS, 0.0, PLAIN) == level


def test_a_higher_level_does_not_need_the_lower_ones():
    """With a sharp threshold for 60 s and blunt ones for the rest, level 5 holds alone."""
    assert level_of(Forecast(0.2, 0.2, 0.2, 0.2, 0.2), (0.9, 0.9, 0.9, 0.9, 0.1), 1.0, PLAIN) == 5


@pytest.mark.parametrize(("headroom_ratio", "level"), [
    (1.0, 0), (0.3001, 0), (0.30, 1), (0.25, 1), (0.20, 2), (0.15, 3), (0.10, 4), (0.05, 5), (0.0, 5),
    (-0.1, 5), (NAN, 0), (float("inf"), 0)])
def test_plain_levels_follow_headroom_when_there_is_no_forecast(headroom_ratio, level):
    """Levels 1 to 5 begin exactly at their shares; unknown headroom is level 0."""
    assert level_of(None, THRESHOLDS, headroom_ratio, PLAIN) == level


def test_a_forecast_with_an_unknown_in_it_counts_as_none():
    """A NaN probability never blinds the guard: the plain levels take over."""
    assert level_of(Forecast(NAN, 0.0, 0.0, 0.0, 0.0), THRESHOLDS, 0.04, PLAIN) == 5


def test_an_unknown_threshold_is_never_reached():
    """A level without a learned threshold does not hold; the others do."""
    assert level_of(Forecast(1.0, 1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 0.1, 0.1, NAN), 1.0, PLAIN) == 4


def fresh_state():
    """A target's state as a new window has it."""
    return array("d", bytes(8 * STATE_SLOTS))


def levels_kept(readings, state=None):
    """The level that stands at each (level, t_s, headroom_ratio)."""
    state = fresh_state() if state is None else state
    return [kept_level(level, t_s, ratio, state) for level, t_s, ratio in readings]


def test_a_level_that_two_readings_reached_is_kept_for_a_minute():
    """And not a moment longer."""
    readings = [(3, 0.0, 0.2), (3, 1.0, 0.2), (0, 2.0, 0.2), (0, 0.5 + KEPT_S, 0.2), (0, 1.0 + KEPT_S, 0.2)]
    assert levels_kept(readings) == [3, 3, 3, 3, 0]


def test_a_level_that_one_reading_reached_is_not_kept():
    """One reading may be noise; what both of two reached is kept, and no more."""
    assert levels_kept([(5, 0.0, 0.2), (0, 1.0, 0.2)]) == [5, 0]
    assert levels_kept([(2, 0.0, 0.2), (5, 1.0, 0.2), (0, 2.0, 0.2)]) == [2, 5, 2]


def test_a_level_is_over_when_the_headroom_comes_back():
    """More headroom than when it was last reached by more than 2 % of the limit ends it for good; less does not."""
    back = 0.2 + BACK_RATIO
    assert levels_kept([(1, 0.0, 0.2), (1, 1.0, 0.2), (0, 2.0, back + 0.001), (0, 3.0, 0.1)]) == [1, 1, 0, 0]
    assert levels_kept([(1, 0.0, 0.2), (1, 1.0, 0.2), (0, 2.0, back - 0.001), (0, 3.0, 0.1)]) == [1, 1, 1, 1]


def test_each_level_is_kept_by_itself():
    """When the higher one's minute is over, the lower one's may still run."""
    readings = [(5, 0.0, 0.2), (5, 1.0, 0.2), (1, 30.0, 0.2), (1, 31.0, 0.2), (0, 62.0, 0.2), (0, 91.0, 0.2)]
    assert levels_kept(readings) == [5, 5, 5, 5, 1, 0]


def test_what_is_kept_outlives_the_guard():
    """It is in the target's state: another process goes on with it."""
    state = fresh_state()
    assert levels_kept([(4, 10.0, 0.2), (4, 11.0, 0.2)], state) == [4, 4]
    assert levels_kept([(0, 12.0, 0.2)], array("d", state.tobytes())) == [4]


@given(st.binary(min_size=8 * 12, max_size=8 * 12), st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_a_damaged_state_keeps_nothing_for_long(noise, levels):
    """Whatever stands in it: a level from 0 to 5, no lower than the reading's own, and gone after a minute."""
    state = fresh_state()
    state[-12:] = array("d", struct.unpack("12d", noise))
    found = levels_kept([(level, float(at), 0.5) for at, level in enumerate(levels)], state)
    assert all(own <= level <= 5 for own, level in zip(levels, found, strict=True))
    assert levels_kept([(0, len(levels) + KEPT_S, 0.5)], state) == [0]
