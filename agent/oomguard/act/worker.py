"""Run in-process callables outside the loop: one worker thread, replaced when a callable hangs in it."""

from __future__ import annotations

import math
import threading  # 0.7 MB of RSS (measured): the runner imports this module with the first callable
from collections import deque

from oomguard.act.call import Job, Result, carry_out
from oomguard.act.wake import Wake
from oomguard.clock import now_s

STUCK_MAX = 2           # threads that hung callables may hold besides the one at work


class _Worker:
    """A thread with room for one job."""

    __slots__ = ("_go", "_job", "_results", "_thread", "_wake", "entered_s", "job")

    def __init__(self, results: deque[tuple[_Worker, Result]], wake: Wake) -> None:
        self._go = threading.Lock()
        self._go.acquire()
        self._results, self._wake = results, wake
        self._job: Job | None = None        # the thread's
        self.job: Job | None = None         # the loop's: what it is busy with
        self.entered_s = 0.0
        self._thread = threading.Thread(target=self._run, name="oomguard-hooks", daemon=True)
        self._thread.start()

    def give(self, job: Job) -> None:
        self.entered_s = now_s()
        self._job = self.job = job
        self._go.release()

    def end(self) -> None:
        """Let the thread end: now, or once it comes back from its call."""
        self._job = None
        if self._go.locked():           # else a job was given a moment ago; the thread finds it withdrawn
            self._go.release()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            job = self._job
            if job is None:
                return
            self._results.append((self, carry_out(job)))
            self._wake.set()


class Workers:
    """The worker at work, those that hang, and the jobs that wait. All but the threads is the loop's."""

    __slots__ = ("_current", "_results", "_stuck", "_waiting", "_wake")

    def __init__(self, wake: Wake) -> None:
        """Start the worker."""
        self._wake = wake
        self._results: deque[tuple[_Worker, Result]] = deque()
        self._waiting: deque[Job] = deque()
        self._stuck: set[_Worker] = set()
        self._current: _Worker | None = _Worker(self._results, wake)

    def submit(self, job: Job) -> None:
        """Hand a job over, or let it wait for its turn. Its deadline counts from when it is entered."""
        self._waiting.append(job)
        self._hand_over()
        if self._current is None:
            self._wake.set()            # the next poll says why it is refused

    def poll(self, now: float) -> list[Result]:
        """Return what has come of jobs by now; move on to the next."""
        over = self._collect()
        current = self._current
        if current and current.job and now >= current.entered_s + current.job.deadline_s:
            why = f"deadline of {current.job.deadline_s:g} s passed"
            over.append(Result(current.job.ticket, False, math.nan, now - current.entered_s, why))
            self._stuck.add(current)
            self._current = None
        if self._current is None and len(self._stuck) <= STUCK_MAX:
            self._replace()
        if self._current is None:
            why = f"{len(self._stuck)} hooks hang and hold their threads"
            over += [Result(job.ticket, False, math.nan, 0.0, why, False) for job in self._waiting]
            self._waiting.clear()
        self._hand_over()
        return over

    def expires_s(self) -> float:
        """Return when the job at work passes its deadline; infinity without one."""
        current = self._current
        return current.entered_s + current.job.deadline_s if current and current.job else math.inf

    def close(self) -> None:
        """Let the threads end. Those that never come back end with the process: they are daemon threads."""
        for worker in (*self._stuck, *([self._current] if self._current else [])):
            worker.end()
        self._current = None

    def _collect(self) -> list[Result]:
        over = []
        while self._results:
            worker, result = self._results.popleft()
            worker.job = None
            if worker in self._stuck:       # it came back after all; its ticket was answered at the deadline
                self._stuck.discard(worker)
                worker.end()
            else:
                over.append(result)
        return over

    def _replace(self) -> None:
        try:
            self._current = _Worker(self._results, self._wake)
        except RuntimeError:                # no thread to be had: the next poll retries
            self._current = None

    def _hand_over(self) -> None:
        if self._current and self._current.job is None and self._waiting:
            self._current.give(self._waiting.popleft())
