"""The stages of the guard inside one process, each timed by itself: from one push to a whole tick."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from oomguard import features
from oomguard.act.runner import Runner
from oomguard.briefing import Briefing, Options
from oomguard.clock import now_s
from oomguard.decide.decide import decider_for
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.decide.rules import load_rules, shipped_pack
from oomguard.decide.view import View
from oomguard.enclosure import Enclosure
from oomguard.errors import OomguardError
from oomguard.forecast import Forecast
from oomguard.forest import Forest
from oomguard.guard import TargetGuard
from oomguard.guards import Guards
from oomguard.kernel import HAS_KERNEL, native
from oomguard.measure import inputs
from oomguard.measure.timing import Figures, time_cold, time_each, time_groups
from oomguard.scorer import Model, Scorer
from oomguard.sense.facts import detect_profile
from oomguard.sense.machine import Machine
from oomguard.sense.target import resolve
from oomguard.window import Window

CALLS, TICKS, COLD = 50_000, 20_000, 400         # of a microsecond, of tens, and with cold caches
BATCHES, BATCHED = (1, 10, 100, 1000, 10_000), 300_000      # targets in one call, and in all calls together
QUICK = 10                                      # so many times fewer with --quick
LOOP = 64                                       # windows a call where the kernel's own loop is timed: seldom preempted
NEAR, NEAR_TURNS = 32, 100                      # windows that fit the second-level cache together; 1 % are the first
RUNS, RUN_SAMPLES = 1200, 600                    # half a millisecond a call: seldom preempted
CGROUP_LIMIT_BYTES = 1 << 30


class SkippedError(OomguardError):
    """This machine or this installation cannot do the stage; the text says why."""


class Bench(NamedTuple):
    """What all stages share."""

    model: Model
    windows: list[Window]
    facts: list[array[float]]
    plan: Plan
    quick: int                  # 1, or QUICK

    @property
    def pairs(self) -> list[tuple[memoryview, array[float]]]:
        """Each window's memory with the facts of a device."""
        return [(window.buffer, self.facts[i % len(self.facts)]) for i, window in enumerate(self.windows)]


def prepare(quick: int = 1, windows: list[Window] | None = None) -> tuple[Bench, str]:
    """Return the inputs of the stages and, in words, which model they score with.

    Args:
        quick: so many times fewer calls.
        windows: what is scored; None for the made ones, which need no recordings.
    """
    model, said = inputs.model()
    plan = load_rules(shipped_pack())._replace(profile=detect_profile())
    return Bench(model, inputs.windows() if windows is None else windows, inputs.facts(), plan, quick), said


Stage = Callable[[Bench], Figures]


# -- the core ----------------------------------------------------------------------------------------------------

def score(bench: Bench) -> Figures:
    """Window to forecast, as the guard calls it."""
    return time_each(Scorer.score, scorers(bench), CALLS // bench.quick)


def score_near(bench: Bench) -> Figures:
    """The same with windows that the second-level cache still holds."""
    held = scorers(bench)
    sets = [held[at:at + NEAR] for at in range(0, len(held), NEAR)]
    n = CALLS // bench.quick
    wanted = -(-n // (NEAR * NEAR_TURNS)) + 1
    return time_each(Scorer.score, [pair for one in sets[:wanted] for pair in one * NEAR_TURNS], n)


def score_cold(bench: Bench) -> Figures:
    """The same once a second: what the caches held is gone."""
    return time_cold(Scorer.score, scorers(bench), COLD // bench.quick)


def scorers(bench: Bench) -> list[tuple[Scorer, Window]]:
    """Return each window with a scorer that holds it already, as a guard's does from its second tick on."""
    pairs = [(Scorer(bench.model, bench.plan.profile), window) for window in bench.windows]
    for scorer, window in pairs:
        scorer.score(window)
    return pairs


def score_c(bench: Bench) -> Figures:
    """The same windows, 64 a call, so that the kernel's own loop goes round: what Python adds is score less this."""
    return time_each(*_batch(bench, LOOP), CALLS // LOOP // bench.quick, LOOP)


def _batch(bench: Bench, size: int) -> tuple[Callable[..., object], list[tuple[object, ...]]]:
    """Return what scores `size` windows in one call, and what it is called with in turn: all windows are used."""
    pairs = bench.pairs * -(-size // len(bench.windows))
    chunks = [tuple(zip(*pairs[at:at + size], strict=True)) for at in range(0, len(pairs) - size + 1, size)]
    out = array("d", bytes(8 * 5 * size))
    return _kernel_forest(bench).score_batch, [(windows, facts, out) for windows, facts in chunks]


def _batch_stage(size: int) -> Stage:
    def batch(bench: Bench) -> Figures:
        return time_each(*_batch(bench, size), max(30, BATCHED // size // bench.quick))
    return batch


def push(bench: Bench) -> Figures:
    """A sample into the window."""
    n = CALLS // bench.quick
    samples = inputs.random_run(random.Random(inputs.SEED), int(n * 1.2), cadence_s=1.0)  # noqa: S311  no secret
    return time_groups(Window.in_memory().push, [(sample,) for sample in samples], n)


def push_cold(bench: Bench) -> Figures:
    """The same into windows that no cache holds."""
    sample = next(inputs.random_run(random.Random(inputs.SEED), 1))  # noqa: S311  no secret
    n = min(COLD // bench.quick, len(bench.windows) - 3)
    copies = [Window(bytearray(window.buffer)) for window in bench.windows[:n + 3]]     # others score them as they are
    return time_cold(Window.push, [(window, sample._replace(t_s=window.last_t_s + 1)) for window in copies], n)


def feature_row(bench: Bench) -> Figures:
    """Window to features."""
    if not HAS_KERNEL:
        return time_each(features.of, bench.pairs, CALLS // 50 // bench.quick)
    out = array("f", bytes(4 * features.COUNT))
    return time_groups(native.features, [(*pair, out) for pair in bench.pairs], CALLS // bench.quick)


def walk(bench: Bench) -> Figures:
    """Features to the summed leaves of all trees, 64 rows a call."""
    forest, rows = _kernel_forest(bench), [features.of(*pair).tobytes() for pair in bench.pairs]
    chunks = [b"".join(rows[at:at + LOOP]) for at in range(0, len(rows), LOOP)]
    out = array("d", bytes(8 * 6 * LOOP))
    return time_each(forest.margins, [(chunk, out) for chunk in chunks], CALLS // 20 // bench.quick, LOOP)


def series(bench: Bench) -> Figures:
    """Push and features, a run at a time inside the kernel, at every cadence."""
    if not HAS_KERNEL:
        raise SkippedError("the kernel is not built")
    rng = random.Random(inputs.SEED)  # noqa: S311  no secret
    out, calls = bytearray(4 * features.COUNT * RUN_SAMPLES), []
    for cadence_s in sorted(set(inputs.CADENCES_S)) * 4:
        samples = list(inputs.random_run(rng, RUN_SAMPLES, cadence_s=cadence_s))
        calls.append((inputs.series_rows(samples), bench.facts[0], out))
    return time_each(native.series, calls, RUNS // bench.quick, RUN_SAMPLES)


def decide(bench: Bench) -> Figures:
    """Forecast to decision, quiet views."""
    decider, state = decider_for(bench.plan, "system"), array("d", bytes(8 * 256))
    rng = random.Random(inputs.SEED)  # noqa: S311  no secret
    calls = []
    for t_s in range(int(CALLS // bench.quick * 1.2)):
        forecast = Forecast(*sorted(rng.random() * 0.4 for _ in range(5)))
        calls.append((View(float(t_s), 0, forecast, None, 1e9, rng.uniform(1e8, 9e8), 9e8, 1e8, 5e8), state))
    return time_groups(decider.decide, calls, CALLS // bench.quick)


def _kernel_forest(bench: Bench) -> native.Forest:
    forest = bench.model.forest
    if not isinstance(forest, Forest) or forest.compiled is None:
        raise SkippedError("the kernel is not built")
    return forest.compiled


# -- the tick ----------------------------------------------------------------------------------------------------

class Ticking:
    """Ticks guards over real sensors and window files, one second of window after another, as the daemon does."""

    def __init__(self, targets: Sequence[TargetPlan], model: Model | None, plan: Plan, stack: ExitStack) -> None:
        self.machine, self.told = Machine(), 0
        runner, folder = Runner(), stack.enter_context(tempfile.TemporaryDirectory(prefix="oomguard-bench-"))
        briefing = Briefing(plan._replace(targets=tuple(targets)), model, Options(folder))
        self.guards = Guards(briefing, self.machine, runner, [], self._tell)
        for close in (self.machine.close, runner.close, self.guards.close):
            stack.callback(close)
        self.guards.look_for_targets()
        if self.guards.missing:
            raise SkippedError(f"not to be guarded: {', '.join(target.name for target in self.guards.missing)}")
        for guard in self.guards.by_name.values():
            self._fill(guard)
        self._at_s, self.told = now_s() + 301, 0

    def _fill(self, guard: TargetGuard) -> None:
        """Fill the window with what the target's constraint shows now, a little up and down."""
        rng = random.Random(guard.name)  # noqa: S311  no secret
        sample = guard.sensor.read(0.0, 0.0, self.machine.read(), float("nan"), None)
        for t_s in range(300):
            sway = rng.uniform(0, 0.01) * sample.headroom_bytes
            guard.window.push(sample._replace(t_s=float(t_s), headroom_bytes=sample.headroom_bytes - sway,
                                              used_bytes=sample.used_bytes + sway))

    def _tell(self, *_event: object, **_fields: object) -> None:
        self.told += 1              # a quiet tick says nothing

    def __call__(self) -> None:
        """Do one tick of all targets."""
        self._at_s += 1.0
        machine = self.machine.read()
        for guard in self.guards.by_name.values():
            guard.tick(machine, self._at_s, 0.0002)
        self.guards.collect()


def _tick(bench: Bench, target: TargetPlan, *, is_cold: bool = False) -> Figures:
    with ExitStack() as stack:
        ticking = Ticking([target], bench.model, bench.plan, stack)
        ticks = (COLD if is_cold else TICKS) // bench.quick
        figures = (time_cold if is_cold else time_each)(ticking, [()], ticks)
        if ticking.told > max(2, ticks // 100):
            raise SkippedError(f"{ticking.told} ticks were not quiet ones: the machine is short of memory or changing")
        return figures


def tick_process(bench: Bench) -> Figures:
    """Whole tick of one process (this one), the reading of the machine included."""
    return _tick(bench, TargetPlan("process", "self"))


def tick_system(bench: Bench) -> Figures:
    """Whole tick of the whole system."""
    return _tick(bench, TargetPlan("system", "system"))


def tick_cgroup(bench: Bench) -> Figures:
    """Whole tick of one cgroup: one made for it with a limit of 1 GiB, or our own where none may be made."""
    with inhabited_cgroup() as path:
        return _tick(bench, TargetPlan("cgroup", "cgroup", path))


def tick_cgroup_cold(bench: Bench) -> Figures:
    """The same once a second: what the caches held is gone."""
    with inhabited_cgroup() as path:
        return _tick(bench, TargetPlan("cgroup", "cgroup", path), is_cold=True)


@contextmanager
def inhabited_cgroup() -> Iterator[str]:
    """Give a cgroup with one process in it, or our own where none may be made. Raises SkippedError without any."""
    try:
        enclosure = Enclosure.make("bench", CGROUP_LIMIT_BYTES)
    except OomguardError as error:
        own = resolve(TargetPlan("self", "self")).cgroup
        if not own:
            raise SkippedError(str(error)) from None
        yield own
        return
    tenant = subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              preexec_fn=enclosure.join)  # noqa: PLW1509  no threads here
    try:
        yield enclosure.path
    finally:
        tenant.communicate()
        enclosure.remove(kill=True)


STAGES: dict[str, Stage] = {
    "score": score, "score_near": score_near, "score_cold": score_cold, "score_c": score_c, "push": push,
    "push_cold": push_cold, "features": feature_row, "walk": walk, "series": series, "decide": decide,
    **{f"batch_{size}": _batch_stage(size) for size in BATCHES},
    "tick_process": tick_process, "tick_cgroup": tick_cgroup, "tick_cgroup_cold": tick_cgroup_cold,
    "tick_system": tick_system}
