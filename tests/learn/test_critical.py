"""The critical threshold is where the rate of kills jumps, and says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from oomguard.learn.thresholds.critical import DEFAULT_RATIO, change_points, own_of, study_of
from oomguard.learn.thresholds.histograms import BINS, readings_of

from .made import quiet_run, run_of


def leak_to(ratio, *, begin=0.2, length_s=600, **more):
    """Return a run that grows evenly and is killed when it reaches `ratio`."""
    times = np.arange(0.0, length_s)
    return run_of(begin + (ratio - begin) * times / length_s, kills=(float(length_s),), **more)


def leaks_to(centre, count, seed, **more):
    """Return leaks killed around a ratio."""
    levels = centre + np.random.default_rng(seed).uniform(0.0, 0.02, count)
    return [leak_to(level, run_id=f"{seed}-{at}", **more) for at, level in enumerate(levels)]


def test_the_rate_of_kills_jumps_where_it_was_made_to():
    """Even time everywhere, kills from bin 120 on only: the change-point is 120, to the bin."""
    exposure_s, kills = np.full((1, BINS), 100.0), np.zeros((1, BINS))
    kills[0, 120:140:2] = 1
    assert change_points(exposure_s, kills).tolist() == [120]


def test_a_lone_kill_at_the_top_is_no_concentration():
    """Half the kills must lie beyond: nine at 0.5 and one at 0.995 where hardly any time is spent."""
    exposure_s, kills = np.full((1, BINS), 100.0), np.zeros((1, BINS))
    exposure_s[0, 199] = 0.01
    kills[0, 100], kills[0, 199] = 9, 1
    assert change_points(exposure_s, kills).tolist() == [100]


def test_kills_that_fall_with_memory_have_no_threshold():
    """The more is used the rarer the kills: no jump up, no threshold."""
    exposure_s, kills = np.full((1, BINS), 100.0), np.zeros((1, BINS))
    kills[0, :50] = 1
    assert change_points(exposure_s, kills).tolist() == [0]


def test_hours_held_without_a_kill_move_the_threshold_beyond():
    """Six kills at 0.8, fourteen at 0.9: the threshold is 0.8, but 0.9 where a plateau at 0.81 was held for hours."""
    exposure_s, kills = np.full((2, BINS), 100.0), np.zeros((2, BINS))
    kills[:, 160:166] = 1
    kills[:, 180:194] = 1
    exposure_s[1, 163] += 4 * 3600
    assert change_points(exposure_s, kills).tolist() == [160, 180]


def test_more_kills_make_it_surer():
    """The interval of 60 kills is within that of 6, and holds the truth."""
    few, many = (own_of(readings_of(leaks_to(0.8, count, 2))["generic"]) for count in (6, 60))
    assert many.error < few.error
    assert many.interval[0] <= 0.8 <= many.interval[1]


def test_two_kills_say_nothing_of_their_own_and_three_do():
    """A type with two kills has the fleet's figure."""
    assert own_of(readings_of(leaks_to(0.8, 2, 3))["generic"]) is None
    assert own_of(readings_of(leaks_to(0.8, 3, 3))["generic"]) is not None


def test_a_type_without_kills_has_the_fleets_threshold_and_a_wide_interval():
    """Three types killed at 0.7, 0.8 and 0.9; of the fourth nothing is known but that it is one of them."""
    runs = [run for at, level in enumerate((0.7, 0.8, 0.9)) for run in leaks_to(level, 20, at, device_type=f"t{at}")]
    study = study_of([*runs, quiet_run(900, device_type="new")])
    new, old = study.types["new"], study.types["t1"]
    assert 0.7 < new.ratio == study.ratio < 0.9
    assert new.pooled_share == 1.0
    assert new.interval == study.interval
    assert new.interval[1] - new.interval[0] > 2 * (old.interval[1] - old.interval[0])


def test_a_type_with_few_kills_leans_on_the_fleet_and_one_with_many_does_not():
    """Four types at 0.9, one said to be at 0.6 by three scattered kills: its figure moves towards 0.9."""
    fleet = [run for at in range(4) for run in leaks_to(0.88 + 0.01 * at, 40, at, device_type=f"t{at}")]
    odd = [leak_to(level, run_id=str(level), device_type="odd") for level in (0.45, 0.6, 0.95)]
    study = study_of(fleet + odd)
    assert study.types["odd"].own.ratio < study.types["odd"].ratio
    assert study.types["odd"].pooled_share > 5 * study.types["t0"].pooled_share
    assert study.types["t0"].ratio == pytest.approx(study.types["t0"].own.ratio, abs=0.01)


def test_without_kills_the_default_holds():
    """Nothing learned: 0.9, no interval, and nobody's own."""
    study = study_of([quiet_run(600), quiet_run(600, device_type="tv")])
    assert (study.ratio, study.interval, study.fleet) == (DEFAULT_RATIO, None, None)
    assert [one.ratio for one in study.types.values()] == [DEFAULT_RATIO] * 2


def test_the_same_runs_give_the_same_study():
    """Resampling is seeded; another seed changes an interval, never a threshold."""
    runs = leaks_to(0.8, 15, 5)
    first, again, other = study_of(runs), study_of(runs), study_of(runs, seed=2)
    assert first.types["generic"].own == again.types["generic"].own
    assert first.types["generic"].own.ratio == other.types["generic"].own.ratio
