"""So many ticks without waiting: sensors, windows, rules and journal as they are, and a clock that ticks with them."""

from __future__ import annotations

import subprocess
import sys
import time

# In a process of its own, so that nothing else is weighed. Ten readings a second: a million ticks are 28 hours, in
# which segments fill and are dropped (the journal may have 1 MiB), and flushes come and go.
DRIVEN = """\
import os, sys, tempfile
from contextlib import ExitStack
from oomguard import guard, guards
from oomguard.act.runner import Runner
from oomguard.briefing import Briefing, Options
from oomguard.decide.plan import TargetPlan
from oomguard.measure import stages
from oomguard.measure.living import weight
from oomguard.record import journal as journals
from oomguard.record import segments
from oomguard.record.segments import Limits
from oomguard.sense.machine import Machine
from oomguard.ring import WINDOW_BYTES

ticks, at_s = int(sys.argv[1]), 1000.0
clock = lambda: at_s
for module in (guard, guards, journals, segments):
    module.now_s = clock
with ExitStack() as stack:
    plan = stages.load_rules(stages.shipped_pack())._replace(profile=stages.detect_profile(), cadence_s=0.1)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="og-soak-"))
    targets = [TargetPlan("process", "self"), TargetPlan("system", "system")]
    briefing = Briefing(plan._replace(targets=tuple(targets)), stages.inputs.model()[0], Options(folder))
    machine, runner = Machine(), Runner()
    its = guards.Guards(briefing, machine, runner, [], lambda *_event, **_fields: None)
    its.journal = journals.Journal.open(folder + "/journal", Limits(total_bytes=1 << 20, segment_bytes=1 << 17))
    for close in (machine.close, runner.close, its.journal.close, its.close):
        stack.callback(close)
    its.look_for_targets()
    assert len(its.by_name) == 2
    for tick in range(1, ticks + 1):
        at_s += 0.1
        its.tick(0.0002)
        if tick in (ticks // 10, ticks // 2, ticks):
            files = [os.path.getsize(f"{at}/{name}") for at, _folders, names in os.walk(folder) for name in names]
            print(tick, weight(os.getpid()).rss_bytes, len(os.listdir("/proc/self/fd")), len(files), sum(files),
                  its.by_name["system"].window.samples_total, its.journal.lost_samples, flush=True)
"""
RSS_GROWTH_MOST_BYTES = 64 << 10    # as bench/test_footprint.py has it
NAMES = ("ticks", "rss_bytes", "fds", "files", "files_bytes", "samples", "lost_samples")


def drive(ticks: int) -> dict[str, object]:
    """Drive so many ticks; return what the guard weighed after a tenth of them, half, and all."""
    begin_s = time.monotonic()
    out = subprocess.check_output([sys.executable, "-c", DRIVEN, str(ticks)], text=True)
    points = [dict(zip(NAMES, map(int, line.split()), strict=True)) for line in out.splitlines()]
    early, _half, late = points
    return {"took_s": round(time.monotonic() - begin_s), "points": points,
            "is_kept": late["rss_bytes"] - early["rss_bytes"] <= RSS_GROWTH_MOST_BYTES and late["fds"] <= early["fds"]
            and late["lost_samples"] == 0 and late["samples"] == ticks}
