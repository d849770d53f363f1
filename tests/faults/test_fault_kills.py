"""kill -9 of the guard, over and over: the tick that it hits is lost at most, and the next guard goes on."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from faulted import guard_of_us, recording_of, runs_of
from guarded import Guard

ROUNDS = 40 if os.environ.get("OOMGUARD_DEVICE") else 8


def samples_in(folder: Path) -> int:
    """Return how many samples the window's file counts, whoever is alive."""
    return int.from_bytes((folder / "rt" / "windows" / f"{os.getpid()}.window").read_bytes()[64:72], "little")


def test_each_kill_costs_one_sample_at_most(start: Callable[..., Guard], folder: Path) -> None:
    """At ten readings a second and random moments: window and journal hold every tick but those that were hit."""
    chance = random.Random(20261122)
    for _ in range(ROUNDS):
        guard = guard_of_us(start)
        seen = guard.samples(1)
        guard.samples(seen + 2)
        time.sleep(chance.random() * 0.1)       # the moment is the fault
        os.kill(guard.pid, signal.SIGKILL)
        guard.process.wait()
        assert samples_in(folder) >= seen + 2
    last = guard_of_us(start)
    last.samples(samples_in(folder) + 3)
    assert last.stop() == 0
    (run,) = runs_of(folder)                    # a restarted guard continues the run
    assert 0 <= samples_in(folder) - len(run) <= ROUNDS
    assert recording_of(folder).losses.damaged_places == 0
    assert last.events("window-refused") == []
