"""Carries out server hooks, each on a thread of its own in the helper, so that none holds up another errand.

Contract: each job that was started is collected exactly once: when it is over, or when its deadline and the time
for putting settings back have passed. A thread that hangs in the kernel is left behind, and counts.
"""

from __future__ import annotations

import gc
import os
import sys
from _thread import allocate_lock, start_new_thread  # `threading` costs 0.2 MB more (measured)
from contextlib import suppress
from importlib import import_module

from oomguard.act.servers import debts
from oomguard.act.servers.ask import Ask, Freed, ServerError, Task
from oomguard.clock import now_s
from oomguard.errors import HelperError

JOBS_MAX = 8                # threads at once, those that hang included
PUT_BACK_RATIO, PUT_BACK_S = 0.2, 0.5   # of the deadline, kept for putting settings back; never more than so long
GRACE_S = 1.2               # after the deadline, for SETTLE_S; the daemon takes the helper for hung after 2 s
FAREWELL_S = 0.8            # the daemon waits 1 s for the helper to end


class Job:
    """One hook under way."""

    __slots__ = ("expires_s", "is_collected", "kind", "over", "result", "started_s", "task", "ticket", "why")

    def __init__(self, ticket: int, kind: str, ask: Ask) -> None:
        self.ticket, self.kind, self.started_s = ticket, kind, now_s()
        self.expires_s = self.started_s + ask.deadline_s + GRACE_S
        self.task = Task(ask.deadline_s - min(PUT_BACK_S, PUT_BACK_RATIO * ask.deadline_s))
        self.result: Freed | None = None
        self.why = f"deadline of {ask.deadline_s:g} s passed"
        self.is_collected = False
        self.over = allocate_lock()         # held while its thread runs
        self.over.acquire()


class Jobs:
    """All server hooks under way. `fd` becomes readable when one is over."""

    __slots__ = ("_collector", "_is_ending", "_jobs", "_signal_fd", "fd")

    def __init__(self) -> None:
        self.fd, self._signal_fd = os.pipe()
        for fd in (self.fd, self._signal_fd):
            os.set_blocking(fd, False)
        self._jobs: list[Job] = []
        self._collector = allocate_lock()   # held while a thread puts back what is owed
        self._is_ending = False

    def start(self, ticket: int, kind: str, ask: Ask) -> None:
        """Start a job. Raises HelperError when too many are under way."""
        if len(self._jobs) >= JOBS_MAX:
            raise HelperError(f"{JOBS_MAX} server hooks are under way, or hang")
        job = Job(ticket, kind, ask)
        self._jobs.append(job)
        start_new_thread(self._run, (job, ask))

    def settle_debts(self, first_rest_s: float = 0.0) -> None:
        """Put back, in the background, what an earlier helper left lowered."""
        if self._collector.acquire(blocking=False):
            start_new_thread(self._settle, (first_rest_s,))

    def expires_s(self) -> float:
        """Return when to collect at the latest; infinity while nothing is under way."""
        return min((job.expires_s for job in self._jobs if not job.is_collected), default=float("inf"))

    def collect(self, now: float) -> list[Job]:
        """Return the jobs that are over or out of time, each once."""
        with suppress(BlockingIOError):
            os.read(self.fd, 512)
        found = []
        for job in self._jobs:
            is_over = not job.over.locked()
            if not job.is_collected and (is_over or now >= job.expires_s):
                job.is_collected, job.task.is_cancelled = True, True
                found.append(job)
        self._jobs = [job for job in self._jobs if job.over.locked() or not job.is_collected]
        return found

    def close(self) -> None:
        """Call every job off, and give each time to put back what it changed; the notes stay for the rest."""
        self._is_ending = True
        for job in self._jobs:
            job.task.is_cancelled = True
        until_s = now_s() + FAREWELL_S
        for job in self._jobs:
            job.over.acquire(timeout=max(0.0, until_s - now_s()))
        os.close(self.fd)
        fd, self._signal_fd = self._signal_fd, -1
        os.close(fd)

    def _run(self, job: Job, ask: Ask) -> None:
        try:
            job.result = import_module(f"oomguard.act.servers.{job.kind}").release(ask, job.task)
        except (ServerError, OSError, ValueError) as error:
            job.why = str(error)
        except Exception as error:  # noqa: BLE001  a fault of ours: an answer all the same, and it is named
            job.why = f"{type(error).__name__}: {error}"
            sys.stderr.write(f"oomguard: helper: {job.kind}: {job.why}\n")
        finally:
            gc.collect()        # an error's traceback holds buffers in circles: 10 MB after 800 floods (measured)
            job.over.release()
            self._signal()
        if debts.any_noted() and not self._is_ending:
            self.settle_debts(debts.FIRST_BACKOFF_S)

    def _settle(self, first_rest_s: float) -> None:
        try:
            debts.settle_all(lambda: self._is_ending, first_rest_s)
        finally:
            self._collector.release()

    def _signal(self) -> None:
        try:
            os.write(self._signal_fd, b"1")
        except (BlockingIOError, OSError):  # it is full of such news already; or the helper ends
            return
