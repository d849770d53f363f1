"""A runner under test: waiting for outcomes without sleeping."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from oomguard.act.hooks import Hook, Outcome, Request
from oomguard.act.runner import Runner
from oomguard.clock import now_s
from oomguard.decide.plan import HookPlan

PATIENCE_S = 20.0       # how long a test waits for what must come; no assertion depends on the time it took


class Bench:
    """A runner, and what tests do with it."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.outcomes: dict[int, Outcome] = {}
        self._poll = select.poll()
        for fd in runner.fds():
            self._poll.register(fd, select.POLLIN)

    def until(self, is_true: Callable[[], bool], *, is_quiet: bool = True) -> None:
        """Run the loop until something is true."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not is_true():
            assert time.monotonic() < give_up_s, f"waited in vain; so far {self.outcomes}"
            self._poll.poll(20)
            for outcome in self.runner.poll(now_s(), is_quiet=is_quiet):
                assert outcome.ticket not in self.outcomes, "two outcomes for one ticket"
                self.outcomes[outcome.ticket] = outcome

    def outcome(self, ticket: int, *, is_quiet: bool = True) -> Outcome:
        """Run the loop until the outcome of a ticket is there."""
        self.until(lambda: ticket in self.outcomes, is_quiet=is_quiet)
        return self.outcomes[ticket]

    def run(self, hook: Hook, request: Request) -> Outcome:
        """Register, start and wait for the outcome."""
        self.runner.register(hook)
        return self.outcome(self.runner.start(hook, request))

    def command(self, *argv: str, deadline_s: float = 10.0, name: str = "command") -> Hook:
        """Return a registered command hook."""
        hook = Hook.from_plan(HookPlan(name, "command", argv=argv, deadline_s=deadline_s))
        self.runner.register(hook)
        return hook
