"""The event protocol, number by number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.learn.protocol.events import (
    SILENT,
    alarms_of,
    held_at,
    tally,
    total,
    track_of,
    two_in_a_row,
    two_of_three,
)

from .made import killed_run, quiet_run, run_of


def spans(run, *pairs):
    """Return a score that is 1 in the given spans of time (both ends included) and 0 elsewhere."""
    score = np.zeros(len(run.t_s))
    for low, high in pairs:
        score[(run.t_s >= low) & (run.t_s <= high)] = 1.0
    return score


def counts(run, *pairs):
    return tally(track_of(run, spans(run, *pairs)), 0.5)


def test_one_high_second_is_no_alarm_and_two_of_three_are():
    """A single high score is debounced away; two within three seconds stand from the second on."""
    assert two_of_three(np.array([0, 1, 0, 0, 0.0])).tolist()[2:] == [0, 0, 0]
    assert two_of_three(np.array([0, 1, 0, 1, 0, 0.0])).tolist() == [SILENT, 0, 0, 1, 0, 0]


@given(st.lists(st.booleans(), min_size=3, max_size=30))
def test_debounced_scores_are_two_of_the_last_three(high):
    """Thresholding the second highest of three is the same as counting two of three."""
    score = np.array(high, float)
    expected = [sum(high[max(at - 2, 0):at + 1]) >= 2 for at in range(len(high))]
    assert (two_of_three(score) >= 0.5).tolist() == expected


def test_a_score_is_held_for_one_and_a_half_cadences_and_no_longer():
    """On a grid of seconds a score at 0.5 s cadence is held 0.75 s; then the system is silent."""
    held = held_at(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 1.25]), np.array([5.0, 6.0, 7.0]), 0.5)
    assert held.tolist() == [6.0, 7.0, SILENT]


def test_above_one_second_two_ticks_in_a_row_are_needed():
    """At 5 s a lone high tick is nothing, two in a row are; a missing tick between them breaks the row."""
    t_s = np.array([0.0, 5, 10, 15, 25])
    assert two_in_a_row(t_s, np.array([1.0, 0, 1, 1, 1]), 5.0).tolist() == [SILENT, 0, 0, 1, SILENT]


def test_slow_ticks_hold_on_the_grid():
    """At a cadence of 10 s the level of the last tick stands for every second up to 15 s."""
    run = run_of(np.full(8, 0.5), cadence_s=10.0)
    track = track_of(run, np.array([0, 1, 1, 0, 0, 0, 0, 0.0]))
    assert track.seconds[track.score >= 0.5].tolist() == list(map(float, range(20, 30)))


def test_a_constant_alarm_counts_twelve_an_hour():
    """One alarm is counted in 300 s: in an hour of quiet time twelve, all of it in alarm, all of them false."""
    run = quiet_run(3900)
    result = counts(run, (0, 3900))
    assert (result.false, result.quiet_s, result.flaps) == (12, 3600, 0)
    assert result.alarm_s == 3599          # the first second has nothing to be debounced with


def test_flapping_is_one_alarm_and_its_flaps_are_counted_apart():
    """Two bursts within 300 s are one alarm and one flap; a third, later one is an alarm again."""
    result = counts(quiet_run(1000), (10, 20), (100, 110), (400, 410))
    assert (result.false, result.flaps) == (2, 1)
    assert alarms_of(np.array([True, False, True]), np.array([0.0, 299.0, 300.0])) == [0.0, 300.0]


def test_an_alarm_within_300_s_of_the_kill_is_right_and_one_before_is_false_and_early():
    """The kill is at 1000: an alarm at 701 is true, at 650 false and early, at 60 false and not early."""
    assert counts(killed_run(1000), (700, 999)).false == 0
    late = counts(killed_run(1000), (650, 660))
    assert (late.false, late.early) == (1, 1)
    first = counts(killed_run(1000), (60, 70))
    assert (first.false, first.early) == (1, 0)


def test_alarms_in_the_last_300_s_of_a_run_count_nowhere():
    """Nobody knows what came after a run was stopped: its last 300 s are neither quiet nor wrong."""
    result = counts(quiet_run(1000), (750, 1000))
    assert (result.false, result.quiet_s, result.alarm_s) == (0, 700, 0)


def test_quiet_time_includes_killed_runs():
    """A killed run guards quiet time too: all of it up to 300 s before the kill."""
    assert counts(killed_run(1000)).quiet_s == 700


def test_a_kill_is_caught_at_the_lead_at_which_the_level_stands():
    """With an alarm from 150 s to 20 s before the kill, leads 30, 60 and 120 are caught and 240 is not."""
    result = counts(killed_run(500), (350, 480))
    assert result.eligible.tolist() == [1, 1, 1, 1]
    assert result.caught.tolist() == [1, 1, 1, 0]
    assert result.leads_s == (149,)        # the second tick of two makes it stand: 500 - 351


def test_an_alarm_that_is_over_catches_nothing_nearer():
    """The level must stand at the lead itself: an alarm only 100 to 90 s before catches no lead of ours."""
    assert counts(killed_run(500), (400, 410)).caught.tolist() == [0, 0, 0, 0]


def test_young_runs_are_ineligible_at_long_leads():
    """A run killed at 130 s is too young for lead 120 (130 is not above 120 + 10), and old enough for 60."""
    assert counts(killed_run(130)).eligible.tolist() == [1, 1, 0, 0]
    assert counts(killed_run(131)).eligible.tolist() == [1, 1, 1, 0]


def test_a_missed_kill_has_no_lead():
    """A kill without an alarm counts with a lead of 0 in the median."""
    assert counts(killed_run(500)).leads_s == (0.0,)


def test_a_silent_system_is_never_in_alarm():
    """NaN scores are silence at any threshold, even one of minus infinity."""
    run = quiet_run(400)
    assert tally(track_of(run, np.full(401, np.nan)), -np.inf).alarm_s == 0


def test_a_kill_inside_a_run_makes_an_alarm_before_it_right():
    """One of several kills is enough: the alarm 100 s before a renderer's kill is true, in quiet time."""
    run = run_of(np.full(2001, 0.5), kills=[500.0], ended="stopped")
    assert (counts(run, (400, 410)).false, counts(run, (600, 610)).false) == (0, 1)


@pytest.mark.parametrize("cadence_s", [0.1, 0.5, 1.0])
def test_the_grid_is_the_same_at_every_fast_cadence(cadence_s):
    """Quiet time does not depend on how often the recorder looked."""
    run = run_of(np.full(int(600 / cadence_s) + 1, 0.5), cadence_s=cadence_s)
    assert counts(run).quiet_s == 300


def test_totals_add_up():
    """Counts of two runs add, leads are kept one by one."""
    both = total([counts(killed_run(500), (350, 499)), counts(quiet_run(1000), (10, 20))])
    assert (both.kills, both.false, both.quiet_s, len(both.leads_s)) == (1, 1, 900, 1)
