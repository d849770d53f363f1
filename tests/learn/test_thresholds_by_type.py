"""Alarm thresholds of a device type: its own where it has reason to, the global ones where it has not."""

from __future__ import annotations

import numpy as np

from oomguard.learn.protocol.events import total
from oomguard.learn.thresholds.levels import Cost, fit_by_type, margin_of, tally, track_of

from .made import killed_run, run_of

GLOBAL = (0.5, 0.5, 0.5, 0.5, 0.5)
COST = Cost(20.0, 1.0)


def quiet(device_type, at):
    """Return an hour and a half of quiet."""
    return run_of(np.full(5400, 0.4), device_type=device_type, run_id=f"{device_type}-quiet-{at}")


def killed(device_type, at):
    """Return a run killed after 700 s."""
    return killed_run(700, device_type=device_type, run_id=f"{device_type}-{at}")


def type_of(device_type, kills, said_before_kill, said_in_quiet=0.05):
    """Return runs and forecasts: this much is said in the 300 s before kills, and that much at any other time."""
    runs = [killed(device_type, at) for at in range(kills)] + [quiet(device_type, at) for at in range(2)]
    said = [np.where((run.t_s >= 400) & (len(run.kills_s) > 0), said_before_kill, said_in_quiet) for run in runs]
    return runs, [np.repeat(one[:, None], 5, axis=1) for one in said]


def fitted(*types):
    """Return fit_by_type over some types together."""
    runs, forecasts = [run for one in types for run in one[0]], [said for one in types for said in one[1]]
    return fit_by_type(runs, forecasts, COST, GLOBAL), runs, forecasts


def test_a_type_whose_kills_are_told_faintly_gets_lower_thresholds():
    """The model says 0.3 before its kills: below that, at a tenth of what the global thresholds cost the fleet."""
    by_type, runs, forecasts = fitted(type_of("faint", 12, 0.3), type_of("loud", 12, 0.9))
    assert by_type["faint"].thresholds[0] < 0.3

    def price(pick):
        return COST.of(total(tally(track_of(run, margin_of(run, said, pick(run.device_type))), 0.0)
                             for run, said in zip(runs, forecasts, strict=True)))

    assert price(lambda name: by_type[name].thresholds) < 0.1 * price(lambda _name: GLOBAL)


def test_a_type_that_is_told_wolf_gets_higher_thresholds():
    """Half its quiet time the model says 0.6: its thresholds rise above that, and its kills at 0.9 are still caught."""
    by_type, _, _ = fitted(type_of("wolf", 12, 0.9, 0.6), type_of("calm", 12, 0.9))
    assert 0.6 < by_type["wolf"].thresholds[0] < 0.9
    assert 0.05 < by_type["calm"].thresholds[0] < 0.9


def test_too_few_kills_or_hours_mean_the_global_thresholds():
    """Nine kills told faintly change nothing, ten do."""
    nine, _, _ = fitted(type_of("faint", 9, 0.3), type_of("loud", 12, 0.9))
    ten, _, _ = fitted(type_of("faint", 10, 0.3), type_of("loud", 12, 0.9))
    assert (nine["faint"].thresholds, nine["faint"].kills) == (GLOBAL, 9)
    assert ten["faint"].is_own
    runs = [killed_run(400, device_type="short", run_id=str(at)) for at in range(12)]
    short = fit_by_type(runs, [np.full((len(run.t_s), 5), 0.3) for run in runs], COST, GLOBAL)["short"]
    assert 0 < short.quiet_h < 1
    assert not short.is_own


def test_types_that_are_alike_stay_together():
    """One lucky or unlucky run in a type of a fleet of equals moves nothing: the fleet weighs more."""
    types = [type_of(f"t{at}", 12, 0.9) for at in range(6)]
    types[0][1][0][:] = 0.1                     # one missed kill
    by_type, _, _ = fitted(*types)
    assert not any(one.is_own for one in by_type.values())


def test_plain_levels_are_moved_by_no_threshold():
    """Where the model abstains and headroom is short the plain level alarms, whatever a type's thresholds."""
    runs, forecasts = type_of("mute", 12, 0.9)
    for run, said in zip(runs, forecasts, strict=True):
        if len(run.kills_s):
            said[:] = np.nan
    assert not fit_by_type(runs, forecasts, COST, GLOBAL)["mute"].is_own
