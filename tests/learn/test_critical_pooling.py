"""Empirical Bayes: what is sure stays, what is unsure is drawn to the fleet, and by how much the fleet itself says."""

from __future__ import annotations

import numpy as np
import pytest

from oomguard.learn.thresholds.pooling import (
    STRENGTHS,
    expit,
    fleet_of,
    logit,
    rate_strength,
    share_strength,
    shrunk,
    unseen,
)


def test_tau_squared_is_that_of_dersimonian_and_laird():
    """By hand: y = 0, 2, v = 1: Q = 2, tau² = (2 - 1) / (2 - 2/2) = 1, mu = 1, var mu = 1."""
    fleet = fleet_of([0.0, 2.0], [1.0, 1.0])
    assert (fleet.mean, fleet.between_variance, fleet.mean_variance) == pytest.approx((1.0, 1.0, 1.0))
    assert shrunk(fleet, 2.0, 1.0) == pytest.approx((1.5, 0.75))
    assert unseen(fleet) == pytest.approx((1.0, 2.0))


def test_types_that_do_not_differ_are_pooled_whole():
    """Differences smaller than their errors leave no variance between types: all have the fleet's mean."""
    fleet = fleet_of([1.0, 1.1, 0.9], [1.0, 1.0, 1.0])
    assert fleet.between_variance == 0
    assert shrunk(fleet, 1.1, 1.0)[0] == pytest.approx(1.0)


def test_a_sure_type_keeps_its_own_figure_and_an_unsure_one_does_not():
    """The same value with a small and with a large error, in a fleet whose types differ."""
    fleet = fleet_of([-2.0, 0.0, 2.0, 4.0], [0.01] * 4)
    assert shrunk(fleet, 4.0, 0.01)[0] == pytest.approx(4.0, abs=0.02)
    assert shrunk(fleet, 4.0, 100.0)[0] == pytest.approx(1.0, abs=0.3)


def test_shrinking_brings_figures_nearer_to_the_truth():
    """Over many fleets, the mean squared error of pooled figures is less than that of the types' own."""
    rng = np.random.default_rng(1)
    own_error = pooled_error = 0.0
    for _ in range(200):
        truth = rng.normal(2.0, 0.5, 8)
        said = truth + rng.normal(0.0, 0.7, 8)
        fleet = fleet_of(said, np.full(8, 0.49))
        own_error += float(((said - truth) ** 2).sum())
        pooled_error += sum((shrunk(fleet, value, 0.49)[0] - right) ** 2
                            for value, right in zip(said, truth, strict=True))
    assert pooled_error < 0.6 * own_error


def test_one_type_is_a_fleet_of_its_own():
    """Nothing to be drawn to but itself."""
    fleet = fleet_of([3.0], [0.2])
    assert shrunk(fleet, 3.0, 0.2)[0] == pytest.approx(3.0)


def test_alike_shares_pool_strongly_and_unlike_ones_do_not():
    """All miss a fifth: the fleet weighs a thousand kills. Half miss all, half none: hardly one."""
    assert share_strength([4, 4, 4, 4], [20, 20, 20, 20]) == STRENGTHS[-1]
    assert share_strength([0, 20, 0, 20], [20, 20, 20, 20]) < 1.0
    assert share_strength([0, 0], [20, 20]) == STRENGTHS[-1]


def test_alike_rates_pool_strongly_and_unlike_ones_do_not():
    """The same for events in hours."""
    assert rate_strength([10, 10, 10], [5.0, 5.0, 5.0]) == STRENGTHS[-1]
    assert rate_strength([0, 100, 1], [5.0, 5.0, 5.0]) < 5.0
    assert rate_strength([0, 0], [5.0, 5.0]) == STRENGTHS[-1]


def test_logit_is_bounded_and_expit_undoes_it():
    """A ratio of 1 is no infinity."""
    assert expit(float(logit(0.93))) == pytest.approx(0.93)
    assert np.isfinite(logit([0.0, 1.0])).all()
