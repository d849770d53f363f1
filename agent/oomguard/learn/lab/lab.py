"""Do the catalogue's runs, many side by side: start what there is room for, tick what runs, keep what is over."""

from __future__ import annotations

import heapq
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from oomguard.ctrl_c import CtrlC
from oomguard.errors import OomguardError
from oomguard.learn.lab.chamber import Chamber
from oomguard.learn.lab.swap import swap_of
from oomguard.sense.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.learn.lab.plan import RunPlan
    from oomguard.learn.lab.store import Store

START_GAP_S = 1.0               # programs that start all at once would only measure each other
SPARE_BYTES = 3 << 30           # of the machine's memory that the lab leaves alone
SWAP_ORDER = ("file", "zram", "none")
EXPECTED_SHARE = 0.6            # of its limit that a run takes on average


class Progress(NamedTuple):
    """Where the lab stands."""

    done: int
    of: int
    running: int
    kills: int
    quiet_h: float
    failed: int
    note: str = ""


def record(plans: list[RunPlan], store: Store, jobs: int, tell: Callable[[Progress], None]) -> Progress:
    """Do the runs that the store does not have yet; return how it went.

    Args:
        plans: the catalogue's runs; those with a swap file are done before those with zram, for both are the machine's.
        store: where finished runs go, each as soon as it is over. An interrupted lab loses only what is running.
        jobs: how many runs side by side, if memory allows.
        tell: told about once a second, and whenever a run has ended.
    """
    done = store.done()
    with CtrlC() as ctrl_c:
        lab = _Lab([plan for plan in plans if plan.run_id not in done], len(done), store, jobs, tell)
        try:
            return lab.run(ctrl_c)
        finally:
            lab.close()


class _Lab:
    """The loop of `record`."""

    def __init__(self, waiting: list[RunPlan], done: int, store: Store, jobs: int,
                 tell: Callable[[Progress], None]) -> None:
        self._waiting, self._of, self._store, self._jobs, self._tell = waiting, done + len(waiting), store, jobs, tell
        self._machine = Machine()
        self._due: list[tuple[float, int, Chamber]] = []
        self._number, self._done, self._kills, self._quiet_s, self._failed = 0, done, 0, 0.0, 0
        self._started_s, self._told_s = -START_GAP_S, 0.0
        self._swap = swap_of(_first_kind(waiting), os.path.abspath(store.folder))
        self._closing: list[threading.Thread] = []

    def run(self, ctrl_c: CtrlC) -> Progress:
        while self._waiting or self._due:
            ctrl_c.check()
            now_s = time.monotonic()
            if now_s - self._started_s >= START_GAP_S and self._may_start():
                self._start_one(now_s)
            if now_s - self._told_s >= 1.0:
                self._told_s = now_s
                self._report()
            if not self._due:
                time.sleep(0.05)
                continue
            due_s = self._due[0][0]
            if due_s > now_s:
                time.sleep(min(due_s - now_s, 0.2))
            else:
                self._tick_one(now_s)
        return self._report()

    def _may_start(self) -> bool:
        if not self._waiting or len(self._due) >= self._jobs:
            return False
        return self._machine.read().available_bytes - SPARE_BYTES - self._promised_bytes() > 0

    def _promised_bytes(self) -> float:
        """Return what the runs that are on may still take."""
        return sum(max(0.0, EXPECTED_SHARE * chamber.plan.limit_bytes - _used_bytes(chamber))
                   for _due_s, _number, chamber in self._due)

    def _start_one(self, now_s: float) -> None:
        at = self._next()
        if at is None:
            return
        self._started_s = now_s
        plan = self._waiting.pop(at)
        try:
            chamber = Chamber(plan, self._machine)
        except OomguardError as error:
            self._failed += 1
            self._report(f"{plan.run_id}: {error}")
            return
        self._number += 1
        heapq.heappush(self._due, (now_s + plan.cadence_s, self._number, chamber))

    def _next(self) -> int | None:
        """Return which waiting run suits the swap there is now; change the swap when nobody uses it any more."""
        is_swap_over = not any(plan.swap == self._swap.kind for plan in self._waiting)
        if is_swap_over and not any(chamber.plan.swap != "none" for _due_s, _number, chamber in self._due):
            self._swap.close()
            self._swap = swap_of(_first_kind(self._waiting), os.path.abspath(self._store.folder))
        for kind in (self._swap.kind, "none"):
            for at, plan in enumerate(self._waiting):
                if plan.swap == kind:
                    return at
        return None

    def _tick_one(self, now_s: float) -> None:
        due_s, number, chamber = heapq.heappop(self._due)
        chamber.tick(now_s - due_s, self._machine.read())
        if not chamber.is_over:
            next_s = due_s + chamber.plan.cadence_s
            heapq.heappush(self._due, (next_s if next_s > now_s else now_s + chamber.plan.cadence_s, number, chamber))
            return
        self._keep(chamber)

    def _keep(self, chamber: Chamber) -> None:
        self._store.add(chamber)
        self._done += 1
        self._failed += chamber.ended == "failed"
        self._kills += chamber.ended == "oom"
        length_s = chamber.ended_after_s
        self._quiet_s += max(0.0, length_s - 300.0)
        note = f"{chamber.plan.run_id}: {chamber.ended} after {length_s:.0f} s"
        self._report(note + (f" ({chamber.why})" if chamber.ended in ("failed", "crash") else ""))
        thread = threading.Thread(target=chamber.close, daemon=False)   # a slow end must not hold the ticks up
        thread.start()
        self._closing = [each for each in self._closing if each.is_alive()] + [thread]

    def _report(self, note: str = "") -> Progress:
        progress = Progress(self._done, self._of, len(self._due), self._kills, self._quiet_s / 3600.0, self._failed,
                            note)
        self._tell(progress)
        return progress

    def close(self) -> None:
        """Stop what runs, and leave nothing behind."""
        for _due_s, _number, chamber in self._due:
            for driver in chamber.drivers:
                driver.ask_to_stop()
        for _due_s, _number, chamber in self._due:
            chamber.close()
        for thread in self._closing:
            thread.join()
        self._swap.close()
        self._machine.close()


def _first_kind(plans: list[RunPlan]) -> str:
    """Return the swap whose turn it is: a file, then zram, then none."""
    return min((plan.swap for plan in plans), key=SWAP_ORDER.index, default="none")


def _used_bytes(chamber: Chamber) -> float:
    return chamber.samples[-1].charged_bytes if chamber.samples else 0.0


def default_jobs() -> int:
    """Return how many runs side by side: most of them sleep."""
    return 24 * (os.cpu_count() or 1)
