"""Calibration, thresholds, baselines and examples on data whose answers are plain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard import features
from oomguard.forest import MAX_KNOTS, MIN_WINDOW_S, calibrated, check_calibration
from oomguard.learn.evaluate import baselines
from oomguard.learn.label.examples import HIDEABLE, Examples, examples_of, hidden, left_out, run_weights, speaks_at
from oomguard.learn.protocol.events import tally, track_of
from oomguard.learn.thresholds.levels import Cost, cheapest, fit_thresholds, margin_of
from oomguard.learn.train.calibrate import apply_knots, calibrate_all, fit_knots

from .made import killed_run, quiet_run, run_of


def test_calibration_learns_what_was_observed():
    """Scores that overstate threefold are brought down to the observed share."""
    rng = np.random.default_rng(1)
    raw = rng.random(20000)
    knots = fit_knots(raw, rng.random(20000) < raw / 3, np.ones(20000))
    assert np.abs(apply_knots(knots, np.array([0.2, 0.5, 0.9])) - np.array([0.2, 0.5, 0.9]) / 3).max() < 0.03


@given(st.integers(0, 1000), st.integers(2, 300))
def test_knots_are_what_the_forest_takes(seed, n):
    """However odd the data: at most 16 knots, rising, and the device interpolates between them as learning does."""
    rng = np.random.default_rng(seed)
    raw = np.round(rng.random((n, 5)), 2)
    labels = rng.integers(0, 6, n).astype(np.int8)
    curves = calibrate_all(raw, labels, rng.random(n) + 0.1)
    check_calibration(curves)
    assert all(len(curve) <= MAX_KNOTS for curve in curves)
    for said in (0.0, 0.013, 0.5, 1.0):
        assert calibrated(curves[0], said) == pytest.approx(float(apply_knots(curves[0], np.array([said]))[0]))


def test_the_cost_weighs_a_miss_against_false_alarms():
    """At one kill an hour and 20 : 1, missing all costs 20 an hour; always alarming costs its twelve."""
    runs = [killed_run(700), quiet_run(3900)]
    cost = Cost(20.0, 1.0)

    def price(score):
        counts = [tally(track_of(run, np.full(len(run.t_s), score)), 0.5) for run in runs]
        from oomguard.learn.protocol.events import total
        return cost.of(total(counts))

    assert price(0.0) == 20.0
    assert 12.0 <= price(1.0) < 13.5


def test_the_cheapest_threshold_lies_between_quiet_and_killed():
    """Where scores separate, the chosen threshold catches all and alarms on nothing; of equals, the highest wins."""
    runs = [killed_run(700), quiet_run(1000)]
    tracks = [track_of(run, np.full(len(run.t_s), score)) for run, score in zip(runs, (0.8, 0.3), strict=True)]
    tracks[0] = track_of(runs[0], np.where(runs[0].t_s > 420, 0.8, 0.0))
    chosen = cheapest(tracks, (0.1, 0.5, 0.7, 0.9), Cost())
    assert chosen == 0.7


def test_thresholds_alarm_on_kills_and_not_on_quiet():
    """With forecasts that know, level ≥ 1 stands before the kill and never in the quiet run."""
    runs = [killed_run(700), quiet_run(1000)]
    forecasts = [np.stack([np.where(runs[0].t_s >= 700 - h, 0.9, 0.05) for h in (60, 120, 180, 240, 300)], axis=1),
                 np.full((1001, 5), 0.1)]
    thresholds = fit_thresholds(runs, forecasts, Cost())
    counts = [tally(track_of(run, margin_of(run, forecast, thresholds)), 0.0)
              for run, forecast in zip(runs, forecasts, strict=True)]
    assert counts[0].caught.tolist() == [1, 1, 1, 1]
    assert (counts[0].false, counts[1].false) == (0, 0)


def test_a_higher_level_asks_for_more_certainty():
    """Where alarms are false now and then, level 5 of the same number stands higher than level 1."""
    kills = [killed_run(700) for _ in range(6)]
    quiet = [quiet_run(1900) for _ in range(6)]
    numbers = [np.where(run.t_s >= 640, 0.3 + 0.1 * at, 0.05) for at, run in enumerate(kills)]
    numbers += [np.where(run.t_s % 400 < 5, 0.25 + 0.06 * at, 0.05) for at, run in enumerate(quiet)]
    forecasts = [np.repeat(number[:, None], 5, axis=1) for number in numbers]
    thresholds = fit_thresholds([*kills, *quiet], forecasts, Cost())
    assert thresholds[0] > thresholds[4]


def test_without_a_forecast_the_plain_level_decides():
    """NaN forecasts alarm at 30 % headroom and less, as the device's plain levels do."""
    run = run_of([0.5, 0.69, 0.71, 0.9])
    margin = margin_of(run, np.full((4, 5), np.nan), (0.5,) * 5)
    assert (margin >= 0).tolist() == [False, False, True, True]


def test_linear_baselines_know_a_straight_line():
    """On a straight leak the line's seconds to the limit are exact, at every span."""
    run = killed_run(400)
    for span_s in baselines.FITS_S:
        score = next(b for b in baselines.all_baselines() if b.name == f"linear {span_s} s").score(run)
        assert score[300] == pytest.approx(-100.0, abs=1e-6)
        assert np.isneginf(score[0])          # one sample is no line


def test_a_falling_program_never_alarms_by_its_line():
    """Memory that is given back has no time to the limit."""
    run = run_of(np.linspace(0.9, 0.2, 200))
    assert np.isneginf(baselines.ema_score(run)).all()


def test_earlyoom_waits_for_swap_too():
    """With swap free, memory below 10 % is not yet enough."""
    run = run_of([0.95, 0.95])
    assert baselines.earlyoom_score(run)[0] == pytest.approx(-0.05)
    run.columns["swap_limit_bytes"][:] = 100.0
    run.columns["swap_free_bytes"][:] = [50.0, 5.0]
    assert baselines.earlyoom_score(run).tolist() == pytest.approx([-0.5, -0.05])


def test_psi_is_the_share_of_the_last_two_seconds():
    """200 ms of stall in 2 s is systemd's default: exactly at the threshold."""
    run = run_of(np.full(5, 0.5))
    run.columns["psi_some_us"][:] = [0, 0, 0, 100_000, 200_000]
    assert baselines.psi_share(run)[4] == pytest.approx(0.1)
    assert np.isnan(baselines.psi_share(run)[0])


def test_every_baseline_of_the_design_is_there():
    """Thresholds, lines, slope, pressure, earlyoom, always and never."""
    names = {baseline.name for baseline in baselines.all_baselines()}
    assert {"level threshold", "per-type threshold", "linear 30 s", "linear 60 s", "linear 120 s", "linear 300 s",
            "EMA slope", "PSI rule", "earlyoom's rule", "constant", "never"} <= names


def test_examples_are_labelled_rows_of_windows_long_enough():
    """No example from the first 5 s, none unlabelled, at most as many as asked for."""
    runs = [killed_run(200, run_id="k"), quiet_run(1000, run_id="q"), killed_run(5, run_id="young")]
    examples = examples_of(runs, 50, 10, seed=1)
    assert set(examples.run.tolist()) == {0, 1}
    assert examples.t_s.min() >= MIN_WINDOW_S
    assert examples.t_s[examples.run == 1].max() <= 700
    assert np.bincount(examples.run).max() <= 51
    assert not speaks_at(runs[2]).any()


def test_danger_weighs_the_same_at_each_age():
    """A run that is killed young and one that is quiet for long: age alone must not tell them apart."""
    runs = [killed_run(250, app="a", run_id="k"), quiet_run(1000, app="b", run_id="q"),
            killed_run(600, app="c", run_id="late")]
    examples = examples_of(runs, 300, 10, seed=1)
    weight, is_young = run_weights(examples, runs, 0.0), examples.t_s < 200
    shares = [np.average(examples.labels[part] > 0, weights=weight[part]) for part in (is_young, ~is_young)]
    assert shares[0] == pytest.approx(shares[1], abs=0.15)
    plain = [np.mean(examples.labels[part] > 0) for part in (is_young, ~is_young)]
    assert abs(plain[0] - plain[1]) > abs(shares[0] - shares[1])


def test_programs_weigh_the_same_however_many_rows_they_have():
    """Two programs, one with ten times the rows, and simulated runs with their share of the whole."""
    runs = [quiet_run(400, app="a"), quiet_run(400, app="b"), run_of(np.full(50, 0.5), is_simulated=True)]
    index = np.array([0] * 100 + [1] * 10 + [2] * 50, np.int32)
    nothing = Examples(np.zeros((160, features.COUNT), np.float32), np.zeros(160, np.int8), index, np.zeros(160))
    weight = run_weights(nothing, runs, 0.8)
    share = np.bincount(index, weight) / weight.sum()
    assert share == pytest.approx([0.1, 0.1, 0.8])


def test_facts_are_hidden_by_run_and_left_out_everywhere():
    """A group is unknown in whole runs, about as many as asked; left-out features are unknown in all."""
    rows, run = np.ones((3000, features.COUNT), np.float32), np.repeat(np.arange(300, dtype=np.int32), 10)
    is_hidden = np.isnan(hidden(rows, run, 0.4, seed=3)[:, features.NAMES.index("cache_capacity_ratio")])
    assert 0.3 < is_hidden.mean() < 0.5
    assert all(len(set(is_hidden[run == one].tolist())) == 1 for one in range(300))
    assert all(name in features.NAMES for names in HIDEABLE.values() for name in names)
    assert np.isnan(left_out(rows, ("log2_ram",))[:, features.NAMES.index("log2_ram")]).all()
