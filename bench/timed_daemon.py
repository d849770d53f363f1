"""A real daemon that tells at its end what each tick went through: how late it began, how long it and its score took,

and for how long it was held up by what the daemon served when it fell due. That last one counts the daemon's own CPU
time, so that neighbours on a busy machine have no part in it.

    python bench/timed_daemon.py SOCKET                 the whole system, 20 ticks a second
    python bench/timed_daemon.py SOCKET CGROUP          a cgroup, 50 ticks a second, its memory not locked
    python bench/timed_daemon.py SOCKET CGROUP fifo     the same under SCHED_FIFO, its memory locked
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import time

from oomguard.briefing import Briefing, Options
from oomguard.clock import now_s
from oomguard.daemon import Daemon
from oomguard.decide.plan import Bounds, TargetPlan
from oomguard.guards import Guards
from oomguard.measure import stages
from oomguard.process import MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT
from oomguard.scorer import Scorer

CADENCE_S, CGROUP_CADENCE_S, PRIORITY = 0.05, 0.02, 10

path, *more = sys.argv[1:]
cadence_s, target = CADENCE_S, TargetPlan("system", "system")
if more:
    cadence_s, target = CGROUP_CADENCE_S, TargetPlan(more[0].rpartition("/")[2], "cgroup", more[0])
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))     # what process.lock_memory goes by: it locks nothing
if "fifo" in more:      # a unit has LimitMEMLOCK=infinity for that; here the right to lock is enough
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    if ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
        raise SystemExit("memory cannot be locked here")
plan = stages.load_rules(stages.shipped_pack())._replace(
    profile=stages.detect_profile(), cadence_s=cadence_s, targets=(target,),
    bounds=Bounds(100_000, 0.0))            # releases are asked for as fast as they come back
late_us, took_us, held_us, score_us = [], [], [], []
plain_tick, plain_serve, plain_score = Guards.tick, Daemon._serve, Scorer.score
holding_us = [0.0]          # since the last tick


def tick(self, late_s):
    """Tick, and note how late it began and how long it took."""
    held_us.append(holding_us[0])
    holding_us[0] = 0.0
    start_ns = time.perf_counter_ns()
    plain_tick(self, late_s)
    took_us.append((time.perf_counter_ns() - start_ns) / 1000)
    late_us.append(late_s * 1e6)


def score(self, window):
    """Score, and note how long it took."""
    start_ns = time.perf_counter_ns()
    forecast = plain_score(self, window)
    score_us.append((time.perf_counter_ns() - start_ns) / 1000)
    return forecast


def serve(self, fd, events):
    """Serve, and note what of it fell behind the next tick's time."""
    due_s, begin_s, cpu_ns = self._ticker.due_s, now_s(), time.thread_time_ns()
    plain_serve(self, fd, events)
    used_us = (time.thread_time_ns() - cpu_ns) / 1000
    if now_s() > due_s:
        holding_us[0] += used_us if begin_s > due_s else min(used_us, (now_s() - due_s) * 1e6)


Guards.tick, Daemon._serve, Scorer.score = tick, serve, score
folder = os.path.dirname(path)
Daemon(Briefing(plan, stages.inputs.model()[0], Options(folder, path, log_file=os.devnull))).run()
print(json.dumps({"late_us": late_us, "took_us": took_us, "held_us": held_us, "score_us": score_us}))
