"""`oomguard events`: from recordings, from a log in either form, from a running guard; filtered, as lines or JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import select
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "replay"))

from recordings import SAMPLE, random_samples, run_of, write_tables

from oomguard.cli import events
from oomguard.errors import UsageError
from oomguard.replay.happened import of_fields, of_lines, one_line
from oomguard.replay.recording import Acted, Killed
from oomguard.tell.client import NobodyListensError
from oomguard.tell.control import ControlServer
from oomguard.tell.log import Log

DECISION = {"target": "player", "rule": "trim \"it\"", "because": "level 3 >= 2\nfor 2.0 s", "level": 3, "p60": 0.25,
            "odd": float("nan"), "ok": True, "none": None}


def run(*argv):
    parser = argparse.ArgumentParser()
    events.add_arguments(parser)
    return events.run(parser.parse_args(argv))


@pytest.fixture
def recorded(tmp_path):
    """A run with two hooks of one decision, a kill inside, and an end."""
    base = run_of(random_samples(1, 50), run_id="player-1", app="player", ended="exit", ended_after_s=48.0)
    write_tables(tmp_path, [dataclasses.replace(base, actions=(
        Acted(10.0, "trim", "cache", 2, 1 << 20, 1 << 19, 0.5),
        Acted(10.6, "trim", "gc", 2, 1 << 20, float("nan"), 0.1)),
        kills=(Killed(30.0, 812, "kernel", False),))])
    return str(tmp_path)


def log_of(path, *told, is_json):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = Log(fd, is_json)
    for name, severity, fields in told:
        log.event(name, severity, **fields)
    log.close()
    os.close(fd)
    return str(path)


def told(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_recordings_tell_decisions_releases_kills_and_ends(recorded, capsys):
    """In the order of time; two hooks of one decision are one decision, at the sample before, and two releases."""
    assert run(recorded, "--json") == 0
    found = told(capsys)
    decided_s = max(sample.t_s for sample in random_samples(1, 50) if sample.t_s <= 10.0)
    assert [(one["event"], one["t_s"]) for one in found] == [
        ("decision", decided_s), ("release", 10.0), ("release", 10.6), ("kill", 30.0), ("end", 48.0)]
    assert found[2]["freed_bytes"] is None
    assert all(one["target"] == "player" and one["run_id"] == "player-1" for one in found)


def test_lines_are_for_people(recorded, capsys):
    """One line each, in words."""
    run(recorded)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("decision    'trim' at level 2")
    assert lines[1].endswith("release     cache was asked for 1.0 MiB and gave 512.0 KiB in 0.5 s")
    assert lines[2].endswith("gc was asked for 1.0 MiB and gave ? in 0.1 s")
    assert lines[3].endswith("killed by the kernel, process 812 after 30 s")
    assert lines[4].endswith("exit after 48 s")


@pytest.mark.parametrize(("argv", "names"), [
    (("--event", "kill,action"), ["release", "release", "kill"]), (("--event", "error"), ["kill"]),
    (("--target", "nobody"), []), (("--target", "player-1", "--event", "end"), ["end"])])
def test_filters(recorded, capsys, argv, names):
    """By event, by what is an error, by target or run."""
    run(recorded, "--json", *argv)
    assert [one["event"] for one in told(capsys)] == names


def test_since_and_last_leave_out_what_is_older(capsys):
    """The sample was recorded in 1970 as its clock had it: nothing of it is younger than an hour."""
    for argv in (("--last", "1h"), ("--since", "2001-01-01T00:00")):
        assert run(str(SAMPLE), *argv) == 0
        assert capsys.readouterr().out == ""
    run(str(SAMPLE), "--since", "1970-01-01T00:05+00:00", "--event", "kill", "--json")
    assert all(one["t_s"] >= 300 for one in told(capsys))


@pytest.mark.parametrize("is_json", [True, False])
def test_a_log_in_either_form_gives_back_what_was_logged(tmp_path, capsys, is_json):
    """Quotes, newlines, numbers, NaN, truth and null come back; a line of another program is passed over."""
    both = ("decision", "notice", DECISION), ("blind", "error", {"target": "x"})
    path = log_of(tmp_path / "log", *both, is_json=is_json)
    with open(path, "ab") as file:
        file.write(b"Nov 22 some other program: \xff hello\n{\"event\": 3}\n")
    assert run(path, "--json") == 0
    first, second = told(capsys)
    assert {key: first[key] for key in DECISION} == DECISION | {"odd": None}
    assert first["severity"] == "notice"
    assert second["event"] == "blind"
    run(path, "--json", "--event", "error", "--last", "10min")
    assert [one["event"] for one in told(capsys)] == ["blind"]


def test_lines_cannot_be_forged(tmp_path, capsys):
    """A newline or an escape sequence within a value is shown, not sent."""
    path = log_of(tmp_path / "log", ("decision", "notice", DECISION | {"rule": "\x1b[2J\nforged"}), is_json=True)
    run(path)
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert "\x1b" not in shown


@given(st.lists(st.binary(max_size=80)))
def test_any_line_is_an_event_or_none(lines):
    """Whatever stands in a log: no exception, and every event has a line."""
    for event in of_lines(lines):
        assert "\n" not in json.dumps(event.plain())
        assert one_line(event)


@given(st.dictionaries(st.sampled_from(["rule", "level", "was", "hook", "killer", "ended", "t_s", "because", "p60",
                                        "requested_bytes", "freed_bytes", "kills", "time", "limit_bytes"]),
                       st.one_of(st.none(), st.text(max_size=5), st.floats(), st.integers(), st.booleans())),
       st.sampled_from(["level", "decision", "release", "kill", "end", "strange"]))
def test_odd_fields_still_make_a_line(fields, name):
    """A guard of another version may tell anything."""
    event = of_fields({"event": name, **fields})
    assert name in one_line(event)
    json.dumps(event.plain(), allow_nan=True)


@pytest.mark.parametrize("argv", [("--since", "yesterday"), ("--last", "10 weeks"), ("--follow",)])
def test_wrong_words_are_usage_errors(recorded, argv):
    """A time that is none, a unit that is none, following a folder."""
    with pytest.raises(UsageError):
        run(recorded, *argv)


def test_nobody_there_says_how_to_start_one(tmp_path):
    """A source that is not there counts as a socket."""
    with pytest.raises(NobodyListensError):
        run(str(tmp_path / "none"))


def test_a_running_guard_is_followed_until_it_goes(tmp_path, capsys):
    """What is published is printed at once, filtered by the guard and here; the end of the guard is the end."""
    epoll, path = select.epoll(), str(tmp_path / "s")
    server = ControlServer(path, {}, epoll, Log(2))

    def serve():
        while not server.subscribers:
            for fd, ready in epoll.poll(1.0):
                server.handle(fd, ready)
        server.publish({"event": "level", "target": "player", "was": 0, "level": 3})
        server.publish({"event": "level", "target": "other", "was": 0, "level": 1})
        server.publish({"event": "waiting", "target": "player"})
        server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert run(path, "--follow", "--event", "level", "--target", "player", "--json") == 0
    thread.join()
    epoll.close()
    (found,) = told(capsys)
    assert (found["event"], found["level"], found["target"]) == ("level", 3, "player")
    assert found["time"] is not None
