"""The forecast and when a kill becomes likelier than not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.forecast import Forecast, time_to_limit_s

NAN = float("nan")


@pytest.mark.parametrize(("forecast", "expected_s"), [
    (Forecast(0.0, 0.0, 0.0, 0.0, 0.0), None),
    (Forecast(0.1, 0.2, 0.3, 0.4, 0.49), None),
    (Forecast(1.0, 1.0, 1.0, 1.0, 1.0), 30.0),
    (Forecast(0.5, 0.5, 0.5, 0.5, 0.5), 60.0),
    (Forecast(0.0, 1.0, 1.0, 1.0, 1.0), 90.0),
    (Forecast(0.25, 0.75, 0.8, 0.9, 0.9), 90.0),
    (Forecast(0.0, 0.0, 0.0, 0.0, 0.5), 300.0),
    (Forecast(0.0, 0.0, 0.0, 0.25, 0.75), 270.0),
    (Forecast(NAN, 0.9, 0.9, 0.9, 0.9), None),
    (Forecast(0.1, NAN, 0.9, 0.9, 0.9), None),
    (Forecast(0.6, NAN, 0.9, 0.9, 0.9), 50.0),
])
def test_time_to_limit_is_where_the_probability_crosses_one_half(forecast, expected_s):
    """The crossing is interpolated from p(0) = 0; below one half, or unknown on the way, there is none."""
    assert time_to_limit_s(forecast) == expected_s


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_time_to_limit_lies_within_the_first_horizon_that_is_likelier_than_not(probabilities):
    """For every non-decreasing forecast the figure lies in the minute in which one half is crossed."""
    forecast = Forecast(*sorted(probabilities))
    found_s = time_to_limit_s(forecast)
    minute = next((i for i, p in enumerate(forecast) if p >= 0.5), None)
    assert (found_s is None) == (minute is None)
    if found_s is not None and minute is not None:
        assert 60 * minute <= found_s <= 60 * (minute + 1) and found_s >= 30
