"""One reason for each miss and each false alarm: the first that fits, by a rule anyone can apply again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.learn.evaluate.why import (
    FALSE_ALARMS,
    MISSES,
    STILL_S,
    Planned,
    agreeing,
    fills_s,
    moved_s,
    why_false,
    why_missed,
)
from oomguard.profile import Profile

from .made import LIMIT, killed_run, quiet_run, run_of

T = np.arange(1200.0)
GROWS = np.minimum(0.1 + T / 600, 0.7)          # to 70 % in six minutes
NEVER = np.inf


def planned(**more):
    """Return the plan of a quiet run that neither loads nor has a cap, but for what is said."""
    return Planned(**{"kind": "quiet", "shape": "plateau", "limit_bytes": LIMIT, "has_bound": False,
                      "loading_until_s": 0.0, "is_phase_told": False, "crosses_s": NEVER, **more})


def in_phases(run, *words):
    """Say the phases of a run: each (word, until)."""
    for word, until_s in reversed(words):
        run.phase[:int(until_s)] = [word] * int(until_s)
    return run


def test_memory_stands_still_where_the_limit_is_far_at_any_pace():
    """Flat and creeping runs stand still; one that would be full within ten minutes does not."""
    assert fills_s(quiet_run(300), 200.0) == np.inf
    assert fills_s(run_of(0.5 + T / 100_000), 200.0) > STILL_S
    assert fills_s(run_of(GROWS), 200.0) < STILL_S


def test_the_fastest_pace_counts():
    """Ten seconds of growth after a long flat are movement; before them they are not."""
    run = run_of(np.where(T < 300, 0.2, 0.2 + 0.01 * (T - 300)))
    assert fills_s(run, 299.0) == np.inf
    assert fills_s(run, 310.0) < STILL_S


def test_too_young_is_not_still():
    """Three samples show no stillness."""
    assert fills_s(quiet_run(300), 2.0) == 0.0


def test_how_long_before_a_kill_it_moved():
    """A burst of 20 s stood still until 20 s before; a straight leak never stood still."""
    burst = run_of(np.where(T[:500] < 480, 0.3, 0.3 + 0.035 * (T[:500] - 480)), kills=[500.0])
    assert abs(moved_s(burst, 500.0) - 20.0) <= 1.0
    assert moved_s(killed_run(500), 500.0) == 300.0


@pytest.mark.parametrize(("reason", "used", "at_s", "next_s", "more"), [
    ("stood still", np.full(1200, 0.5), 400.0, NEVER, {}),
    ("leaked", GROWS, 200.0, 500.0, {}),
    ("leaked", GROWS, 200.0, NEVER, {"kind": "leak"}),
    ("hidden cap", GROWS, 200.0, NEVER, {"kind": "bounded", "has_bound": True}),
    ("hidden phase", GROWS, 200.0, NEVER, {"loading_until_s": 360.0}),
    ("start-up", GROWS, 200.0, NEVER, {"loading_until_s": 150.0}),
    ("start-up", GROWS, 50.0, NEVER, {}),
    ("turned", GROWS, 200.0, NEVER, {}),
    ("turned again", np.where(T < 100, 0.8, GROWS), 250.0, NEVER, {}),
])
def test_false_alarms_have_the_first_reason_that_fits(reason, used, at_s, next_s, more):
    """From the run's own memory, what came, and what had been planned."""
    assert why_false(run_of(used), at_s, next_s, planned(**more)) == reason


def test_without_a_forecast_that_is_the_reason():
    """Whatever else the run did."""
    assert why_false(quiet_run(1000), 400.0, NEVER, planned(), is_silent=True) == "no forecast"


def test_who_told_its_cap_or_loading_is_told_and_who_did_not_is_not():
    """The profile's cap counts, the phase only while it says loading."""
    with_cap = run_of(GROWS, profile=Profile(cache_capacity_bytes=0.7 * LIMIT))
    assert why_false(with_cap, 200.0, NEVER, planned(has_bound=True)) == "told"
    loading = in_phases(run_of(GROWS), ("loading", 360), ("steady", 1200))
    assert why_false(loading, 200.0, NEVER, planned(loading_until_s=360.0)) == "told"
    steady = in_phases(run_of(GROWS), ("loading", 150), ("steady", 1200))
    assert why_false(steady, 200.0, NEVER, planned(loading_until_s=150.0)) == "start-up"


def test_without_a_plan_no_reason_needs_one():
    """A hidden cap cannot be known: growth that stopped is what it is."""
    assert why_false(run_of(GROWS), 200.0, NEVER, None) == "turned"


@pytest.mark.parametrize(("reason", "in_alarm", "more"), [
    ("went away", [300.0], {}), ("late", [470.0], {}), ("unseen", [], {}),
    ("own cap", [470.0], {"plan": planned(kind="bounded", has_bound=True)}),
    ("no forecast", [470.0], {"is_silent": True}),
])
def test_misses_of_a_leak(reason, in_alarm, more):
    """It rose all the time: what the alarm did is the reason, unless a cap or silence is."""
    plan, silent = more.get("plan"), more.get("is_silent", False)
    assert why_missed(killed_run(500), 500.0, 60.0, np.array(in_alarm), plan, is_silent=silent) == reason


def test_a_burst_is_missed_for_its_stillness_whatever_was_said():
    """The same silence as of a leak, and another reason."""
    burst = run_of(np.where(T[:500] < 480, 0.3, 0.3 + 0.035 * (T[:500] - 480)), kills=[500.0])
    assert why_missed(burst, 500.0, 60.0, np.array([]), None, is_silent=True) == "stood still"
    assert why_missed(burst, 500.0, 10.0, np.array([]), None) == "unseen"


def test_a_plan_of_another_limit_is_not_this_runs():
    """A catalogue that was changed draws other runs of the same names."""
    runs = [quiet_run(10, run_id="a"), quiet_run(10, run_id="b"), quiet_run(10, run_id="c")]
    mine, other = planned(), planned(limit_bytes=2 * LIMIT)
    assert agreeing(runs, {"a": mine, "b": other}) == [mine, None, None]


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), st.integers(0, 60), st.booleans(),
       st.one_of(st.none(), st.builds(planned, kind=st.sampled_from(["leak", "bounded", "quiet", "still"]),
                                      has_bound=st.booleans(), loading_until_s=st.floats(0, 60))))
def test_there_is_always_exactly_one_reason(used, at_s, is_silent, plan):
    """Whatever the memory did and whatever is known, a reason of the list comes out."""
    run = run_of(np.array(used))
    assert why_false(run, float(at_s), NEVER, plan, is_silent=is_silent) in {each.key for each in FALSE_ALARMS}
    reason = why_missed(run, float(at_s), 60.0, np.array([]), plan, is_silent=is_silent)
    assert reason in {each.key for each in MISSES}


def test_reasons_have_each_their_words():
    """A key once, a sentence for people, and one on what it would take."""
    for reasons in (FALSE_ALARMS, MISSES):
        assert len({each.key for each in reasons}) == len(reasons)
        assert all(each.says.endswith(".") and each.needs.endswith(".") for each in reasons)
