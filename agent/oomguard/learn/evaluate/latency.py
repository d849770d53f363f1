"""What a score costs on this machine: the device's own scorer, over windows of recorded runs."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from oomguard import features
from oomguard.act.runner import Runner
from oomguard.clock import now_s
from oomguard.errors import BundleError
from oomguard.learn.label.examples import speaks_at
from oomguard.net import Net
from oomguard.ring import SPAN_S
from oomguard.scorer import Model, open_scorer
from oomguard.sense.sample import Sample
from oomguard.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oomguard.forest import Forest
    from oomguard.learn.dataset import Run
    from oomguard.net_scorer import NetScorer
    from oomguard.profile import Profile
    from oomguard.scorer import Scorer

WINDOWS = 256           # different ones, so that neither branches nor caches are flattered
PASSES = 8
ANSWER_WITHIN_S = 30.0
NUMBERS = tuple(name for name in Sample._fields if name not in ("constraint", "phase"))


class Latency(NamedTuple):
    """Microseconds: what a tick waits for, and how long a net's answer takes to come."""

    score_p50_us: float
    score_p99_us: float
    answer_p50_us: float | None


def windows_of(runs: Sequence[Run], seed: int, count: int = WINDOWS) -> list[tuple[Window, Profile]]:
    """Return windows of recorded runs, each as it stood at a random moment when a model may speak."""
    rng = np.random.default_rng(seed)
    real = [run for run in runs if not run.is_simulated and speaks_at(run).any()]
    made = []
    for at in rng.integers(len(real), size=count if real else 0).tolist():
        run = real[at]
        made.append((_window(run, int(rng.choice(np.flatnonzero(speaks_at(run))))), run.profile))
    return made


def _window(run: Run, last: int) -> Window:
    window = Window.in_memory(run.start_s)
    first = int(np.searchsorted(run.t_s, run.t_s[last] - SPAN_S))
    columns = [run.columns[name][first:last + 1].tolist() for name in NUMBERS]
    for at, numbers in enumerate(zip(*columns, strict=True), first):
        window.push(Sample(**dict(zip(NUMBERS, numbers, strict=True)), constraint=run.constraint[at]))
    return window


def latency_of(forest: Forest | Net, windows: Sequence[tuple[Window, Profile]]) -> Latency:
    """Measure a model's scorer, with a real helper where the model is a net.

    Raises:
        BundleError: the helper does not run the net.
    """
    model = Model("measured", "", forest, (0.5,) * 5, 0.9, {})
    runner = Runner()
    try:
        answer_us = _answer_us(runner, forest, windows) if isinstance(forest, Net) else None
        pairs = [(open_scorer(model, profile, runner, _ignore), window) for window, profile in windows]
        for scorer, window in pairs:
            scorer.score(window)                    # it holds the window from here on, as a guard's does
        times_us = [_time_us(scorer, window) for _ in range(PASSES) for scorer, window in pairs]
        for scorer, _window in pairs:
            scorer.release()
    finally:
        runner.close()
    return Latency(float(np.percentile(times_us, 50)), float(np.percentile(times_us, 99)), answer_us)


def _ignore(_event: str, *_severity: str, **_fields: object) -> None:
    """Tell nobody."""


def _time_us(scorer: Scorer | NetScorer, window: Window) -> float:
    begun_ns = time.perf_counter_ns()
    scorer.score(window)
    return (time.perf_counter_ns() - begun_ns) / 1e3


class _Stopwatch:
    """Asks one row at a time, and takes the time of the answer."""

    def __init__(self) -> None:
        self.tick = self.of_tick = 0

    def answered(self, tick: int, _classes: Sequence[float]) -> None:
        self.of_tick = tick


def _answer_us(runner: Runner, net: Net, windows: Sequence[tuple[Window, Profile]]) -> float:
    """Return the median time from a question to its answer, once the helper has loaded the net."""
    stopwatch, poll = _Stopwatch(), select.poll()
    refused: list[dict[str, object]] = []
    scoring = runner.scoring(net.onnx, lambda _event, *severity, **fields: refused.extend(severity and [fields]))
    for fd in runner.fds():
        poll.register(fd, select.POLLIN)
    found_us = []
    for window, profile in windows:
        row = features.of(window.buffer, features.statics(profile)).tobytes()
        begun_s, stopwatch.tick = time.perf_counter(), stopwatch.tick + 1
        scoring.ask(stopwatch, stopwatch.tick, row)
        runner.poll(now_s())
        while stopwatch.of_tick < stopwatch.tick:
            if refused or time.perf_counter() - begun_s > ANSWER_WITHIN_S:
                raise BundleError(f"the helper does not run the net: {refused or runner.last_problem}")
            poll.poll(100)
            runner.poll(now_s())
        found_us.append((time.perf_counter() - begun_s) * 1e6)
    return float(np.median(found_us[1:]))       # the first one waited for the net to be loaded
