"""What remote hooks need of the guard: a phase and hooks that come and go, releases on somebody's word; and rules."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oomguard.decide.decide import Decider
from oomguard.decide.plan import Action, Bounds, Condition, Release, Rule
from oomguard.decide.view import View

RULES = """
version: 1
model: none
targets: [system]
rules:
  - name: trim while it plays
    when: {phase: playback}
    then: [{hook: image-cache, release: 4MiB}]
    cooldown: 2s
bounds: {minimum_gap: 1s}
"""
NAN = math.nan


def view(t_s: float, level: int = 1) -> View:
    """Return a tick's view."""
    return View(t_s, level, None, None, 100.0, 50.0, 50.0, 50.0, 50.0, NAN, NAN, None)


def test_a_claim_counts_within_the_rules_own_bounds() -> None:
    """Somebody's word and the rules take from one purse: two actions a minute, ten seconds apart, whoever asks."""
    rule = Rule("act", Condition("level_at_least", 1.0), (Action("any", Release("all")),), cooldown_s=0.0)
    decider = Decider([rule], Bounds(actions_per_minute=2, minimum_gap_s=10.0))
    state = [0.0] * decider.state_size
    assert decider.decide(view(100.0), state) is not None
    assert not decider.claim(1, 105.0, state)           # too soon after the rule
    assert decider.claim(1, 111.0, state)
    assert decider.decide(view(115.0), state) is None   # too soon after the word
    assert decider.decide(view(122.0), state) is None   # two within the minute
    assert not decider.claim(1, 122.0, state)
    assert decider.decide(view(161.0), state) is not None


def test_a_claim_may_not_be_larger_than_the_bounds() -> None:
    """Three actions where two a minute are allowed are none."""
    decider = Decider([], Bounds(actions_per_minute=2, minimum_gap_s=0.0))
    state = [0.0] * decider.state_size
    decider.decide(view(100.0), state)
    assert not decider.claim(3, 100.0, state)
    assert decider.claim(2, 100.0, state)


@pytest.fixture
def guard() -> Iterator[str]:
    """A real guard under the rules above; its socket."""
    with tempfile.TemporaryDirectory(prefix="og-") as folder:
        path, rules = f"{folder}/s", Path(folder) / "rules.yaml"
        rules.write_text(RULES)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("OOMGUARD_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "oomguard", "run", "--rules", str(rules), "--cadence", "100ms", "--socket", path,
             "--log", f"{folder}/log", "--runtime-dir", f"{folder}/rt"], env=environ)
        give_up_s = time.monotonic() + 20
        while not Path(path).exists():
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
        yield path
        process.terminate()
        process.wait()


def test_a_rule_asks_by_the_apps_own_words(guard: str) -> None:
    """The phase an app tells makes a rule hold, the hook it registered is asked, by name, until the phase is over."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(guard)
        with client.makefile("rb") as file:
            def say(**message: Any) -> None:
                client.sendall(json.dumps(message).encode() + b"\n")

            def hear() -> Any:
                return json.loads(file.readline())

            say(op="register", name="image-cache")
            assert hear()["ok"]
            say(op="state", phase="playback")
            assert hear()["ok"]
            for _turn in range(2):
                asked = hear()
                assert (asked["event"], asked["hook"], asked["needed_bytes"]) == ("release", "image-cache", 4 << 20)
                assert asked["reason"].startswith("trim while it plays: ")
                say(op="released", ticket=asked["ticket"], freed_bytes=4 << 20)
                assert hear()["ok"]
            say(op="state", phase=None)
            assert hear()["result"] == {"target": "system", "phase": None}
            client.settimeout(3)            # longer than the cooldown
            with pytest.raises(TimeoutError):
                file.readline()
