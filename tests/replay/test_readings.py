"""What is read of a whole run at once is, to the bit, what the readable functions read sample by sample."""

from __future__ import annotations

from array import array
from math import nan

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oomguard.decide.levels import kept_level, level_of
from oomguard.decide.plan import STATE_SLOTS
from oomguard.forecast import Forecast, time_to_limit_s
from oomguard.replay.readings import levels_of, shares_of_time, taken, times_to_limit
from oomguard.series import kept
from oomguard.window import Window
from windows import random_run

RATIOS = st.one_of(st.floats(-0.5, 1.5), st.just(nan), st.sampled_from([0.05, 0.1, 0.3, 0.5, 1.0]))
FORECASTS = st.one_of(st.tuples(*[st.floats(0, 1)] * 5), st.tuples(*[RATIOS] * 5), st.just((nan,) * 5))


@given(st.lists(st.tuples(FORECASTS, RATIOS), max_size=30), st.tuples(*[RATIOS] * 5), st.tuples(*[RATIOS] * 5))
def test_levels_are_those_of_level_of(rows, thresholds, plain_ratios):
    """Any forecast, also half unknown; any thresholds, also unknown ones; any plain ratios."""
    forecasts = np.array([row[0] for row in rows], np.float64).reshape(-1, 5)
    found = levels_of(forecasts, thresholds, np.array([row[1] for row in rows], np.float64), plain_ratios)
    assert found.tolist() == [level_of(Forecast(*forecast), thresholds, headroom, plain_ratios)
                              for forecast, headroom in rows]


LEVELS = st.tuples(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5]), st.sampled_from([0.1, 1.0, 1.0, 7.0, 59.0, 60.0, 90.0]),
                   st.sampled_from([0.1, 0.11, 0.12, 0.125, 0.14, 0.3]))


@given(st.lists(LEVELS, max_size=60))
def test_kept_levels_are_those_of_kept_level(rows):
    """Levels that come and go, at any pace, under headroom that falls and comes back."""
    t_s = np.cumsum([row[1] for row in rows])
    state = array("d", bytes(8 * STATE_SLOTS))
    found = kept(np.array([row[0] for row in rows], np.float64), t_s, np.array([row[2] for row in rows]), floor=0.0)
    assert found.tolist() == [kept_level(row[0], at_s, row[2], state)
                              for row, at_s in zip(rows, t_s.tolist(), strict=True)]


@given(st.lists(LEVELS, max_size=60), st.integers(1, 5))
@example([(2, 0.1, 0.1), (2, 0.1, 0.11), (1, 0.1, 0.1), (0, 0.1, 0.125)], 1)
def test_a_kept_score_passes_a_threshold_wherever_its_level_is_kept(rows, threshold):
    """Scores are levels for every threshold at once; what a higher threshold keeps stands for a lower one, too."""
    scores, ratios = np.array([row[0] for row in rows], np.float64), np.array([row[2] for row in rows])
    t_s = np.cumsum([row[1] for row in rows])
    of_level = kept(np.where(scores >= threshold, 1.0, 0.0), t_s, ratios, floor=0.0)
    assert (kept(scores, t_s, ratios) >= threshold)[of_level >= 1.0].all()


@given(st.lists(FORECASTS, max_size=30))
def test_times_to_limit_are_those_of_the_forecast(rows):
    """The same bits, and NaN where it is None."""
    expected = [time_to_limit_s(Forecast(*row)) for row in rows]
    found = times_to_limit(np.array(rows, np.float64).reshape(-1, 5))
    assert found.tobytes() == array("d", [nan if one is None else one for one in expected]).tobytes()


@pytest.mark.parametrize("seed", range(25))
def test_shares_of_time_and_what_is_taken_are_the_windows(seed):
    """Gaps, repeated times, cadences from 0.1 to 10 s, unknown counters: as the window itself says."""
    samples = [sample for sample, _segment, _phase in random_run(seed, 500)]
    t_s, limits, headrooms, some = (np.array([getattr(one, name) for one in samples], np.float64)
                                    for name in ("t_s", "limit_bytes", "headroom_bytes", "psi_some_us"))
    is_taken, window = taken(t_s, limits, headrooms), Window.in_memory()
    found = shares_of_time(t_s, some, is_taken)
    for at, sample in enumerate(samples):
        assert window.push(sample) == is_taken[at]
        if is_taken[at]:
            expected = window.share_of_time("psi_some_us", 10.0)
            assert expected == found[at] or (expected != expected and found[at] != found[at])


def test_the_edge_of_the_ten_seconds_is_the_windows():
    """A block at exactly ten seconds counts, one an ulp older does not, whatever rounding does to the difference."""
    for start_s in (0.1, 7.3, 1e6 + 0.1):
        for nudge in (0.0, np.spacing(start_s + 10.0), -np.spacing(start_s + 10.0), 1e-9):
            times = [start_s, start_s + 1.5, start_s + 10.0 + nudge]
            window, counters = Window.in_memory(), [0.0, 5e5, 1e6]
            shares = shares_of_time(np.array(times), np.array(counters), np.ones(3, bool))
            for t_s, counter in zip(times, counters, strict=True):
                sample = next(random_run(1, 1))[0]._replace(t_s=t_s, psi_some_us=counter)
                window.push(sample)
            assert shares[2] == window.share_of_time("psi_some_us", 10.0)
