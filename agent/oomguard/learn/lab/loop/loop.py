"""Do the closed loop's trials, many side by side: the unguarded lives first, then every arm for three such lives."""

from __future__ import annotations

import heapq
import os
import resource
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.ctrl_c import CtrlC
from oomguard.errors import OomguardError
from oomguard.learn.lab.loop.life import ALIVE, CADENCE_S, CRASH, FAILED, OOM, Life
from oomguard.learn.lab.loop.plan import unguarded_s
from oomguard.learn.lab.loop.triggers import NONE
from oomguard.sense.facts import detect_profile
from oomguard.sense.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.learn.lab.loop.plan import Case, Setting, Trial
    from oomguard.learn.lab.loop.store import LoopStore
    from oomguard.learn.lab.loop.triggers import Policy
    from oomguard.scorer import Model
    from oomguard.sense.machine import MachineReading

JOBS_PER_CORE = 32              # most of them sleep
DESCRIPTORS = 20                # of a trial, at most
START_GAP_S = 0.5               # programs that start all at once would only measure each other
STARTING = 6                    # at most so many that do not take orders yet
SPARE_BYTES = 3 << 30           # of the machine's memory that is left alone
ATTEND_S = 0.05                 # how often a hook's time and a driver's word are looked for
BEGIN_AGAIN = 2                 # a trial that failed to start on a busy machine is tried so often


class LoopProgress(NamedTuple):
    """Where it stands."""

    done: int
    of: int
    running: int
    averted: int
    killed: int
    failed: int
    note: str = ""


def life_of(case: Case, unguarded: dict[str, Any] | None) -> float | None:
    """Return how long a case lived unguarded; None while nobody knows, or where it was not killed.

    Args: unguarded: facts of the case's trial without a guard, None while it is not over.
    """
    if case.is_plateau or unguarded is None or unguarded["ended"] not in (OOM, CRASH):
        return None
    return float(unguarded["ended_after_s"])


def planned_s_of(trial: Trial, unguarded: dict[str, Any] | None, lives: float) -> float | None:
    """Return for how long a trial is planned; None while it cannot be known, or where nothing is to be averted."""
    if trial.case.is_plateau:
        return trial.case.expected_s
    if trial.arm == NONE:
        return unguarded_s(trial.case)
    life_s = life_of(trial.case, unguarded)
    return None if life_s is None else lives * life_s


def run_loop(trials: list[Trial], setting: Setting, store: LoopStore, policy: Policy, model: Model, jobs: int,
             tell: Callable[[LoopProgress], None]) -> LoopProgress:
    """Do the trials that the store does not have yet; return how it went.

    Args:
        trials: `trials_of` the cases, the unguarded ones first.
        setting: what they were drawn from.
        store: where finished trials go. An interrupted loop loses only what is running.
        policy: what all arms share.
        model: of oomguard's arm.
        jobs: how many side by side, if memory allows.
        tell: told about once a second, and whenever a trial has ended.
    """
    with CtrlC() as ctrl_c:
        loop = _Loop(trials, setting, store, policy, model, jobs, tell)
        try:
            return loop.run(ctrl_c)
        finally:
            loop.close()


def default_jobs() -> int:
    """Return how many side by side: most sleep. Each has some descriptors open."""
    open_files, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(JOBS_PER_CORE * (os.cpu_count() or 1), (open_files - 100) // DESCRIPTORS))


class _Loop:
    """The loop of `run_loop`."""

    def __init__(self, trials: list[Trial], setting: Setting, store: LoopStore, policy: Policy, model: Model,
                 jobs: int, tell: Callable[[LoopProgress], None]) -> None:
        self._setting, self._store, self._policy, self._model = setting, store, policy, model
        self._jobs, self._tell = jobs, tell
        self._finished = store.read()
        wanted = {trial.trial_id for trial in trials}
        self._done = [facts["ended"] for name, facts in self._finished.items() if name in wanted]
        self._of = len(trials)
        self._waiting = [trial for trial in trials if trial.trial_id not in self._finished]
        self._machine, self._profile = Machine(), detect_profile()
        self._lives: list[Life] = []
        self._due: list[tuple[float, int, Life]] = []
        self._number, self._failed = 0, 0
        self._begun: dict[str, int] = {}
        self._started_s, self._told_s = -START_GAP_S, 0.0
        self._closing: list[threading.Thread] = []

    def run(self, ctrl_c: CtrlC) -> LoopProgress:
        while self._waiting or self._lives:
            ctrl_c.check()
            now_s = time.monotonic()
            if now_s - self._started_s >= START_GAP_S and self._may_start():
                self._start_one(now_s)
            for life in self._lives:
                if not life.has_begun and life.attend():
                    self._number += 1
                    heapq.heappush(self._due, (time.monotonic(), self._number, life))
                elif life.has_begun:
                    life.attend()
            self._tick_due()
            self._keep_ended()
            if now_s - self._told_s >= 1.0:
                self._told_s = now_s
                self._report()
            time.sleep(max(0.0, ATTEND_S - (time.monotonic() - now_s)))
        return self._report()

    def _tick_due(self) -> None:
        reading: MachineReading | None = None
        while self._due and self._due[0][0] <= (now_s := time.monotonic()):
            due_s, number, life = heapq.heappop(self._due)
            if life.ended:
                continue
            reading = reading or self._machine.read()
            life.tick(now_s - due_s, reading)
            next_s = due_s + CADENCE_S
            heapq.heappush(self._due, (next_s if next_s > now_s else now_s + CADENCE_S, number, life))

    def _may_start(self) -> bool:
        if not self._waiting or len(self._lives) >= self._jobs:
            return False
        if sum(not life.has_begun for life in self._lives) >= STARTING:
            return False
        promised = sum(max(0.0, life.trial.case.limit_bytes - life.used_bytes) for life in self._lives)
        return self._machine.read().available_bytes - SPARE_BYTES - promised > self._waiting[0].case.limit_bytes

    def _start_one(self, now_s: float) -> None:
        """Start the first trial whose length is known; drop those that will never have one."""
        under_way = {life.trial.trial_id for life in self._lives} | {trial.trial_id for trial in self._waiting}
        for at, trial in enumerate(self._waiting):
            unguarded = self._finished.get(f"{trial.case.case_id}-{NONE}")
            planned_s = planned_s_of(trial, unguarded, self._setting.lives)
            if planned_s is not None:
                self._started_s = now_s
                self._begin(self._waiting.pop(at), planned_s)
                return
            if f"{trial.case.case_id}-{NONE}" not in under_way:     # it was not killed, or cannot be known
                self._waiting.pop(at)
                self._of -= 1
                self._report(f"{trial.trial_id}: left out, for nothing kills it unguarded")
                return

    def _begin(self, trial: Trial, planned_s: float) -> None:
        try:
            life = Life(trial, self._setting, planned_s, self._policy, self._model, self._profile, self._machine)
        except OomguardError as error:
            self._failed += 1
            self._report(f"{trial.trial_id}: {error}")
            return
        self._begun[trial.trial_id] = self._begun.get(trial.trial_id, 0) + 1
        self._lives.append(life)

    def _keep_ended(self) -> None:
        for life in [life for life in self._lives if life.ended]:
            self._lives.remove(life)
            self._keep(life)

    def _keep(self, life: Life) -> None:
        thread = threading.Thread(target=life.close, daemon=False)     # a slow end must not hold the ticks up
        thread.start()
        self._closing = [each for each in self._closing if each.is_alive()] + [thread]
        trial, facts = life.trial, life.facts()
        if life.ended == FAILED:
            if self._begun[trial.trial_id] < BEGIN_AGAIN:
                self._waiting.append(trial)
            else:
                self._failed += 1
            self._report(f"{trial.trial_id}: {life.why}")
            return
        self._store.add(facts)
        self._finished[trial.trial_id] = facts
        self._done.append(life.ended)
        self._report(f"{trial.trial_id}: {life.ended} after {life.ended_after_s:.0f} of {life.planned_s:.0f} s, "
                     f"{len(facts['evictions'])} evictions" + (f" ({life.why})" if life.ended == CRASH else ""))

    def _report(self, note: str = "") -> LoopProgress:
        averted = self._done.count(ALIVE)
        progress = LoopProgress(len(self._done), self._of, len(self._lives), averted, len(self._done) - averted,
                                self._failed, note)
        self._tell(progress)
        return progress

    def close(self) -> None:
        """Stop what runs, and leave nothing behind."""
        for life in self._lives:
            life.driver.ask_to_stop()
        for life in self._lives:
            life.close()
        for thread in self._closing:
            thread.join()
        self._machine.close()
