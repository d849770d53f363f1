"""A real daemon on the whole system, at 20 ticks a second, that tells at its end what each tick went through:

how late it began, how long it took, and for how long it was held up by what the daemon served when it fell due. That
last one counts the daemon's own CPU time, so that neighbours on a busy machine have no part in it.

    python bench/timed_daemon.py SOCKET
"""

from __future__ import annotations

import json
import os
import sys
import time

from oomguard.briefing import Briefing, Options
from oomguard.clock import now_s
from oomguard.daemon import Daemon
from oomguard.decide.plan import Bounds, TargetPlan
from oomguard.guards import Guards
from oomguard.measure import stages

CADENCE_S = 0.05

path = sys.argv[1]
plan = stages.load_rules(stages.shipped_pack())._replace(
    profile=stages.detect_profile(), cadence_s=CADENCE_S, targets=(TargetPlan("system", "system"),),
    bounds=Bounds(100_000, 0.0))            # releases are asked for as fast as they come back
late_us, took_us, held_us = [], [], []
plain_tick, plain_serve = Guards.tick, Daemon._serve
holding_us = [0.0]          # since the last tick


def tick(self, late_s):
    """Tick, and note how late it began and how long it took."""
    held_us.append(holding_us[0])
    holding_us[0] = 0.0
    start_ns = time.perf_counter_ns()
    plain_tick(self, late_s)
    took_us.append((time.perf_counter_ns() - start_ns) / 1000)
    late_us.append(late_s * 1e6)


def serve(self, fd, events):
    """Serve, and note what of it fell behind the next tick's time."""
    due_s, begin_s, cpu_ns = self._ticker.due_s, now_s(), time.thread_time_ns()
    plain_serve(self, fd, events)
    used_us = (time.thread_time_ns() - cpu_ns) / 1000
    if now_s() > due_s:
        holding_us[0] += used_us if begin_s > due_s else min(used_us, (now_s() - due_s) * 1e6)


Guards.tick, Daemon._serve = tick, serve
folder = os.path.dirname(path)
Daemon(Briefing(plan, stages.inputs.model()[0], Options(folder, path, log_file=os.devnull))).run()
print(json.dumps({"late_us": late_us, "took_us": took_us, "held_us": held_us}))
