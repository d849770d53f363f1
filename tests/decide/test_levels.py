"""The level by forecast and by plain headroom."""

from __future__ import annotations

import pytest

from oomguard.decide.levels import level_of
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
