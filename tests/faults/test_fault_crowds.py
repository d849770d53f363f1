"""Ten thousand short lives: each is guarded, ends, and leaves nothing behind in the guard."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LIVES = 10_000 if os.environ.get("OOMGUARD_DEVICE") else 2_000      # the ten thousand of `make test-all`

# In a process of its own, so that it can be weighed. Each life is a real process, found by its number, read, and dead
# at a random place: before it is looked for, between ticks, or while it is read.
CROWD = """\
import os, random, sys, tempfile
from oomguard import guards
from oomguard.act.runner import Runner
from oomguard.briefing import Briefing, Options
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.measure.living import weight
from oomguard.profile import Profile
from oomguard.record.journal import Journal
from oomguard.record.segments import Limits
from oomguard.sense.machine import Machine

lives, kind, chance = int(sys.argv[1]), sys.argv[2], random.Random(1)
GROUP = "/sys/fs/cgroup/memory" if os.path.isdir("/sys/fs/cgroup/memory") else "/sys/fs/cgroup"
said = {}

def tell(event, severity="info", /, **_fields):
    said[event] = said.get(event, 0) + 1

def begin():
    if kind == "cgroup":
        os.mkdir(f"{GROUP}/oomguard-crowd-{os.getpid()}")
        return TargetPlan("crowd", "cgroup", f"/oomguard-crowd-{os.getpid()}"), 0
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    return TargetPlan("crowd", "pid", str(pid)), pid

def end(pid):
    if kind == "cgroup":
        os.rmdir(f"{GROUP}/oomguard-crowd-{os.getpid()}")
    else:
        os.kill(pid, 9)
        os.waitpid(pid, 0)

with tempfile.TemporaryDirectory(prefix="og-crowd-") as folder:
    machine, runner = Machine(), Runner()
    plan = Plan(targets=(), rules=(), profile=Profile())
    its = guards.Guards(Briefing(plan, None, Options(folder)), machine, runner, [], tell)
    its.journal = Journal.open(folder + "/journal", Limits(total_bytes=1 << 20, segment_bytes=1 << 17))
    for life in range(1, lives + 1):
        target, pid = begin()
        its.targets = (target,)
        dies = chance.randrange(4)
        if dies == 0:
            end(pid)
        its.look_for_targets()
        its.tick(0.0)
        if dies == 1:
            end(pid)
            for fd in its.end_fds():
                its.lose(fd)
        its.tick(0.0)
        if dies > 1:
            end(pid)
        while its.by_name:
            its.tick(0.0)
        if life in (lives // 10, lives):
            files = sum(len(names) for _at, _folders, names in os.walk(folder))
            print(weight(os.getpid()).rss_bytes, len(os.listdir("/proc/self/fd")), files, flush=True)
    print(said.get("guarding", 0), said.get("target-gone", 0), its.journal.lost_samples, flush=True)
    its.close()
    its.journal.close()
"""


@pytest.mark.parametrize(("kind", "lives"), [("process", LIVES), ("cgroup", LIVES // 10)])
@pytest.mark.timeout(600)
def test_short_lives_leave_nothing_behind(kind: str, lives: int) -> None:
    """Processes by the thousand, cgroups by the hundred: memory, descriptors, files are as after the first tenth."""
    done = subprocess.run([sys.executable, "-c", CROWD, str(lives), kind], capture_output=True, text=True, timeout=590)
    if "PermissionError" in done.stderr or "Read-only" in done.stderr:
        pytest.skip("no memory cgroup can be made")
    assert done.returncode == 0, done.stderr
    early, late, told = (list(map(int, line.split())) for line in done.stdout.splitlines())
    assert late[0] - early[0] <= 512 << 10          # the journal's list of segments among it
    assert late[1] == early[1]
    assert late[2] <= early[2] + 10                 # the journal's, which are bounded
    guarded, gone, lost = told
    assert guarded == gone > lives // 2
    assert lost == 0
