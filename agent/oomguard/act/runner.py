"""Start hooks outside the loop and collect what came of them, each under its ticket.

Contract: each `start` returns at once (inline hooks apart, which must never block) and gives exactly one
Outcome in a later `poll`, or in `close`: when the hook ends, raises, passes its deadline, is refused, or its
helper dies. A dry run goes the whole way without the last step. One action in flight per target is the
caller's business.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable

from oomguard.act.call import Job, Result, carry_out
from oomguard.act.hooks import Hook, Outcome, Request
from oomguard.act.link import Answer, HelperLink, Scored, Spawned, kill_group
from oomguard.act.order import write_order
from oomguard.act.wake import Wake
from oomguard.clock import now_s
from oomguard.errors import HelperError
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.act.scoring import Scoring
    from oomguard.act.worker import Workers

HELPER_GRACE_S = 2.0    # the helper keeps the deadline itself; so much later it is taken for hung


class _Flight:
    """A request under way."""

    __slots__ = ("expires_s", "group_pid", "group_ticks", "hook", "started_s")

    def __init__(self, hook: Hook, started_s: float) -> None:
        self.hook, self.started_s = hook, started_s
        self.expires_s = math.inf       # helper and remote: the workers keep their own time
        self.group_pid = self.group_ticks = -1


class Runner:
    """The executors and what is in flight. All methods belong to one thread, the loop's."""

    __slots__ = ("_dry_run", "_flights", "_link", "_outcomes", "_poller", "_root", "_scoring", "_ticket", "_wake",
                 "_wants_helper", "_workers", "last_problem")

    def __init__(
        self, *, dry_run: bool = False, root: str = "/", executable: str = "", helper_address: str = "",
    ) -> None:
        """Start nothing yet.

        Args:
            root: where /sys/fs/cgroup is looked for.
            executable: the helper's Python; empty: this one.
            helper_address: path of the socket of a helper that is a service of its own; empty: start one.
        """
        self._dry_run, self._root = dry_run, root
        self._ticket = 0
        self._flights: dict[int, _Flight] = {}
        self._outcomes: list[Outcome] = []
        self._wake = Wake()
        self._poller = select.epoll()
        self._poller.register(self._wake.fd, select.EPOLLIN)
        self._workers: Workers | None = None
        self._wants_helper = False      # a helper hook was registered, or a net is to be run
        self._scoring: Scoring | None = None
        self._link = HelperLink(executable, helper_address)
        self.last_problem = ""          # why the helper is down; empty while it is not

    def register(self, hook: Hook) -> None:
        """Get ready for a hook while memory is plenty: start the worker thread, or the helper."""
        if hook.executor == "thread" and self._workers is None:
            from oomguard.act.worker import Workers  # brings threading, 0.7 MB

            self._workers = Workers(self._wake)
        if hook.executor == "helper":
            self._want_helper()

    def scoring(self, onnx: bytes, tell: Callable[..., None]) -> Scoring:
        """Return what runs this net in the helper, which is started for it."""
        if self._scoring is None or self._scoring.onnx != onnx:
            from oomguard.act.scoring import Scoring  # only where the model is no forest

            self._scoring = Scoring(onnx, self._take_ticket, tell)
        self._want_helper()
        return self._scoring

    def _want_helper(self) -> None:
        if not self._wants_helper:
            self._wants_helper = True
            self._tend_helper(now_s(), is_quiet=True)

    def _take_ticket(self) -> int:
        self._ticket += 1
        return self._ticket

    def fds(self) -> tuple[int, ...]:
        """Return what to wait on for reading: one descriptor, the same for the runner's life."""
        return (self._poller.fileno(),)

    def wake_at_s(self) -> float:
        """Return when to poll at the latest, for deadlines; infinity where nothing is in flight."""
        expires = [flight.expires_s for flight in self._flights.values()]
        return min([*expires, self._workers.expires_s() if self._workers else math.inf])

    @property
    def in_flight(self) -> int:
        """How many requests have no outcome yet."""
        return len(self._flights)

    @property
    def helper_pid(self) -> int:
        """The helper's pid, -1 while it is down."""
        return self._link.pid if self._link.fd >= 0 else -1

    @property
    def is_helper_ready(self) -> bool:
        """Whether the helper has said hello."""
        return self._link.is_ready

    def start(self, hook: Hook, request: Request) -> int:
        """Start a hook; return the ticket its outcome will carry."""
        ticket = self._take_ticket()
        flight = self._flights[ticket] = _Flight(hook, now_s())
        request = request._replace(deadline_s=min(request.deadline_s, hook.deadline_s))
        try:
            if hook.executor == "remote":
                self._ask_remote(ticket, hook, request)
            elif hook.executor == "helper":
                self._link.send(write_order(ticket, hook, request, self._root, self._dry_run))
                flight.expires_s = flight.started_s + request.deadline_s + HELPER_GRACE_S
            else:
                self._call(ticket, hook, request)
        except HelperError as error:
            self._finish(ticket, False, math.nan, str(error), is_hooks_fault=False)
        if ticket not in self._flights:
            self._wake.set()                # over already: the loop has an outcome to fetch
        return ticket

    def poll(self, now: float, *, is_quiet: bool = True) -> list[Outcome]:
        """Return the outcomes since the last poll, and look after deadlines and the helper. Never blocks.

        Args: now: clock.now_s(). is_quiet: level 0 and no pressure: only then is a dead helper started again.
        """
        if not (self._flights or self._outcomes or self._wants_helper or self._wake.is_set):
            return []                       # a quiet tick; a call that hung and came back has set the wake
        self._wake.clear()
        if self._workers is not None:
            for result in self._workers.poll(now):
                self._finish_result(result)
        self._hear_helper(now)
        self._end_late_remotes(now)
        self._tend_helper(now, is_quiet)
        self._speak_of_nets(now)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def answer(self, ticket: int, freed_bytes: float, why: str) -> bool:
        """Take a remote hook's answer; return False where none is due: it came too late, or twice.

        Args: freed_bytes: NaN where it does not say. why: what failed; empty: nothing did.
        """
        self._end_late_remotes(now_s())
        flight = self._flights.get(ticket)
        if flight is None or flight.hook.executor != "remote":
            return False
        self._finish(ticket, not why, freed_bytes, why)
        self._wake.set()
        return True

    def abandon(self, hook: Hook, why: str) -> None:
        """End what is under way at a remote hook that is gone."""
        for ticket in [ticket for ticket, flight in self._flights.items() if flight.hook is hook]:
            self._finish(ticket, False, math.nan, why, is_hooks_fault=False)
            self._wake.set()

    def close(self) -> list[Outcome]:
        """End what runs and let everything go; return the outcomes that were still due."""
        self._hear_helper(now_s())
        for ticket in list(self._flights):
            self._finish(ticket, False, math.nan, "the guard stops", is_hooks_fault=False)
        if self._workers is not None:
            self._workers.close()
        self._link.close()
        self._poller.close()
        self._wake.close()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _call(self, ticket: int, hook: Hook, request: Request) -> None:
        if hook.call is None:
            raise HelperError(f"hook {hook.name} has nothing to call")
        job = Job(ticket, hook.call, request, request.deadline_s, self._dry_run)
        if hook.executor == "inline":
            self._finish_result(carry_out(job))
            return
        self.register(hook)
        if self._workers is not None:
            self._workers.submit(job)

    def _ask_remote(self, ticket: int, hook: Hook, request: Request) -> None:
        if self._dry_run:
            self._finish(ticket, True, math.nan, "dry run")
            return
        flight = self._flights[ticket]
        flight.expires_s = flight.started_s + request.deadline_s
        if hook.send is None or not hook.send(ticket, request):
            self.abandon(hook, "its client is gone")

    def _end_late_remotes(self, now: float) -> None:
        for ticket, flight in list(self._flights.items()):
            if flight.hook.executor == "remote" and now >= flight.expires_s:
                why = f"deadline of {flight.expires_s - flight.started_s:g} s passed"
                self._finish(ticket, False, math.nan, why)

    def _hear_helper(self, now: float) -> None:
        try:
            while (heard := self._link.receive()) is not None:
                self._take_in(heard)
            expires = [flight.expires_s for flight in self._flights.values() if flight.hook.executor == "helper"]
            is_mute = self._scoring is not None and not expires and self._scoring.is_overdue(now)
            if is_mute or (expires and now >= min(expires)):
                raise HelperError("the helper does not answer")
        except HelperError as error:
            self._lose_helper(now, str(error))

    def _speak_of_nets(self, now: float) -> None:
        if self._scoring is not None and self._link.fd >= 0:
            try:
                self._scoring.speak(self._link.send, now)
            except HelperError as error:
                self._lose_helper(now, str(error))

    def _take_in(self, heard: Spawned | Answer | Scored) -> None:
        if self._scoring is not None and not isinstance(heard, Spawned) and self._scoring.hear(heard):
            return
        flight = self._flights.get(heard.ticket)
        if flight is None or isinstance(heard, Scored) or flight.hook.executor != "helper":
            return                          # answered already, at the guard's own deadline
        if isinstance(heard, Spawned):
            flight.group_pid, flight.group_ticks = heard.pid, heard.started_ticks
        else:
            self._finish(heard.ticket, heard.ok, heard.freed_bytes, heard.why, duration_s=heard.duration_s)

    def _lose_helper(self, now: float, why: str) -> None:
        self.last_problem = why
        self._link.drop(now)                # closing the descriptor takes it out of the epoll
        if self._scoring is not None:
            self._scoring.lost(why)
        for ticket, flight in list(self._flights.items()):
            if flight.hook.executor == "helper":
                kill_group(flight.group_pid, flight.group_ticks)
                self._finish(ticket, False, math.nan, why, is_hooks_fault=False)

    def _tend_helper(self, now: float, is_quiet: bool) -> None:
        try:
            if self._link.tend(now, is_quiet and self._wants_helper):
                self._poller.register(self._link.fd, select.EPOLLIN)
                self.last_problem = ""
        except HelperError as error:
            self.last_problem = str(error)

    def _finish_result(self, result: Result) -> None:
        self._finish(result.ticket, result.ok, result.freed_bytes, result.why,
                     duration_s=result.duration_s, is_hooks_fault=result.is_hooks_fault)

    def _finish(
        self, ticket: int, ok: bool, freed_bytes: float, why: str, *,
        duration_s: float = math.nan, is_hooks_fault: bool = True,
    ) -> None:
        flight = self._flights.pop(ticket)
        now = now_s()
        took_s = now - flight.started_s if duration_s != duration_s else duration_s
        outcome = Outcome(flight.hook.name, ok, freed_bytes, took_s, why, ticket)
        if is_hooks_fault and not self._dry_run:
            flight.hook.record(outcome, now)
        self._outcomes.append(outcome)
