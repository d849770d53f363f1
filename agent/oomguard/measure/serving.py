"""Stages around the tick: a sample on record, a hook asked and heard, rules and model taken up again."""

from __future__ import annotations

import os
import random
import select
import tempfile
from contextlib import ExitStack

from oomguard.act.hooks import Hook, Request
from oomguard.act.runner import Runner
from oomguard.briefing import Briefing, Options, read_briefing, write_briefing
from oomguard.clock import now_s
from oomguard.decide.plan import TargetPlan
from oomguard.errors import BundleError
from oomguard.measure import inputs
from oomguard.measure.stages import CALLS, TICKS, Bench, SkippedError, Stage, Ticking
from oomguard.measure.timing import Figures, time_each
from oomguard.profile import Profile
from oomguard.record.facts import run_facts
from oomguard.record.journal import Journal
from oomguard.sense.sample import Sample
from oomguard.trust.bundle import load_shipped

TIMES_FEWER, RELOADS = 10, 300
PATIENCE_S = 5.0
ASKED = Request(3, 1 << 20, deadline_s=1.0, reason="measured", target="bench")


def record(bench: Bench) -> Figures:
    """A tick of one target on record: its sample, and the write that hands it to the kernel."""
    n = TICKS // bench.quick
    samples = inputs.random_run(random.Random(inputs.SEED), int(n * 1.2), cadence_s=1.0)  # noqa: S311  no secret
    with _folder() as folder:
        journal = Journal.open(folder)
        recorder = journal.run(run_facts("bench", "bench", 0.0, Profile()))
        begun_s = now_s()

        def tick(sample: Sample) -> None:
            recorder.sample(sample)
            journal.tick(begun_s + sample.t_s)
        figures = time_each(tick, [(sample,) for sample in samples], n)
        journal.close()
    return figures


def hook_inline(bench: Bench) -> Figures:
    """A hook that is called at once: asked, done, its outcome fetched."""
    runner, hook = Runner(), Hook.from_call("bench", lambda _request: 1, is_inline=True)
    try:
        return time_each(lambda: (runner.start(hook, ASKED), runner.poll(now_s())), [()],
                         CALLS // TIMES_FEWER // bench.quick)
    finally:
        runner.close()


def hook_thread(bench: Bench) -> Figures:
    """A hook on the worker thread: asked, woken, done, and its outcome fetched when the loop is woken for it."""
    runner, hook = Runner(), Hook.from_call("bench", lambda _request: 1)
    runner.register(hook)
    descriptors = runner.fds()

    def ask() -> None:
        runner.start(hook, ASKED)
        while not runner.poll(now_s()):
            select.select(descriptors, [], [], PATIENCE_S)
    try:
        return time_each(ask, [()], CALLS // TIMES_FEWER // bench.quick)
    finally:
        runner.close()


def reload(bench: Bench) -> Figures:
    """What the daemon stands still for: the checked briefing read, every target taken up again with its window."""
    try:
        bundle = load_shipped()
    except BundleError as error:
        raise SkippedError(str(error)) from None
    targets = (TargetPlan("process", "self"), TargetPlan("system", "system"))
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        ticking = Ticking(targets, bench.model, bench.plan, stack)
        path = os.path.join(folder, "briefing")
        with open(path, "wb") as file:
            file.write(write_briefing(bench.plan._replace(targets=targets), bundle, Options(folder)))

        def take_up() -> None:
            briefing: Briefing = read_briefing(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            ticking.guards.reload(briefing, [], targets)
        return time_each(take_up, [()], RELOADS // bench.quick)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="oomguard-bench-")


STAGES: dict[str, Stage] = {"record": record, "hook_inline": hook_inline,
                            "hook_thread": hook_thread, "reload": reload}
