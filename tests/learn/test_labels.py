"""Who is labelled what, and who is not labelled at all."""

from __future__ import annotations

import numpy as np
import pytest

from oomguard.learn.label.labels import UNLABELLED, classes_of, labels_of, seconds_since_last, seconds_to_next

from .made import killed_run, quiet_run, run_of


@pytest.mark.parametrize(("seconds", "grade"), [(np.inf, 0), (301, 0), (300, 1), (240.5, 1), (240, 2), (180, 3),
                                                (120, 4), (61, 4), (60, 5), (0.1, 5)])
def test_grades_by_nearness(seconds, grade):
    """Each horizon's edge belongs to the nearer class."""
    assert classes_of(np.array([float(seconds)]))[0] == grade


def test_a_killed_run_is_labelled_to_its_last_sample():
    """Every sample of a run that ended in a kill has a known future."""
    labels = labels_of(killed_run(400))
    assert labels.min() == 0
    assert labels[-1] == 5
    assert np.bincount(labels).tolist() == [100, 60, 60, 60, 60, 60]


def test_the_last_300_s_of_a_run_that_was_not_killed_are_unlabelled():
    """Nobody saw what came after it was stopped."""
    labels = labels_of(quiet_run(1000))
    assert labels[700] == 0
    assert (labels[701:] == UNLABELLED).all()


def test_300_s_after_a_release_are_censored_and_so_is_the_time_it_may_have_saved():
    """A release at 1000 hides 700 … 1300: after it by the design, before it since the kill may have been averted."""
    labels = labels_of(run_of(np.full(3001, 0.5), releases=[1000.0]))
    assert [int(labels[at]) for at in (699, 700, 1000, 1300, 1301)] == [0, -1, -1, -1, 0]


def test_a_kill_before_the_release_keeps_its_labels():
    """A kill that came first was not averted by what came later."""
    labels = labels_of(run_of(np.full(3001, 0.5), kills=[900.0], releases=[1000.0], ended="stopped"))
    assert (labels[850], labels[899], labels[900]) == (5, 5, UNLABELLED)


def test_a_simulated_run_knows_what_came_of_its_release():
    """There only the time before the release is left out."""
    labels = labels_of(run_of(np.full(3001, 0.5), releases=[1000.0], is_simulated=True))
    assert [int(labels[at]) for at in (999, 1000, 1300)] == [-1, 0, 0]


def test_seconds_to_and_since_events():
    """An event at the very moment is past, not ahead."""
    times, events = np.array([0.0, 5, 6, 20]), np.array([5.0, 10])
    assert seconds_to_next(times, events).tolist() == [5, 5, 4, np.inf]
    assert seconds_since_last(times, events).tolist() == [np.inf, 0, 1, 10]
