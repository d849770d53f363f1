"""Simulated runs are runs: ordered, bounded, repeatable, and killed exactly where their memory is full."""

from __future__ import annotations

import numpy as np
import pytest

from oomguard.learn.dataset import digest_of
from oomguard.learn.simulate import shapes
from oomguard.learn.simulate.runs import LIMIT_BYTES, simulate


@pytest.mark.parametrize("maker", sorted({*shapes.LEAKS, *shapes.QUIET}, key=lambda maker: maker.__name__))
def test_every_shape_is_finite_at_every_cadence(maker):
    """No shape divides by nothing, however short or slow the run is."""
    for seed, times in enumerate((np.arange(0, 60, 0.1), np.arange(0, 1800, 1.0), np.arange(0, 60, 10.0))):
        shape = maker(times, np.random.default_rng(seed))
        assert len(shape.curve) == len(times)
        assert np.isfinite(shape.curve).all()


def test_the_same_seed_gives_the_same_runs_and_another_does_not():
    """Training is repeatable only if its data is."""
    assert digest_of(simulate(20, 5)) == digest_of(simulate(20, 5))
    assert digest_of(simulate(20, 5)) != digest_of(simulate(20, 6))


def test_simulated_runs_look_like_recorded_ones():
    """Times rise, nothing is at or after the kill, headroom is finite, both outcomes are common, all marked."""
    runs = simulate(200, 1)
    assert all(run.is_simulated and run.app.startswith("simulated ") for run in runs)
    assert all((np.diff(run.t_s) > 0).all() and np.isfinite(run.columns["headroom_bytes"]).all() for run in runs)
    assert all(run.t_s[-1] < run.kills_s[0] for run in runs if run.ended_in_kill)
    assert 0.12 < np.mean([run.ended_in_kill for run in runs]) < 0.5
    limits = np.array([run.columns["limit_bytes"][0] for run in runs])
    assert limits.min() >= LIMIT_BYTES[0]
    assert limits.max() <= LIMIT_BYTES[1]


def test_a_kill_comes_when_memory_is_full_or_at_an_aborting_bound():
    """Without swap, the last sample of a killed run stands near its limit, or its program had a bound of its own."""
    near = [1 - run.columns["headroom_bytes"][-1] / run.columns["limit_bytes"][-1] for run in simulate(300, 2)
            if run.ended_in_kill and run.app == "simulated straight" and run.cadence_s < 1.5
            and not run.columns["swap_limit_bytes"][0] and run.profile.bound_kind != "aborts"]
    assert np.mean(np.array(near) > 0.9) > 0.7      # the rest: aborting bounds that the guard was not told of
