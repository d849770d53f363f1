"""A C compiler: generated sources one after another, each so large that its peak is about what is wished.

It is a saw-tooth of its own making: hold() sizes the next unit, and what is being compiled goes on to its end. It is
stopped most of the time (SIGSTOP), so that one compiler takes about a twentieth of a core: a unit rises as slowly as on
a slow device. It goes on while the wish stands still. A unit that is larger than the limit is killed on its way up.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from oomguard.learn.lab.program import Program, ProgramGoneError, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

SHARE = 0.1                     # of a core, while a unit is compiled
TURN_S = 0.1                    # of its CPU time at most, a call
WAIT_S = 0.3                    # for its turn at most: on a busy machine it does not get it at once
LOOK_S = 0.01
LEAST_BYTES = 8 << 20          # a wish below it: no unit is begun
# Measured, gcc 12 -O0 in a v1 cgroup: 3 MiB at first (its own text is page cache), and so much for a function with its
# table: peaks of 0.98 to 1.0 of what was wished, 40 to 250 MiB.
CC1_BYTES = 3 << 20
FUNCTION_BYTES = 92_000
TABLE_WORDS = 40
FUNCTION = """static const unsigned t{i}[] = {{{table}}};
struct s{i} {{ int a, b[{size}]; const char *name; struct s{i} *next; }};
int f{i}(struct s{i} *p, int n) {{
  int sum = {noise};
  for (int i = 0; i < n; i++) {{
    if (p->a > i) sum += t{i}[(unsigned)(i * {size}) % {words}]; else if (p->next) sum ^= p->next->a * {noise};
    p->b[i % 2] += sum << {size};
    switch (sum % 4) {{ case 0: sum += p->b[0]; break; case 1: p = p->next; break; default: sum--; }}
  }}
  p->name = "name{i}_{noise}";
  return sum;
}}
"""


class Driver(Program):
    """Drives it; what is charged between two units is next to nothing."""

    needs = ("gcc",)

    def __init__(self, spec: Spec, enter: Callable[[], None]) -> None:
        """See Program."""
        super().__init__(spec, enter)
        self._random = random.Random(spec.seed)
        self._resumes_s = self._begun_s = 0.0
        self._compiler = ""

    def start(self) -> None:
        """Look for the compiler proper: gcc itself only waits for it, and would outlive its kill."""
        asked = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=False)
        self._compiler = asked.stdout.strip()
        if not os.path.isabs(self._compiler):
            raise ProgramGoneError("compiler: gcc has no cc1")
        with open(self._compiler, "rb", buffering=0) as text:   # now its pages are not the cgroup's, which could drop
            while text.read(1 << 20):                           # and read them again for minutes instead of being full
                pass

    def hold(self, size_bytes: float) -> None:
        """Compile for a moment; begin the next unit, of about `size_bytes` at its peak, after a pause."""
        now_s = time.monotonic()
        if not self._is_over():
            self._run_for_a_turn(now_s)
        elif now_s >= self._resumes_s and size_bytes >= LEAST_BYTES:
            self._begin(int(size_bytes), now_s)

    def check(self) -> None:
        """Raise ProgramGoneError if the unit was killed or given up."""
        self._is_over()

    def _is_over(self) -> bool:
        """Return whether there is no unit at work; after one that ended well a pause as long begins."""
        if not self.children:
            return True
        status = self.children[0].poll()
        if status is None:
            return False
        self.children.clear()
        if status:
            raise ProgramGoneError(f"{self.spec.program}: ended with {status}")
        now_s = time.monotonic()
        self._resumes_s = now_s + min(now_s - self._begun_s, 20.0) * self._random.uniform(0.3, 1.0)
        return True

    def _begin(self, size_bytes: int, now_s: float) -> None:
        """Write a unit and start on it."""
        source = os.path.join(self.spec.folder, "unit.c")
        count = max((size_bytes - CC1_BYTES) // FUNCTION_BYTES, 1)
        with open(source, "w", encoding="ascii") as file:
            for serial in range(count):
                table = ",".join(map(str, (self._random.getrandbits(32) for _ in range(TABLE_WORDS))))
                file.write(FUNCTION.format(i=serial, table=table, size=self._random.randrange(2, 9), words=TABLE_WORDS,
                                           noise=self._random.getrandbits(16)))
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": self.spec.folder, "LC_ALL": "C"}
        self.spawn([self._compiler, "-quiet", "-O0", "-w", source, "-o", os.devnull], env=environment)
        self._begun_s = self._turned_s = now_s
        self._run_for_a_turn(now_s)

    def _run_for_a_turn(self, now_s: float) -> None:
        """Let it run for its share of the time since the last turn, then stop it."""
        child = self.children[0]
        used_s = _cpu_s(child.pid) + min(max((now_s - self._turned_s) * SHARE, 0.02), TURN_S)
        self._turned_s = now_s
        os.killpg(child.pid, signal.SIGCONT)
        while child.poll() is None and _cpu_s(child.pid) < used_s and time.monotonic() < now_s + WAIT_S:
            time.sleep(LOOK_S)
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGSTOP)

    def stop(self) -> None:
        """End the unit, which may stand still."""
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        super().stop()


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process, to the nanosecond: its stat counts in hundredths."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0
