"""`oomguard status` against a real control socket."""

import argparse
import json
import select
import threading

import pytest

from oomguard.cli import status
from oomguard.tell.client import NobodyListensError
from oomguard.tell.control import ControlServer
from oomguard.tell.log import Log

TARGET = {"name": "player", "limit_bytes": 64 << 20, "used_bytes": 48 << 20, "headroom_bytes": 16 << 20,
          "level": 3, "probabilities": {"60": 0.02, "180": 0.61, "300": 0.9}, "time_to_limit_s": 150.0,
          "scorer": "forest", "constraint": "cgroup:/player", "hooks": ["image-cache", "gc"]}
ANSWER = {"targets": [TARGET], "model": {"id": "default-1", "digest": "ab" * 32},
          "rules": {"source": "/etc/oomguard/rules.yaml", "digest": "cd" * 32}, "dry_run": False,
          "warnings": [], "agent_version": "0.1.0", "listeners": {"subscribers": 0, "pressure": 1}}


@pytest.fixture
def guard(tmp_path):
    """A control server that answers with what a test puts into the dict."""
    answer, end = {}, threading.Event()
    epoll, path = select.epoll(), str(tmp_path / "s")
    server = ControlServer(path, {"status": lambda request, client: answer}, epoll, Log(2))

    def serve():
        while not end.is_set():
            for fd, events in epoll.poll(0.05):
                server.handle(fd, events)

    thread = threading.Thread(target=serve)
    thread.start()
    yield path, answer
    end.set()
    thread.join()
    server.close()
    epoll.close()


def run(*argv):
    parser = argparse.ArgumentParser()
    status.add_arguments(parser)
    return status.run(parser.parse_args(argv))


def test_json_has_the_promised_keys(guard, capsys):
    """DESIGN 4.10: targets with their keys, model and rules; what else the guard told comes too."""
    path, answer = guard
    answer.update(ANSWER)
    assert run("--json", "--socket", path) == 0
    assert json.loads(capsys.readouterr().out) == ANSWER


def test_json_of_a_terse_guard_still_has_the_promised_keys(guard, capsys):
    """What the guard does not know is null, not missing."""
    assert run("--json", "--socket", guard[0]) == 0
    assert json.loads(capsys.readouterr().out) == {"targets": None, "model": None, "rules": None}


def test_the_table_tells_it_to_people(guard, capsys):
    """One row per target and what stands behind it, in 80 columns."""
    path, answer = guard
    answer.update(ANSWER)
    assert run("--socket", path) == 0
    assert capsys.readouterr().out == """\
oomguard 0.1.0
model  default-1  abababababab
rules  /etc/oomguard/rules.yaml  cdcdcdcdcdcd

TARGET                                     USED/LIMIT LEVEL TO LIMIT SCORER
player           [#########...]     48.0 MiB/64.0 MiB     3  2.5 min forest
  16.0 MiB of headroom below cgroup:/player
  chance of a kill: 2% in 60 s, 61% in 180 s, 90% in 300 s
  hooks: image-cache, gc

listeners: subscribers 0, pressure 1
"""


def test_what_is_waited_for_and_what_was_done_is_told():
    """Targets not there yet, releases and what they freed, kills: each where there are some."""
    shown = status.table(ANSWER | {"waiting_for": ["worker"], "targets": [
        TARGET | {"releases": 3, "freed_bytes": 24 << 20, "kills": 2, "probabilities": {"p60": 0.5}}]})
    assert "waiting for worker: not there now" in shown
    assert "releases: 3, which gave back 24.0 MiB" in shown
    assert "kills by the kernel: 2" in shown
    assert "chance of a kill: 50% in 60 s" in shown


def test_an_alarm_that_reaches_nobody_is_a_warning():
    """No listener of any kind and no hook: said. One of either: not said. Not told: not guessed."""
    deaf = ANSWER | {"listeners": {"subscribers": 0, "pressure": 0}, "targets": [TARGET | {"hooks": []}]}
    assert "warning: nobody listens" in status.table(deaf)
    assert "nobody listens" not in status.table(deaf | {"targets": [TARGET]})
    assert "nobody listens" not in status.table(deaf | {"listeners": {"subscribers": 1, "pressure": 0}})
    assert "nobody listens" not in status.table({key: deaf[key] for key in deaf if key != "listeners"})
    assert status.table(deaf | {"warnings": ["nobody listens at all"]}).count("nobody listens") == 1


def test_dry_run_abstention_and_a_broken_model_are_said():
    """The table says when hooks are not called, why the model is silent, and what is wrong with it."""
    shown = status.table(ANSWER | {
        "dry_run": True, "model": {"id": "default-1", "trouble": "unsigned"},
        "targets": [TARGET | {"probabilities": None, "time_to_limit_s": None, "scorer": "plain",
                              "abstains_because": "window of 12 s is shorter than 30 s"}]})
    assert "DRY RUN" in shown
    assert "model  default-1  unsigned" in shown
    assert "the model abstains: window of 12 s is shorter than 30 s" in shown
    assert "       - plain" in shown


@pytest.mark.parametrize("odd", [
    {}, {"targets": None}, {"targets": [None, 3, {}]},
    {"targets": [{"name": None, "level": "x", "hooks": 3}]},
    {"targets": [TARGET | {"limit_bytes": 0}]}, {"targets": [TARGET | {"limit_bytes": float("nan")}]},
    {"model": "plain", "rules": "r.yaml", "listeners": {"x": None}, "warnings": "text"},
])
def test_an_odd_answer_is_shown_all_the_same(odd):
    """A guard of another version may leave out or add anything; unknown reads `?`."""
    assert status.table(odd).startswith("oomguard")


def test_a_name_cannot_play_with_the_terminal():
    """Escape sequences in a cgroup's name are shown, not sent."""
    target = TARGET | {"name": "\x1b[2J", "constraint": "a\nb"}
    shown = status.table({"targets": [target], "warnings": ["\x07"]})
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert r"below a\nb" in shown


@pytest.mark.parametrize(("ratio", "shown"), [
    (0.0, "[............]"), (0.5, "[######......]"), (0.999, "[###########.]"), (1.0, "[############]"),
    (1.7, "[############]"), (-0.1, "[............]"), (float("nan"), "[????????????]"),
])
def test_the_bar(ratio, shown):
    """It is full only when the limit is reached."""
    assert status.bar(ratio) == shown


def test_rows_hold_within_80_columns():
    """Long names are cut, large numbers fit, warnings are wrapped."""
    large = TARGET | {"name": "n" * 40, "limit_bytes": 1023 << 20, "used_bytes": 1022 << 20}
    shown = status.table({"targets": [large], "warnings": ["word " * 40]})
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_without_a_guard_it_says_how_to_start_one(tmp_path):
    """The error names the path and the command."""
    with pytest.raises(NobodyListensError, match="oomguard run"):
        run("--socket", str(tmp_path / "none"))


def test_the_socket_comes_from_the_environment(guard, capsys, monkeypatch):
    """OOMGUARD_SOCKET is asked where no --socket is given."""
    monkeypatch.setenv("OOMGUARD_SOCKET", guard[0])
    assert run("--json") == 0
