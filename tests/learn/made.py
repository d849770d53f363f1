"""Small runs whose right answers are known by hand."""

from __future__ import annotations

import numpy as np

from oomguard.learn.dataset import NUMBERS, Run
from oomguard.profile import Profile

LIMIT = 100.0 * (1 << 20)


def run_of(used, *, cadence_s=1.0, t_s=None, kills=(), releases=(), ended=None, end_s=None, app="app", run_id="run",
           device_type="generic", profile=None, is_simulated=False):
    """Return a run whose used/limit ratio is given per sample; it ends in a kill where `kills` says so."""
    used = np.asarray(used, float)
    times = np.arange(len(used)) * cadence_s if t_s is None else np.asarray(t_s, float)
    columns = {"t_s": times, **{name: np.full(len(used), np.nan) for name in NUMBERS}}
    columns |= {"limit_bytes": np.full(len(used), LIMIT), "used_bytes": used * LIMIT,
                "headroom_bytes": (1 - used) * LIMIT, "late_s": np.zeros(len(used))}
    ended = ended or ("oom" if len(kills) else "stopped")
    last = float(kills[-1]) if ended == "oom" else float(times[-1])
    end_s = last if end_s is None else end_s
    return Run(run_id, app, device_type, profile or Profile(), columns, ["c"] * len(used), [None] * len(used),
               np.asarray(kills, float), np.asarray(releases, float), ended, end_s, is_simulated)


def quiet_run(length_s, **more):
    """Return a run of one sample a second that was stopped after `length_s`."""
    return run_of(np.full(int(length_s) + 1, 0.5), **more)


def killed_run(kill_s, **more):
    """Return a run of one sample a second that grew in a straight line and was killed at `kill_s`."""
    times = np.arange(0.0, kill_s)
    return run_of(0.1 + 0.9 * times / kill_s, t_s=times, kills=[kill_s], **more)
