"""`python -m oomguard.learn.lab.drive`: make one program follow a curve; a process a run, outside the cgroup.

One JSON line on standard input says what to do (Orders); later lines are {"evict": bytes}. Lines on standard output
tell {"started": ...}, {"evicted": bytes, "took_s": s}, {"gone": why}. End of input, or SIGTERM, ends the program.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import time
from typing import NamedTuple, NoReturn

from oomguard.learn.lab.program import Program, ProgramGoneError, Spec, driver_of

STEP_S = 0.5


class Orders(NamedTuple):
    """What the lab tells the driver of a run; plain JSON."""

    spec: dict[str, object]         # Spec
    procs: list[str]                # cgroup.procs files to enter
    curve: list[float]              # bytes to be charged, every `curve_step_s`, a straight line in between
    curve_step_s: float
    cache_bytes: float = 0.0        # a cache beside it that fills at so many bytes a second
    refill_bytes_per_s: float = 0.0
    oom_score_adj: int = 0


class Cache:
    """How large the cache is wanted: it fills by itself, and shrinks when it is told to."""

    def __init__(self, most_bytes: float, refill_bytes_per_s: float) -> None:
        self._most_bytes, self._refill, self.size_bytes = most_bytes, refill_bytes_per_s, 0.0

    def fill(self, elapsed_s: float) -> None:
        """Let it grow by what comes in meanwhile."""
        self.size_bytes = min(self._most_bytes, self.size_bytes + self._refill * elapsed_s)

    def evict(self, size_bytes: float) -> float:
        """Drop so many bytes, or all there are; return how many."""
        dropped_bytes = min(size_bytes, self.size_bytes)
        self.size_bytes -= dropped_bytes
        return dropped_bytes


def wish_bytes(orders: Orders, t_s: float) -> float:
    """Return what is to be charged at `t_s`; after its end the curve stays where it was."""
    at = t_s / orders.curve_step_s
    low = min(int(at), len(orders.curve) - 1)
    high = min(low + 1, len(orders.curve) - 1)
    return orders.curve[low] + (orders.curve[high] - orders.curve[low]) * (at - math.floor(at))


def main() -> int:
    """Drive one program until it is gone, or nobody wants it any more."""
    orders = Orders(**json.loads(sys.stdin.buffer.readline()))
    spec = Spec(**orders.spec)      # type: ignore[arg-type]
    program = driver_of(spec.program)(spec, lambda: _enter(orders))
    signal.signal(signal.SIGTERM, _end)
    try:
        program.start()
        _tell(started=program.pids())
        _follow(program, orders)
    except ProgramGoneError as gone:
        _tell(gone=str(gone))
    except (KeyboardInterrupt, SystemExit, BrokenPipeError):
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        program.stop()
    return 0


def _follow(program: Program, orders: Orders) -> None:
    begun_s = last_s = time.monotonic()
    cache = Cache(orders.cache_bytes, orders.refill_bytes_per_s)
    commands = Commands(sys.stdin.fileno())
    while True:
        now_s = time.monotonic()
        cache.fill(now_s - last_s)
        if orders.cache_bytes > 0:
            program.keep(cache.size_bytes)
        live_bytes = wish_bytes(orders, now_s - begun_s) - program.base_bytes
        program.hold(max(0.0, live_bytes / (program.charge_ratio or 1.0)))    # 0: what it holds is all page cache
        program.check()
        last_s = now_s
        if not _obey(program, cache, commands, now_s + STEP_S):
            return


def _obey(program: Program, cache: Cache, commands: Commands, until_s: float) -> bool:
    """Carry out commands until the next step is due; return whether to go on."""
    while (left_s := until_s - time.monotonic()) > 0:
        wanted = commands.next(left_s)
        if wanted is None:
            return False
        for command in wanted:
            asked_s = time.monotonic()
            dropped_bytes = cache.evict(float(command["evict"]))
            program.keep(cache.size_bytes)
            _tell(evicted=dropped_bytes, took_s=time.monotonic() - asked_s)
    return True


class Commands:
    """Lines of JSON from a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd, self._rest = fd, b""

    def next(self, timeout_s: float) -> list[dict[str, float]] | None:
        """Return the commands that came within `timeout_s`; None at the end of input."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return []
        more = os.read(self._fd, 65536)
        if not more:
            return None
        *lines, self._rest = (self._rest + more).split(b"\n")
        return [json.loads(line) for line in lines if line]


def _enter(orders: Orders) -> None:
    for path in orders.procs:
        with open(path, "w", encoding="ascii") as file:
            file.write("0")
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(orders.oom_score_adj))


def _tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _end(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
