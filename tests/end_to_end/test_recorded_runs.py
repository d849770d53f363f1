"""A guarded run is recorded as it happens, and replays to the same decisions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guarded import PROGRAMS, Guard

pytest.importorskip("pyarrow", reason="export needs the learn extra")

Start = Callable[..., Guard]

RULES = """\
version: 1
cadence: 100ms
rules:
  - name: ask whoever listens
    when: {level_at_least: 2}
    then: [{hook: any, release: all}]
    cooldown: 1s
"""


def oomguard(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run([sys.executable, "-m", "oomguard", *words], capture_output=True, text=True, timeout=120)


@pytest.fixture
def recorded(start: Start, folder: Path) -> tuple[Guard, Path]:
    """Return an ended `exec` of a program that grows, listens, and grows again, with its journal's folder."""
    rules, journal = folder / "rules.yaml", folder / "journal"
    rules.write_text(RULES)
    guard = start("exec", "--limit", "64MiB", "--rules", str(rules), "--journal", str(journal), "--model", "none", "--",
                  sys.executable, "-S", str(PROGRAMS / "cache_app.py"), "120", "16", "fifo")
    guard.wait()
    return guard, journal


def test_what_happened_is_in_the_tables_and_replays(recorded: tuple[Guard, Path], folder: Path) -> None:
    """Every decision of the log is in the recording, and replay makes the same ones at the same times."""
    import pyarrow.parquet as pq

    guard, journal = recorded
    decisions = guard.events("decision")
    assert decisions
    done = oomguard("record", "export", str(journal), "--out", str(folder / "tables"))
    assert done.returncode == 0, done.stderr
    actions = pq.read_table(folder / "tables" / "actions.parquet").to_pylist()
    assert [action["rule"] for action in actions] == [event["rule"] for event in decisions]
    assert all(action["duration_s"] is not None for action in actions)
    (run,) = pq.read_table(folder / "tables" / "runs.parquet").to_pylist()
    assert run["ended"] == guard.events("end")[-1]["ended"]
    assert run["rules_digest"]
    samples = pq.read_table(folder / "tables" / "samples.parquet")
    assert samples.num_rows > 20

    again = oomguard("replay", str(folder / "tables"), "--rules", str(folder / "rules.yaml"), "--model", "none",
                     "--json")
    assert again.returncode == 0, again.stderr
    lines: list[dict[str, Any]] = [json.loads(line) for line in again.stdout.splitlines()]
    assert [line["rule"] for line in lines if line["rule"]] == [event["rule"] for event in decisions]
    assert [round(line["t_s"], 3) for line in lines if line["rule"]] == [event["t_s"] for event in decisions]


def test_recording_can_be_left_out(start: Start, folder: Path) -> None:
    """`--journal none` writes nothing."""
    guard = start("run", "--model", "none", "--journal", "none", "--target", f"pid:{os.getpid()}")
    guard.samples(3)
    assert guard.stop() == 0
    assert not (folder / "state").exists()


def test_two_guards_over_one_journal(start: Start, folder: Path) -> None:
    """The second one guards without recording, and says so."""
    journal = str(folder / "journal")
    first = start("run", "--model", "none", "--journal", journal, "--target", f"pid:{os.getpid()}")
    first.samples(2)
    second = start("run", "--model", "none", "--journal", journal, "--target", f"pid:{os.getpid()}",
                   "--runtime-dir", str(folder / "other"))
    assert "record" in second.event("not-recording")["because"]
