"""What hangs does not hang the guard: a helper that is stopped, clients that never answer."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from guarded import MIB, Guard, Holder, is_alive, until
from test_fault_descriptors import HOOKED, helper_of

from oomguard.enclosure import Enclosure

Start = Callable[..., Guard]
Child = Callable[..., "subprocess.Popen[str]"]


def test_a_helper_that_hangs_is_replaced(
    start: Start, child: Child, enclosure: Callable[..., Enclosure], rules: Callable[[str], str], folder: Path,
) -> None:
    """SIGSTOP: the loop ticks on, the hook fails at its deadline, the helper is killed, and the next one works."""
    group, mark = enclosure("hung", 64 * MIB), folder / "mark"
    Holder(child, join=group.join).take(53)
    text = HOOKED.format(mark=mark).replace("]}\n", "], deadline: 1s}\n", 1)
    guard = start("run", "--rules", rules(text), "--target", f"cgroup:{group.path}")
    until(mark.exists, "the first hook", guard.said)
    hung = helper_of(guard.pid)
    os.kill(hung, signal.SIGSTOP)
    before = guard.samples(1)
    assert guard.samples(before + 10)       # while it hangs
    assert guard.event("hook-failed")["because"] == "the helper does not answer"
    until(lambda: not is_alive(hung), "its end", guard.said)
    lines = len(mark.read_text())
    until(lambda: len(mark.read_text()) > lines, "a hook by the next helper", guard.said)
    assert guard.target()["hooks"][0]["on_hold_until_s"] == float("-inf") or guard.target()["hooks"][0]["failures"] == 0
