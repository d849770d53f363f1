"""Many thresholds at once are counted as one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oomguard.learn.protocol.events import tally, track_of
from oomguard.learn.protocol.sweep import stands_at, summed, sweep

from .made import killed_run, run_of

THRESHOLDS = (-np.inf, 0.0, 1.0, 2.5, 3.0, 9.0, np.inf)


def same(one, other):
    """Two tallies with the same numbers."""
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


@st.composite
def scored_runs(draw):
    """Return a run of up to half an hour with kills anywhere, and a score that stays for a while or is silent."""
    length, rng = draw(st.integers(5, 1800)), np.random.default_rng(draw(st.integers(0, 1 << 30)))
    kills = sorted(draw(st.lists(st.floats(1.0, float(length)), max_size=3)))
    score = np.repeat(rng.choice([0.0, 1, 2, 3, np.nan, -np.inf], length), rng.integers(1, 90, length))[:length]
    ended = "oom" if kills and draw(st.booleans()) else "stopped"
    used = np.full(length, 0.5)
    if ended == "oom":
        keep = max(int(kills[-1]), 2)
        used, score = used[:keep], score[:keep]
    return run_of(used, kills=kills, ended=ended), score[:len(used)]


@given(scored_runs())
def test_a_sweep_is_a_tally_at_every_threshold(made):
    """Sorting and walking give, at each threshold, what the readable count gives; silence reaches none of them."""
    run, score = made
    track = track_of(run, score)
    swept = sweep(track, THRESHOLDS)
    for at, threshold in enumerate(THRESHOLDS):
        same(swept.at(at), tally(track, threshold))


def test_sweeps_add_up():
    """The sum of two runs' sweeps holds both runs' kills and leads."""
    runs = [killed_run(400), killed_run(700)]
    tracks = [track_of(run, np.ones(len(run.t_s))) for run in runs]
    both = summed(sweep(track, [0.5, 2.0]) for track in tracks)
    assert (both.kills, both.quiet_s, both.leads_s.tolist()) == (2, 500, [[300, 300], [0, 0]])


def test_a_level_stands_or_not_at_any_lead_and_young_runs_are_no_answer():
    """In alarm throughout: standing 100 s before the kill at 130 s, unknown 125 s before."""
    track = track_of(killed_run(130), np.ones(130))
    np.testing.assert_array_equal(stands_at(track, 0.5, np.array([100.0, 125.0])), [[1.0, np.nan]])
    np.testing.assert_array_equal(stands_at(track, 1.5, np.array([100.0, 125.0])), [[0.0, np.nan]])
