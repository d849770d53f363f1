"""What every client must do, whatever it is written in: shared by the tests of each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guarded import Guard, until

from oomguard.tell.client import ask

Start = Callable[..., Guard]
TRIM = """
rules:
  - name: trim in time
    when: {level_at_least: 2}
    then: [{hook: HOOK, release: needed}]
    cooldown: 1s
bounds: {minimum_gap: 1s}
"""


def charge_here(*files: Path) -> None:
    """Read a program's files, so that the kernel charges their pages to us and not to the app's own limit.

    An app that is the first to touch them can stand at its limit for minutes, alive, while the kernel takes its text
    away and reads it in again: 60 s and more with node (measured), instead of a kill within one.
    """
    for file in files:
        file.read_bytes()


def exec_(start: Start, limit: str, rules: str, *argv: str) -> Guard:
    """Start a program under a limit and the guard."""
    return start("exec", "--limit", limit, "--rules", rules, "--", *argv, stdout=subprocess.PIPE, text=True)


def _ended(guard: Guard) -> int:
    try:
        return guard.wait()
    except subprocess.TimeoutExpired:
        pytest.fail(f"it did not end; {guard.said()}")


def dies_of_memory(guard: Guard) -> None:
    """The kernel kills it: its own count says so."""
    assert _ended(guard) == 137, guard.said()
    end = guard.event("end")
    assert (end["ended"], end["oom_kills"]) == ("oom", 1)
    assert "done" not in guard.process.stdout.read()
    assert guard.event("hook-registered")["hook"] == "image-cache"


def lives_to_its_end(guard: Guard, hook: str) -> None:
    """Asked in time, it gives back and ends when it meant to."""
    assert _ended(guard) == 0, guard.said()
    assert "done, asked" in guard.process.stdout.read()
    end = guard.event("end")
    assert (end["ended"], end["oom_kills"]) == ("exit", 0)
    releases = [release for release in guard.events("release") if release["freed_bytes"]]
    assert max(release["freed_bytes"] for release in releases) > 10 << 20
    assert {release["hook"] for release in releases} == {hook}


def talks(straw: Any, talker: subprocess.Popen[str]) -> None:
    """Registers, tells, answers, survives nonsense and the guard's end, comes back and says it all again."""
    guard = straw()
    guard.meet()
    hears_all(guard)
    guard.ask("good", needed_bytes=1 << 40, unknown={"nested": [1, {"a": "]"}]})
    assert answer(guard) == {"ticket": 7, "freed_bytes": 12345}
    asked = talker.stdout.readline()
    assert asked.startswith("asked ")
    assert str(1 << 40) in asked
    assert "\u00e9" in asked
    guard.ask("bad", ticket=8)
    failed = answer(guard)
    assert failed["ticket"] == 8
    assert 'no "memory"\n left' in failed["error"]
    guard.ask("quiet", ticket=9)
    assert answer(guard) == {"ticket": 9, "freed_bytes": None}
    guard.ask("nobody", ticket=10)
    assert answer(guard)["error"]
    guard.say(b'{"v":1,"event":"level","level":3}\n')
    guard.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    guard.meet()                                # it hung up on the nonsense, and came again
    hears_all(guard)
    guard.close()
    guard = straw()
    guard.meet()
    hears_all(guard)
    talker.stdin.close()
    assert talker.wait(timeout=20) == 0
    assert talker.stdout.read().endswith("ends\n")


def hears_all(guard: Any) -> None:
    """Every hook, the phase, and the newest gauge reach the guard; a gauge set a thousand times is few messages."""
    said: dict[str, Any] = {}
    gauges = []
    while not (said.keys() >= {"good", "bad", "quiet", "phase"} and gauges[-1:] == [1000]):
        message = guard.hear_any()
        if message["op"] == "register":
            said[message["name"]] = message
        elif message["op"] == "state":
            said["phase"] = message["phase"]
        if message.get("hook", message.get("name")) == "good" and message.get("evictable_bytes") is not None:
            gauges.append(message["evictable_bytes"])
    assert said["good"]["cost"] == 0.5
    assert said["phase"] == "browse"
    assert len(gauges) < 10


def answer(guard: Any) -> dict[str, Any]:
    """Return the next answer without what is the same in all."""
    return {key: value for key, value in guard.hear("released").items() if key not in ("op", "id")}


def comes_back(start: Start, talker: Callable[[str], Any], hooks: set[str]) -> None:
    """A real guard that dies is forgotten, and a new one is told everything anew."""
    guard = start("run", "--target", "system", "--model", "none")
    path = guard.socket
    talker(path)
    for turn in range(2):
        until(lambda: hooks <= {hook["name"] for hook in ask(path, {"op": "status"})["targets"][0]["hooks"]},
              "its hooks", guard.said)
        if turn == 0:
            guard.process.kill()
            guard.wait()
            guard = start("run", "--target", "system", "--model", "none")
            guard.event("start", at=1)
            guard.status()
