"""Calibration, time to limit, thinned recordings."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oomguard.forecast import Forecast, time_to_limit_s
from oomguard.learn.evaluate.quality import calibration_of, time_to_limit_error, times_to_limit
from oomguard.learn.evaluate.robust import at_cadence, variants, with_losses

from .made import killed_run, quiet_run, run_of

P = st.one_of(st.just(math.nan), st.floats(0, 1))


@given(st.lists(st.lists(P, min_size=5, max_size=5), min_size=1, max_size=6))
def test_times_to_limit_are_the_devices(rows):
    """Row by row what forecast.time_to_limit_s gives, NaN for None; forecasts never fall with the horizon."""
    rows = [list(np.maximum.accumulate(row)) for row in rows]
    expected = [time_to_limit_s(Forecast(*row)) for row in rows]
    np.testing.assert_allclose(times_to_limit(np.array(rows)),
                               [math.nan if each is None else each for each in expected], rtol=1e-12)


def said(run, p):
    return np.full((len(run.t_s), 5), p)


def test_a_forecast_that_comes_true_as_often_as_it_says_has_no_calibration_error():
    """Of two programs, one killed within 300 s throughout, one never: one half is right, in one bin."""
    runs = [killed_run(290, app="a"), quiet_run(2000, app="b")]
    at = calibration_of(runs, [said(run, 0.5) for run in runs])["300"]
    assert (round(at["ece"], 9), round(at["brier"], 9), len(at["bins"])) == (0.0, 0.25, 1)
    assert round(at["bins"][0]["observed"], 9) == 0.5


def test_a_forecast_that_is_sure_and_wrong_is_shown_so():
    """Certainty of a kill in a quiet run: all of it is error."""
    run = quiet_run(2000)
    at = calibration_of([run], [said(run, 1.0)])["60"]
    assert (round(at["ece"], 9), at["base_rate"]) == (1.0, 0.0)


def test_silence_is_not_calibrated():
    """Where nothing was forecast nothing is judged."""
    run = quiet_run(2000)
    assert calibration_of([run], [said(run, np.nan)])["60"]["samples"] == 0


def test_the_error_of_the_time_to_limit_by_how_far_the_kill_was():
    """A forecast of 100 s throughout is late near the kill and early far from it; farther kills only count if given."""
    run = killed_run(400)
    rows = time_to_limit_error([run], [np.full(400, 100.0)])
    assert [(row["from_s"], row["to_s"]) for row in rows[:2]] == [(0, 30), (30, 60)]
    assert rows[0]["error_s"]["q50"] == 100 - 15.5
    assert rows[5]["error_s"]["q50"] == 100 - 270.5
    assert (rows[-1]["to_s"], rows[-1]["given_ratio"], rows[-1]["error_s"]) == (None, 1.0, None)


def test_a_time_that_is_not_given_is_no_error():
    """The share that was given stands beside the error."""
    row = time_to_limit_error([killed_run(400)], [np.full(400, np.nan)])[0]
    assert (row["given_ratio"], row["error_s"]) == (0.0, None)


def test_thinning_keeps_readings_and_invents_none():
    """0.1 s thinned to 1 s keeps one in ten, the first; a run at 1 s stays itself; one at 10 s has no 1 s variant."""
    fast = run_of(np.linspace(0, 0.9, 301), cadence_s=0.1)
    thinned = at_cadence(fast, 1.0)
    assert thinned.t_s.tolist() == fast.t_s[::10].tolist()
    assert len(thinned.constraint) == len(thinned.t_s) == 31
    one = quiet_run(100)
    assert at_cadence(one, 1.0) is one
    assert at_cadence(run_of(np.full(50, 0.5), cadence_s=10.0), 1.0) is None


def test_losses_are_seeded_and_a_tenth():
    """The same seed loses the same samples, another one others; the beginning stays."""
    run = quiet_run(2000)
    lost = with_losses(run, 1)
    assert 0.85 < len(lost.t_s) / len(run.t_s) < 0.95
    assert lost.t_s.tolist() == with_losses(run, 1).t_s.tolist() != with_losses(run, 2).t_s.tolist()
    assert lost.start_s == run.start_s


def test_variants_name_only_what_was_recorded():
    """Without a run at 0.1 s there is no such row; with one, it stands beside itself thinned."""
    slow = variants([quiet_run(100)], 1)
    assert "recorded at 0.1 s" not in slow
    assert [at for at, _run in slow["10 s"]] == [0]
    both = variants([quiet_run(100), run_of(np.full(300, 0.5), cadence_s=0.1)], 1)
    assert [at for at, _run in both["recorded at 0.1 s"]] == [at for at, _run in both["0.1 s, thinned to 1 s"]] == [1]
