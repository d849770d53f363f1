"""Histograms count each kill once, and their shapes have the names that eyes would give them."""

from __future__ import annotations

import numpy as np
import pytest

from oomguard.learn.thresholds.histograms import (
    BINS,
    FLAT,
    LEAST_KILLS,
    NEAR,
    PREMATURE,
    UNKNOWN,
    one_per_kill,
    peak_of,
    readings_of,
    used_ratio,
)

from .made import killed_run, quiet_run, run_of

EVEN = np.ones(BINS)


def votes_at(levels):
    """Return one vote per kill at these ratios, each kill in a run of its own."""
    votes = np.zeros((len(levels), BINS))
    votes[np.arange(len(levels)), (np.asarray(levels) * BINS).astype(int)] = 1.0
    return votes, np.arange(len(levels))


@pytest.mark.parametrize(("centre", "shape"), [(0.95, NEAR), (0.6, PREMATURE)])
def test_kills_in_one_place_are_a_sharp_peak_named_after_the_place(centre, shape):
    """Thirty kills within a few hundredths: near the threshold at 0.95, premature at 0.6; every resample agrees."""
    levels = centre + np.random.default_rng(1).normal(0.0, 0.012, 30)
    peak = peak_of(*votes_at(levels), EVEN)
    assert (peak.shape, peak.kills) == (shape, 30)
    assert peak.at_ratio == pytest.approx(centre, abs=0.02)
    assert peak.p_value < 0.01
    assert peak.agreement > 0.95


def test_kills_all_over_the_place_are_no_sharp_peak():
    """Kills spread evenly are flat, whatever the seed that spread them."""
    for seed in range(10):
        levels = np.random.default_rng(seed).uniform(0.3, 0.999, 40)
        assert peak_of(*votes_at(levels), EVEN).shape == FLAT


def test_a_third_of_the_kills_in_one_place_is_not_enough():
    """More than chance, yet most kills happen elsewhere: no sharp peak."""
    levels = np.concatenate([np.full(20, 0.95), np.random.default_rng(2).uniform(0.2, 0.85, 40)])
    peak = peak_of(*votes_at(levels), EVEN)
    assert peak.p_value < 0.01
    assert peak.shape == FLAT


def test_a_peak_that_chance_could_make_is_none():
    """Where the program spends its time in a narrow band, kills in that band say nothing of the device."""
    time_s = np.zeros(BINS)
    time_s[-30:] = 1.0
    levels = np.random.default_rng(3).uniform(0.86, 0.999, 12)
    assert peak_of(*votes_at(levels), time_s).p_value > 0.01


def test_too_few_kills_are_unknown_and_are_counted():
    """One kill fewer than needed is unknown; with one more the shape has a name."""
    few = peak_of(*votes_at([0.95] * (LEAST_KILLS - 1)), EVEN)
    assert (few.shape, few.kills) == (UNKNOWN, LEAST_KILLS - 1)
    assert peak_of(*votes_at([0.95] * LEAST_KILLS), EVEN).shape == NEAR
    assert peak_of(np.zeros((0, BINS)), np.zeros(0, int), EVEN).shape == UNKNOWN


def test_a_run_says_where_it_was_and_where_it_was_killed():
    """Seconds at each ratio add up to the run's length; the kill counts once, at its last reading."""
    readings = readings_of([killed_run(400, device_type="tv"), quiet_run(99, device_type="tv")])["tv"]
    assert readings.exposure_s.sum(axis=1) == pytest.approx([400.0, 99.0], abs=1.5)
    assert readings.at_kill.sum() == readings.kills == 1
    assert readings.at_kill[0, -1] == 1
    assert one_per_kill(readings).sum() == 1


def test_five_minutes_before_a_kill_are_one_vote():
    """A straight leak over 400 s spreads its vote over the last 300 s: from 0.325 up to the limit, evenly."""
    before = readings_of([killed_run(400)])["generic"].before[0]
    assert before.sum() == pytest.approx(1.0)
    assert before[:64].sum() == 0
    assert before[66:].std() < 0.004


def test_readings_before_an_earlier_kill_belong_to_that_kill():
    """A process of the target dies at 100 s, the target at 130 s: the second kill's votes are the last 30 s."""
    ramp = np.concatenate([np.full(100, 0.5), np.full(30, 0.9)])
    before = readings_of([run_of(ramp, kills=(100.0, 130.0))])["generic"].before
    assert before[0, 100] == pytest.approx(1.0)
    assert before[1, 180] == pytest.approx(1.0)


def test_a_kill_long_after_the_last_reading_is_counted_as_unread():
    """A guard that stood still for a minute does not know where the kill came."""
    readings = readings_of([run_of(np.full(50, 0.5), kills=(110.0,))])["generic"]
    assert (readings.kills, readings.unread) == (0, 1)


def test_unknown_used_comes_from_the_headroom():
    """Where used is NULL the headroom tells; beyond the limit is at the limit."""
    run = run_of([0.25, 0.5, 1.2])
    run.columns["used_bytes"][:2] = np.nan
    assert used_ratio(run).tolist() == pytest.approx([0.25, 0.5, 1.0])
