"""`oomguard explain` from the command line: text, JSON, a picture; of recordings and of a running guard."""

from __future__ import annotations

import argparse
import json
import select
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "replay"))

from recordings import SAMPLE, random_samples

from oomguard.cli import explain
from oomguard.decide.decide import decider_for
from oomguard.decide.plan_json import from_json, to_json
from oomguard.decide.rules import load_rules
from oomguard.decide.view import View
from oomguard.errors import UsageError
from oomguard.tell.client import NobodyListensError
from oomguard.tell.control import ControlServer
from oomguard.tell.log import Log
from oomguard.window import Window

RUN = "000-redis-leak-256"
RULES = """\
version: 1
targets: [{name: app, self: true}]
model: none
rules:
  - {name: trim, when: {used_above: 5%, for: 2s}, then: [{hook: any, release: needed}], cooldown: 30s}
"""


def run(*argv):
    parser = argparse.ArgumentParser()
    explain.add_arguments(parser)
    return explain.run(parser.parse_args(argv))


def test_text_and_json_tell_the_same(capsys):
    """The same moment, the same level, the same rules; JSON without NaN."""
    assert run(str(SAMPLE), "--run", RUN, "--at", "180", "--model", "shipped") == 0
    shown = capsys.readouterr().out
    assert run(str(SAMPLE), "--run", RUN, "--at", "180", "--model", "shipped", "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["headline"] in shown
    assert found["kill_s"] == 212.5
    assert len(found["window"]) > 300
    score = found["score"]
    assert score["bias"] + sum(push["contribution"] for push in score["pushes"]) == pytest.approx(score["score"])
    assert [rule["rule"] for rule in found["rules"]]


def test_a_picture_is_written(tmp_path, capsys):
    """--plot draws, and the text comes all the same."""
    pytest.importorskip("matplotlib")
    path = tmp_path / "why.png"
    assert run(str(SAMPLE), "--run", RUN, "--alarm", "1", "--model", "none", "--plot", str(path)) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "alarm 1 at" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [(), (str(SAMPLE),), (str(SAMPLE), "--run", RUN, "--alarm", "99"),
                                  (str(SAMPLE), "--socket", "/x"), (str(SAMPLE), "--run", RUN, "--plot", "x.gif")])
def test_what_cannot_be_explained_is_a_usage_error(argv):
    """No source, many runs and none named, no such alarm, two sources, a picture of no kind."""
    with pytest.raises(UsageError):
        run(*argv)


@pytest.fixture
def guard(tmp_path):
    """A control server and a window file, as a guard has them, without a model."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    status = {"targets": [{"name": "app"}], "model": None,
              "rules": {"source": str(rules), "digest": load_rules(rules).digest}}
    (tmp_path / "windows").mkdir()
    window = Window.open(str(tmp_path / "windows" / "app.window"), "run", 0.0)
    plan, acted = from_json(to_json(load_rules(rules))), 0
    decider, state = decider_for(plan, "app"), window.state
    for sample in random_samples(1, 100):
        window.push(sample)
        acted += decider.decide(View(sample.t_s, 0, limit_bytes=sample.limit_bytes, used_bytes=sample.used_bytes),
                                state) is not None
    assert acted
    state.release()
    window.close()
    end, epoll, path = threading.Event(), select.epoll(), str(tmp_path / "control.sock")
    server = ControlServer(path, {"status": lambda request, client: status}, epoll, Log(2))

    def serve():
        while not end.is_set():
            for fd, events in epoll.poll(0.05):
                server.handle(fd, events)

    thread = threading.Thread(target=serve)
    thread.start()
    yield path, status
    end.set()
    thread.join()
    server.close()
    epoll.close()


def test_the_running_guard_is_explained_with_its_own_rules(guard, capsys):
    """Rules and model are the guard's own, its only target is meant; nothing differs, so nothing is warned of."""
    assert run("--socket", guard[0]) == 0
    shown = capsys.readouterr()
    assert "app  now at" in shown.out
    assert "'trim' holds, but acted lately and rests for" in shown.out
    assert shown.err == ""


def test_other_rules_than_the_running_guards_are_warned_of(guard, capsys):
    """The explanation is for what was read here: said on standard error."""
    guard[1]["rules"]["digest"] = "0" * 64
    assert run("--socket", guard[0], "--target", "app") == 0
    assert "has other rules" in capsys.readouterr().err


def test_a_target_that_is_not_guarded_names_those_that_are(guard):
    """The names to choose from stand in the error."""
    with pytest.raises(UsageError, match="one of app"):
        run("--socket", guard[0], "--target", "nobody")


def test_without_a_guard_it_says_how_to_start_one(tmp_path):
    """As every client does."""
    with pytest.raises(NobodyListensError):
        run("--socket", str(tmp_path / "none"))
