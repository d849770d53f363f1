"""Figures, intervals and budgets from counts."""

from __future__ import annotations

import numpy as np

from oomguard.learn.protocol.curves import points_of
from oomguard.learn.protocol.events import tally, total, track_of
from oomguard.learn.protocol.figures import draws_of, figures_of, intervals_of, recall_at_budgets

from .made import killed_run, quiet_run


def counts(run, is_high):
    return tally(track_of(run, np.full(len(run.t_s), float(is_high))), 0.5)


def test_the_figures_of_a_constant_alarm():
    """It catches everything and is in alarm all the time: both are shown."""
    figures = figures_of(total([counts(killed_run(400), True), counts(quiet_run(3900), True)]))
    assert figures["recall"] == {"30": 1.0, "60": 1.0, "120": 1.0, "240": 1.0}
    assert round(figures["false_alarms_per_hour"], 1) == 12.6       # 12 in 3600 s and 1 in the other 100 s
    assert figures["alarm_time_ratio"] > 0.99
    assert figures["median_lead_s"] == 300


def test_the_figures_of_never():
    """Nothing caught, nothing false."""
    figures = figures_of(total([counts(killed_run(400), False), counts(quiet_run(3900), False)]))
    assert (figures["recall"]["60"], figures["false_alarms_per_hour"], figures["median_lead_s"]) == (0.0, 0.0, 0.0)


def test_no_kill_gives_no_recall():
    """A share of nothing is unknown, not perfect."""
    assert figures_of(counts(quiet_run(600), False))["recall"]["30"] is None


def test_zero_false_alarms_bound_the_rate_at_three_over_the_hours():
    """An hour without a false alarm shows no more than that there are fewer than three in an hour."""
    intervals = intervals_of({"a": counts(quiet_run(2100), False), "b": counts(quiet_run(2100), False)}, None, seed=1)
    assert intervals["false_alarms_per_hour"] == [0.0, 3.0]


def test_intervals_are_paired_and_clustered_by_program():
    """A system compared with itself differs by nothing; of two programs, one caught and one not, anything may be."""
    programs = {"caught": counts(killed_run(400), True), "missed": counts(killed_run(400), False)}
    intervals = intervals_of(programs, programs, seed=1)
    assert intervals["minus_oomguard"]["recall_60"] == [0.0, 0.0]
    assert intervals["recall_60"] == [0.0, 1.0]


def test_a_budget_is_reported_only_where_the_hours_can_show_it():
    """Two quiet hours can show 2 an hour (expected 4 ≥ 3) and not 1."""
    run, killed = quiet_run(7500), killed_run(400)
    tracks = [track_of(run, np.zeros(len(run.t_s))), track_of(killed, np.ones(len(killed.t_s)))]
    budgets = recall_at_budgets(points_of(tracks, ["a", "b"]))
    assert budgets["1"] is None
    assert budgets["2"] == {"30": 1.0, "60": 1.0, "120": 1.0, "240": 1.0}


def test_medians_of_resampled_leads_are_those_of_the_lists():
    """A program drawn twice has its leads in the list twice."""
    one, two = counts(killed_run(400), True), counts(killed_run(400), False)
    intervals = intervals_of({"a": one, "b": two, "c": one}, None, seed=3)
    assert intervals["median_lead_s"] == [0.0, 300.0]
    assert intervals_of({"a": one}, None, seed=3)["median_lead_s"] == [300.0, 300.0]


def test_the_same_seed_draws_the_same_programs_as_often_as_there_are_programs():
    """Every resample is as large as the set, whatever the system."""
    draws = draws_of(5, 1)
    assert set(draws.sum(axis=1).tolist()) == {5.0}
    assert (draws == draws_of(5, 1)).all()
