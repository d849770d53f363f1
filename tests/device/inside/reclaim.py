"""Carry out one reclaim hook on a cgroup through the helper process and print its outcome."""

import json
import select
import sys

from oomguard.act.hooks import Hook, Request
from oomguard.act.runner import Runner
from oomguard.clock import now_s
from oomguard.decide.plan import HookPlan

runner = Runner()
hook = Hook.from_plan(HookPlan("page-cache", "reclaim", deadline_s=20.0))
runner.register(hook)
outcomes = []
runner.start(hook, Request(level=3, needed_bytes=int(sys.argv[2]), deadline_s=20.0, target="lab", cgroup=sys.argv[1]))
while not outcomes:
    select.select(runner.fds(), [], [], max(runner.wake_at_s() - now_s(), 0))
    outcomes = runner.poll(now_s())
runner.close()
print(json.dumps(outcomes[0]._asdict()))
