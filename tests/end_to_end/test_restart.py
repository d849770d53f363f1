"""kill -9 of the guard in the middle of a run, then a restart: nothing that matters is forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from guarded import MIB, Guard, Holder, until

from oomguard.enclosure import Enclosure
from oomguard.window import Window

Start = Callable[..., Guard]
Child = Callable[..., "subprocess.Popen[str]"]
MakeEnclosure = Callable[..., Enclosure]

LONG_COOLDOWN = """
hooks:
  - {{name: trim, command: [sh, -c, 'echo x >> {mark}']}}
rules:
  - name: trim once
    when: {{level_at_least: 2}}
    then: [{{hook: trim, release: all}}]
    cooldown: 1h
"""


def window_of(folder: Path, name: str) -> Window:
    """Open a copy of a target's window file, as who finds it after a crash."""
    path = folder / "rt" / "windows" / f"{name}.window"
    copy = folder / "copy.window"
    copy.write_bytes(path.read_bytes())
    identity = copy.read_bytes()[128:384].rstrip(b"\0").decode()
    return Window.open(str(copy), identity, 0.0)


def test_the_window_goes_on_after_a_kill(start: Start, folder: Path) -> None:
    """The restarted guard counts on from the file; at most one sample, the one in the making, is lost."""
    name = str(os.getpid())
    first = start("run", "--model", "none", "--target", f"pid:{name}")
    seen = first.samples(12)
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    window = window_of(folder, name)
    kept, began_s, last_s = window.samples_total, window.start_s, window.last_t_s
    window.close()
    assert kept >= seen         # status had said so much; nothing of it is lost
    second = start("run", "--model", "none", "--target", f"pid:{name}")
    assert second.event("guarding", 1)["is_continued"] is True
    status = second.samples(kept + 1)
    assert status > kept
    assert second.stop() == 0
    window = window_of(folder, name)
    times = [block.t_s for block in window.blocks()]
    assert window.start_s == began_s and window.last_t_s > last_s
    assert times == sorted(times) and times[0] < 1.5
    window.close()


@pytest.mark.parametrize("turn", range(3))
def test_killed_at_any_moment(start: Start, folder: Path, turn: int) -> None:
    """Killed over and over at ten readings a second, each next guard takes the file as whole."""
    name = str(os.getpid())
    total = 0
    for _ in range(3):
        guard = start("run", "--model", "none", "--target", f"pid:{name}")
        total = guard.samples(total + 2 + turn)
        os.kill(guard.pid, signal.SIGKILL)
        guard.process.wait()
    assert guard.events("window-refused") == []
    assert [event["is_continued"] for event in guard.events("guarding")] == [False, True, True]


def test_a_cooldown_is_kept(start: Start, child: Child, enclosure: MakeEnclosure, folder: Path,
                            rules: Callable[[str], str]) -> None:
    """A rule that acted a moment ago does not act again because the guard was killed and came back."""
    group = enclosure("cooling", 64 * MIB)
    Holder(child, join=group.join).take(53)
    mark = folder / "mark"
    argv = ("run", "--rules", rules(LONG_COOLDOWN.format(mark=mark)), "--target", f"cgroup:{group.path}")
    first = start(*argv)
    until(mark.exists, "the hook")
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    second = start(*argv)
    before = second.samples(1)
    assert second.samples(before + 10)
    assert second.target()["level"] >= 2
    assert len(second.events("decision")) == 1
    assert mark.read_text() == "x\n"
    # The counterpart: with the file gone, so is the cooldown.
    second.stop()
    for file in (folder / "rt" / "windows").iterdir():
        file.unlink()
    third = start(*argv)
    assert third.event("decision", 1)["rule"] == "trim once"


def test_another_start_of_the_program_is_another_run(start: Start, child: Child, enclosure: MakeEnclosure) -> None:
    """The file of a cgroup that was removed and made anew is not continued."""
    group = enclosure("anew", 64 * MIB)
    guard = start("run", "--model", "none", "--target", f"cgroup:{group.path}", "--ticks", "3")
    assert guard.wait() == 0
    group.remove()
    enclosure("anew", 64 * MIB)
    guard = start("run", "--model", "none", "--target", f"cgroup:{group.path}", "--ticks", "3")
    assert guard.wait() == 0
    assert [event["is_continued"] for event in guard.events("guarding")] == [False, False]


def test_a_stale_socket_is_replaced(start: Start) -> None:
    """The socket of a guard that was killed does not keep the next one out."""
    first = start("run", "--model", "none", "--target", f"pid:{os.getpid()}")
    assert first.status()["pid"] == first.pid
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    second = start("run", "--model", "none", "--target", f"pid:{os.getpid()}")
    until(lambda: second.status()["pid"] == second.pid, "the second guard")
