"""Asking the Decider only where its answer can change gives the same decisions and the same state as always asking."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import random_plan, random_samples, run_of

from oomguard.decide.plan import Action, Bounds, Condition, Plan, Release, Rule, TargetPlan
from oomguard.replay import standstill
from oomguard.replay.readings import Readings, levels_of, times_to_limit
from oomguard.replay.replay import Setting, decide_everywhere, decide_sparsely, fresh_state

ACTION = (Action("any", Release("needed")),)


def random_readings(seed: int, length: int, cadence_s: float = 1.0) -> Readings:
    """Return readings that hold still for a while, jump, flap, are unknown, refused, or absent for a while."""
    rng = np.random.default_rng(seed)
    run = run_of(random_samples(seed, length, cadence_s))
    stays = rng.random(length) < rng.choice([0.5, 0.95, 0.99])
    forecasts = np.sort(rng.random((length, 5)), axis=1)
    for at in range(1, length):
        if stays[at]:
            forecasts[at] = forecasts[at - 1]
    forecasts[np.repeat(rng.random(length // 20 + 1) < 0.15, 20)[:length]] = np.nan
    shares = np.round(rng.random((2, length)) * 0.6, 1)
    shares[:, rng.random(length) < 0.1] = np.nan
    is_taken = rng.random(length) > 0.02
    headrooms = run.columns["headroom_bytes"] / run.columns["limit_bytes"]
    levels = levels_of(forecasts, (0.6, 0.6, 0.6, 0.6, 0.6), headrooms, (0.3, 0.2, 0.15, 0.1, 0.05))
    levels = np.where(is_taken, levels, np.int8(-1))
    return Readings(run, is_taken, forecasts, levels, times_to_limit(forecasts), *shares)


def assert_same(readings, busy, setting):
    often, seldom = fresh_state(), fresh_state()
    expected = decide_everywhere(readings, busy, setting, often)
    assert decide_sparsely(readings, busy, setting, seldom) == expected
    assert seldom.tobytes() == often.tobytes()
    return expected


@settings(max_examples=150)
@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32), st.sampled_from([0.1, 0.5, 1.0, 10.0]))
def test_random_rules_on_random_runs(rules_seed, run_seed, cadence_s):
    """Every kind of condition, nested, held, latched (also on the wrong side), bounded, busy, with gaps."""
    readings = random_readings(run_seed, random.Random(run_seed).choice([1, 2, 40, 300]), cadence_s)
    busy = np.repeat(np.random.default_rng(run_seed).random(len(readings.levels) // 15 + 1) < 0.2, 15)
    assert_same(readings, busy[:len(readings.levels)], Setting(random_plan(rules_seed, cadence_s)))


def test_a_run_of_which_nothing_was_taken_decides_nothing():
    """Found by Hypothesis: a single sample, refused."""
    readings = random_readings(1, 1)
    readings.is_taken[:] = False
    assert assert_same(readings, np.zeros(1, bool), Setting(random_plan(1))) == {}


def held_level(length: int, level: int = 3):
    """Return readings in which nothing changes."""
    readings = random_readings(1, length)
    readings.levels[:] = level
    return Readings(readings.run, np.ones(length, bool), np.full((length, 5), np.nan), readings.levels,
                    *(np.full(length, np.nan) for _ in range(3)))


def asked_on(readings, rules, monkeypatch) -> int:
    """Return at how many ticks the Decider was asked."""
    from oomguard.decide.decide import Decider
    asked, decide = [0], Decider.decide

    def counted(self, view, state, *, is_busy=False):
        asked[0] += 1
        return decide(self, view, state, is_busy=is_busy)

    setting = Setting(Plan((TargetPlan("app", "self"),), rules, bounds=Bounds(60, 0.0)))
    with monkeypatch.context() as patched:
        patched.setattr(Decider, "decide", counted)
        decide_sparsely(readings, np.zeros(len(readings.levels), bool), setting, fresh_state())
    assert_same(readings, np.zeros(len(readings.levels), bool), setting)
    return asked[0]


def test_a_quiet_run_is_hardly_asked_about(monkeypatch):
    """Nothing holds: a few ticks per stretch. A rule that rests is asked about again when it has rested."""
    high = Rule("high", Condition("level_at_least", 5.0, for_s=3.0), ACTION)
    low = Rule("low", Condition("level_at_least", 1.0, for_s=3.0), ACTION, 60.0)
    quiet, resting = (asked_on(held_level(2000), (rule,), monkeypatch) for rule in (high, low))
    assert quiet < 200
    assert resting < 700


def test_a_threshold_that_flips_at_every_tick_is_asked_about_always(monkeypatch):
    """`until` on the wrong side: reached, not held, reached again; no tick of it is skipped."""
    flips = Condition("level_at_least", 2.0, until=4.0)
    assert asked_on(held_level(300), (Rule("flips", flips, ACTION),), monkeypatch) >= 300


@pytest.mark.parametrize(("condition", "expected_s"), [
    (Condition("level_at_least", 1.0), 0.0), (Condition("level_at_least", 1.0, for_s=3.0), 3.0),
    (Condition("any", for_s=4.0, parts=(Condition("level_at_least", 1.0, for_s=3.0),)), 4.0 + 3.0 + 5.0),
    (Condition("any", parts=(Condition("level_at_least", 1.0, for_s=3.0), Condition("used_above", 0.5, for_s=9.0))),
     9.0)])
def test_holds_settle_after_the_longest_chain(condition, expected_s):
    """Nested holds add up, and the outer one may wait a gap longer for the inner; holds side by side do not."""
    assert standstill.settle_s((Rule("r", condition, ACTION),), 5.0) == expected_s
