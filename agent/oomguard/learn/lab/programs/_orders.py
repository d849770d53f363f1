"""What programs share that run a small script: an order is one line on stdin, and one line on stdout answers it.

The order is `HOLD KEEP CHURN`, in bytes; the script goes at most STEP_BYTES towards it and answers `HELD KEPT`, what it
has got to. A script that gets no order does nothing: the program is idle while its wish stands still.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from typing import TYPE_CHECKING

from oomguard.learn.lab.program import Program, ProgramGoneError, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

START_S = 60.0                  # a JVM's start beside 80 other programs on two cores
ANSWER_S = 5.0                  # one that thrashes at its limit answers late
STEP_BYTES = 16 << 20           # a call; there are two a second
NEAR_BYTES = 64 << 10           # as good as there: sizes of objects are what they are
NO_BOUND = 1 << 50


class OrderedProgram(Program):
    """A program that takes orders as lines."""

    goes_on_at_bound = False    # whether it gets orders though the wish stands still: a cache that is full

    def __init__(self, spec: Spec, enter: Callable[[], None]) -> None:
        """See Program."""
        super().__init__(spec, enter)
        self._wish = [0, 0]             # held, kept
        self._got = [0, 0]
        self._is_waiting = False        # an order is out that was not answered yet
        self._rest = b""
        self._churned_s = time.monotonic()

    @property
    def bound_bytes(self) -> int:
        """Its own cap; NO_BOUND where it has none."""
        bound = self.spec.bound_bytes
        return NO_BOUND if bound != bound else int(bound)

    def command(self) -> list[str]:
        """Return what to run: it prints a line when it takes orders."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return what it is to find in its environment besides PATH."""
        return {}

    def start(self) -> None:
        """Run the command and wait for its first line."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": self.spec.folder, "TMPDIR": self.spec.folder,
                       "LC_ALL": "C", "MALLOC_ARENA_MAX": "1", **self.environment()}
        self.spawn(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment)
        self._is_waiting = True
        self._listen(START_S)
        if self._is_waiting:
            raise ProgramGoneError(f"{self.spec.program}: not ready after {START_S:.0f} s")
        self._churned_s = time.monotonic()

    def hold(self, size_bytes: float) -> None:
        """Order it, if there is anything to do."""
        self._wish[0] = int(size_bytes)
        now_s = time.monotonic()
        churn_bytes = min((now_s - self._churned_s) * self.spec.churn_bytes_per_s, float(STEP_BYTES))
        if self._order(int(churn_bytes)):
            self._churned_s = now_s

    def keep(self, size_bytes: float) -> None:
        """Order it, if there is anything to do."""
        self._wish[1] = int(size_bytes)
        self._order(0)

    def _order(self, churn_bytes: int) -> bool:
        """Send one order and take its answer; return whether it was sent."""
        self.check()
        if self._is_waiting:
            self._listen(ANSWER_S)
            if self._is_waiting:
                return False
        is_full = self.goes_on_at_bound and self._wish[0] >= self.bound_bytes
        if not churn_bytes and not is_full and all(abs(wish - got) < NEAR_BYTES or wish == got for wish, got in
                                                   zip(self._wish, self._got, strict=True)):
            return True
        pipe = self.children[0].stdin
        assert pipe is not None
        try:
            pipe.write(b"%d %d %d\n" % (*self._wish, churn_bytes))
        except BrokenPipeError:
            self._ended()
        self._is_waiting = True
        self._listen(ANSWER_S)
        return True

    def _listen(self, wait_s: float) -> None:
        """Take the answer that is due, if it comes in time. Raises ProgramGoneError."""
        pipe = self.children[0].stdout
        assert pipe is not None
        until_s = time.monotonic() + wait_s
        while b"\n" not in self._rest:
            if not select.select([pipe], [], [], max(until_s - time.monotonic(), 0.0))[0]:
                return
            piece = os.read(pipe.fileno(), 4096)
            if not piece:
                self._ended()
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        self._is_waiting = False
        numbers = line.split()
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):
            self._got = [int(number) for number in numbers]

    def _ended(self) -> None:
        """Raise ProgramGoneError with its exit status."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.children[0].wait(ANSWER_S)
        raise ProgramGoneError(f"{self.spec.program}: ended with {self.children[0].returncode}")
