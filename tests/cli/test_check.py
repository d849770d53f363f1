"""`oomguard check`: everything that `run` would check, and nothing is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oomguard.cli import main

GOOD = """
version: 1
model: none
targets: [{name: none, unit: og-none.service}]
rules:
  - {name: ask, when: {level_at_least: 2}, then: [{hook: app-cache, release: 25%}]}
"""


def check(tmp_path: Path, text: str, *more: str) -> int:
    """Check rules of this text."""
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return main(["check", str(path), *more])


def test_good_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0; what it would guard with, and what is not there now."""
    assert check(tmp_path, GOOD) == 0
    out = capsys.readouterr().out
    assert "rules.yaml: fine" in out and "none: plain levels" in out
    assert "og-none.service is not running" in out and "'app-cache' is not declared here" in out


def test_each_hook_with_what_it_reaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command, a signal, a server's address; nothing where there is nothing to say."""
    hooks = """hooks:
  - {name: prune, command: [/bin/true, --all]}
  - {name: drop, signal: SIGUSR2}
  - {name: cache, redis: {address: "127.0.0.1:6379"}}
  - {name: heap, jvm: true}
"""
    assert check(tmp_path, GOOD.replace("rules:\n", f"{hooks}rules:\n")) == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  hook")]
    assert shown == ["hook     prune: command /bin/true --all", "hook     drop: signal SIGUSR2",
                     "hook     cache: redis 127.0.0.1:6379", "hook     heap: jvm"]


def test_good_rules_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checked plan and the findings."""
    assert check(tmp_path, GOOD, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plan"]["rules"][0]["name"] == "ask" and found["problems"] == [] and len(found["remarks"]) == 2


def test_every_mistake_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3, a line for each: file, line, path, problem."""
    bad = GOOD.replace("level_at_least: 2", "level_at_least: 9").replace("25%", "lots")
    assert check(tmp_path, bad) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("rules.yaml:6: rules[0]." in line for line in lines)


@pytest.mark.parametrize("text", ["", "[]", "version: 2", "a: b: c", "\0", "version: 1\nversion: 1"])
def test_what_are_no_rules(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3, whatever it is."""
    assert check(tmp_path, text) == 3
    assert "rules.yaml" in capsys.readouterr().err


def test_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is a configuration error that names it."""
    assert main(["check", "/nonexistent/rules.yaml"]) == 3
    assert "/nonexistent/rules.yaml" in capsys.readouterr().err


def test_a_bad_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4, and the rules are still shown."""
    assert check(tmp_path, GOOD, "--model", str(tmp_path)) == 4
    said = capsys.readouterr()
    assert "manifest.json" in said.err and "rules.yaml: fine" in said.out


def test_the_shipped_rules(capsys: pytest.CaptureFixture[str]) -> None:
    """With no argument: the rules and the model that ship."""
    assert main(["check", "--model", "none"]) == 0
    assert "default.yaml: fine" in capsys.readouterr().out
