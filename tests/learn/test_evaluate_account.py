"""Every miss and every false alarm is told, with what the memory did and what was said."""

from __future__ import annotations

import numpy as np
import pytest

from oomguard.learn.evaluate.account import bound_of, false_alarms_of, misses_of, shape_of
from oomguard.learn.protocol.events import track_of
from oomguard.profile import Profile

from .made import LIMIT, killed_run, quiet_run, run_of

LEVELS = (0.5,) * 5
RNG = np.random.default_rng(1)
T = np.arange(300.0)


def told(what, run, *pairs, forecast=0.1):
    """Return the account of a run in alarm in the given spans."""
    score = np.full(len(run.t_s), -1.0)
    for low, high in pairs:
        score[(run.t_s >= low) & (run.t_s <= high)] = 1.0
    track = track_of(run, score)
    return what(run, track, np.full((len(run.t_s), 5), forecast), LEVELS, {"always": (track_of(run, score + 9), 0.5)})


def test_a_kill_seen_at_every_lead_is_no_miss():
    """In alarm from 200 s ahead to the end: nothing to tell."""
    assert told(misses_of, killed_run(500), (290, 500)) == []


def test_a_miss_says_at_which_leads_and_who_saw_it():
    """An alarm 40 s ahead is in time for 30 s and late for 60 and 120."""
    (miss,) = told(misses_of, killed_run(500), (458, 500))
    assert (miss["missed_leads_s"], miss["judged_lead_s"], miss["seen_by"]) == ([60, 120], 60, ["always"])
    assert miss["reason"] == "rising, but p60 was 0.10; alarm came 41 s ahead"
    assert (miss["shape"], miss["at_s"], miss["scorer"]) == ("steady growth", 440.0, "forest")


def test_an_alarm_that_went_away_is_called_so():
    """It had stood 150 s ahead and not 60 s ahead."""
    (miss,) = told(misses_of, killed_run(500), (349, 400))
    assert "had stood from 150 s ahead" in miss["reason"]


def test_without_a_forecast_the_account_says_so():
    """Silence is a reason of its own."""
    (miss,) = told(misses_of, killed_run(500), forecast=np.nan)
    assert (miss["scorer"], miss["forecast"], miss["reason"].split(" at")[0]) == ("plain", None, "no forecast")


def test_a_spike_is_sudden_and_a_leak_is_not():
    """Flat at 30 % until 20 s before the kill: nothing could be seen a minute ahead."""
    t = np.arange(500.0)
    run = run_of(np.where(t < 480, 0.3, 0.3 + 0.035 * (t - 480)), t_s=t, kills=[500.0])
    (miss,) = told(misses_of, run)
    assert (miss["shape"], miss["reason"].split(":")[0]) == ("sudden rise", "sudden")


def test_young_runs_are_not_judged():
    """A run killed at 60 s is judged 30 s ahead only."""
    (miss,) = told(misses_of, killed_run(60))
    assert miss["missed_leads_s"] == [30]


def test_false_alarms_are_those_the_protocol_counts():
    """One in 300 s, none in the last 300 s of a run, none with a kill within 300 s; early ones are marked."""
    alarms = told(false_alarms_of, quiet_run(1000), (100, 110), (200, 210), (800, 900))
    assert [each["at_s"] for each in alarms] == [101]
    assert told(false_alarms_of, killed_run(500), (250, 260)) == []
    (early,) = told(false_alarms_of, killed_run(1000), (500, 510))
    assert (early["is_early"], early["reason"]) == (True, "early: killed 499 s later")
    assert early["also_alarmed"] == ["always"]


def test_what_came_after_a_false_alarm():
    """Growth that stopped, that fell back, and that never was."""
    t = np.arange(900.0)
    stopped = run_of(np.minimum(0.2 + t / 250, 0.8))
    assert told(false_alarms_of, stopped, (100, 140))[0]["reason"] == "stopped at 80 %"
    fell = run_of(np.where(t < 150, 0.2 + t / 250, 0.3))
    assert told(false_alarms_of, fell, (100, 140))[0]["reason"] == "rose to 80 % and fell back to 30 %"
    assert told(false_alarms_of, quiet_run(900), (100, 140))[0]["reason"] == "stood still at 50 %"


@pytest.mark.parametrize(("used", "shape"), [
    (np.full(300, 0.5), "flat"), (0.1 + 0.8 * T / 300, "steady growth"),
    (0.1 + 0.8 * (T / 300) ** 3, "accelerating growth"),
    (0.1 + 0.8 * (T / 300) ** 0.3, "slowing growth"), (0.1 + 0.2 * (T // 75), "steps"),
    (np.minimum(0.1 + 0.8 * T / 100, 0.9), "growth, then a plateau"), (0.3 + 0.4 * (T % 50) / 50, "sawtooth"),
    (0.5 + 0.1 * RNG.random(300), "churn"), (0.9 - 0.8 * T / 300, "shrinking"),
    (np.where(T < 285, 0.2, 0.2 + 0.05 * (T - 285)), "sudden rise"), (np.full(5, 0.5), "too short to tell"),
])
def test_shapes_have_names(used, shape):
    """Each curve is called what a person would call it."""
    assert shape_of(run_of(used), 0.0, 300.0) == shape


def test_a_bound_is_told_with_what_happens_there():
    """The smaller bound counts; none is none."""
    profile = Profile(cache_capacity_bytes=0.5 * LIMIT, heap_limit_bytes=2 * LIMIT, bound_kind="evicts")
    assert bound_of(quiet_run(10, profile=profile)) == "evicts at 50 % of the limit"
    assert bound_of(quiet_run(10)) == "none told"
