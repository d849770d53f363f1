"""The guard as an app uses it: what it is told, what it says, start and stop, bad input."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from embedding import URGENT, Events, run

import oomguard
from inside import until
from oomguard.act.hooks import Request

MIB = 1 << 20


def test_importing_the_package_imports_nothing_dear() -> None:
    """`import oomguard` alone loads neither the guard nor yaml, numpy, psutil, asyncio, threading, logging, typing."""
    ended = run("import sys; before = set(sys.modules); import oomguard; print(*sorted(set(sys.modules) - before))")
    loaded = set(ended.stdout.split())
    assert "oomguard" in loaded
    assert {name for name in loaded if name.startswith("oomguard.")} == {"oomguard._version", "oomguard.errors"}
    assert not loaded & {"yaml", "numpy", "psutil", "asyncio", "threading", "logging", "typing", "importlib"}


def test_a_guard_brings_neither_asyncio_nor_logging_nor_numpy() -> None:
    """A running guard costs the app no module of those that an app may not have."""
    ended = run("import sys, oomguard\nwith oomguard.Guard(log=None): pass\nprint(*sys.modules)")
    assert ended.returncode == 0, ended.stderr
    assert not set(ended.stdout.split()) & {"asyncio", "logging", "numpy", "psutil", "msgspec", "dataclasses"}


def test_every_public_name_is_there_and_no_other() -> None:
    """What `__all__` names can be had; a name that is not there is an AttributeError."""
    assert all(getattr(oomguard, name) is not None for name in oomguard.__all__)
    assert set(oomguard.__all__) <= set(dir(oomguard))
    with pytest.raises(AttributeError, match="no attribute 'Gaurd'"):
        oomguard.Gaurd  # noqa: B018


def test_start_takes_the_first_reading_and_stop_ends_it() -> None:
    """Between start and stop there is a reading; before and after there is none and `problem` says why."""
    guard = oomguard.Guard(log=None)
    assert (guard.level, guard.reading, guard.problem, guard.is_guarding) == (0, None, "not started", False)
    with guard as same:
        assert same is guard
        assert guard.is_guarding
        assert guard.problem == ""
        assert guard.reading is not None
        assert guard.reading.sample.limit_bytes > 0
        assert guard.reading.level == guard.level
        assert guard.forecast is None       # 30 s are not over
        assert guard.time_to_limit_s is None
        assert "level" in repr(guard)
    assert (guard.level, guard.reading, guard.problem) == (0, None, "stopped")


def test_it_ticks_on_and_may_be_started_again() -> None:
    """Readings go on by themselves; start twice is start once; after stop it starts again; stop twice is stop once."""
    guard = oomguard.Guard(cadence_s=0.1, log=None)
    for _life in range(2):
        assert guard.start() is guard
        assert guard.start() is guard
        assert [thread.name for thread in threading.enumerate()].count("oomguard") == 1
        first = guard.reading
        until(lambda first=first: guard.reading != first)
        guard.stop()
        guard.stop()
        assert guard.problem == "stopped"


def test_a_hook_is_asked_on_another_thread_with_what_is_needed(urgent: str, events: Events) -> None:
    """The function sees level, bytes, reason and target, and its outcome is in the log."""
    asked: list[tuple[Request, str]] = []
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, limit_bytes=1 << 40, name="player", log=events)

    @guard.hook("image-cache", cost=2.0, deadline_s=3.0, minimum_bytes=5 * MIB)
    def free(request: oomguard.Request) -> int:
        asked.append((request, threading.current_thread().name))
        return 0

    with guard:
        until(lambda: asked)
    request, thread = asked[0]
    assert thread == "oomguard-hooks"
    assert request.level >= 1
    assert request.needed_bytes >= 5 * MIB
    assert (request.deadline_s, request.target, request.pids) == (3.0, "player", (os.getpid(),))
    assert request.reason.startswith("always: level ")
    assert events.of("decision")[0]["rule"] == "always"


def test_a_hook_may_come_while_it_guards(urgent: str) -> None:
    """A cache that is made later is asked, too."""
    asked = threading.Event()
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, log=None)
    with guard:
        guard.hook("late")(lambda request: asked.set())
        until(asked.is_set)


def test_dry_run_decides_and_calls_nothing(urgent: str, events: Events) -> None:
    """The whole way is gone but for the last step."""
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, dry_run=True, log=events)
    guard.hook("cache")(lambda request: pytest.fail("was called"))
    with guard:
        until(lambda: events.of("release"))
    assert events.of("release")[0]["why"] == "dry run"


def test_gauge_and_state_reach_the_next_reading() -> None:
    """What the app says of its caches and of its phase is in the sample."""
    guard = oomguard.Guard(cadence_s=0.1, log=None)
    guard.hook("a")(lambda request: None)
    guard.hook("b")(lambda request: None)
    guard.state("browsing")
    guard.gauge("a", 5 * MIB)
    with guard:
        assert guard.reading is not None
        assert (guard.reading.sample.evictable_bytes, guard.reading.sample.phase) == (5 * MIB, "browsing")
        guard.gauge("b", 2 * MIB)
        guard.state("playback")
        until(lambda: guard.reading.sample.phase == "playback")
        assert guard.reading.sample.evictable_bytes == 7 * MIB
        guard.gauge("a", None)
        guard.state(None)
        until(lambda: guard.reading.sample.phase is None)
        assert guard.reading.sample.evictable_bytes == 2 * MIB


def test_a_hook_that_says_it_is_empty_is_not_asked(urgent: str) -> None:
    """gauge 0 keeps a hook from being called; the fuller one is."""
    asked: list[str] = []
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, log=None)
    guard.hook("empty", cost=0.1)(lambda request: asked.append("empty"))
    guard.hook("full", cost=9.0)(lambda request: asked.append("full"))
    guard.gauge("empty", 0)
    with guard:
        until(lambda: asked)
    assert set(asked) == {"full"}


@pytest.mark.parametrize(("arguments", "error", "says"), [
    ({"target": "pid"}, oomguard.UsageError, "target 'pid' is not one of system, self, pid:N"),
    ({"target": "self:me"}, oomguard.UsageError, "is not one of"),
    ({"cadence_s": 0.01}, oomguard.ConfigError, "cadence: 0.01 s is not within 100ms to 10s"),
    ({"cadence_s": float("nan")}, oomguard.ConfigError, "cadence: nan"),
    ({"limit_bytes": 0}, oomguard.ConfigError, "limit_bytes: 0 is not a number of bytes above 0"),
    ({"rules": "/no/such.yaml"}, oomguard.ConfigError, "/no/such.yaml: cannot be read"),
    ({"after_fork": "explode"}, oomguard.UsageError, "after_fork 'explode' is not inert or restart"),
])
def test_what_is_wrong_is_said_at_construction(
    arguments: dict[str, object], error: type[Exception], says: str,
) -> None:
    """Nothing starts that was misunderstood."""
    with pytest.raises(error, match=says):
        oomguard.Guard(**arguments)


def test_wrong_rules_name_file_line_and_path(tmp_path: Path) -> None:
    """The message is the one that `oomguard check` gives."""
    path = tmp_path / "bad.yaml"
    path.write_text(URGENT.replace("level_at_least: 1", "level_at_least: 7"))
    with pytest.raises(oomguard.ConfigError, match=r"bad.yaml:8: rules\[0\].when.level_at_least: 7 is not in 1..5"):
        oomguard.Guard(rules=path)


def test_hooks_and_gauges_that_make_no_sense_are_refused() -> None:
    """A name that is taken or unknown, a negative number, no deadline."""
    guard = oomguard.Guard(log=None)
    guard.hook("cache")(lambda request: None)
    for name, arguments in (("cache", {}), ("any", {}), ("x", {"deadline_s": 0.0}), ("x", {"cost": -1.0})):
        with pytest.raises(oomguard.UsageError):
            guard.hook(name, **arguments)(lambda request: None)
    with pytest.raises(oomguard.UsageError, match="no hook is called 'cash'; there are: cache"):
        guard.gauge("cash", 1)
    with pytest.raises(oomguard.UsageError, match="-1 is not a number of bytes"):
        guard.gauge("cache", -1)


def test_without_a_model_the_plain_levels_hold_and_it_is_said(events: Events) -> None:
    """A bundle that is missing stops nothing: a warning says why, and levels are there."""
    with oomguard.Guard(model="/no/such/bundle", log=events) as guard:
        assert guard.is_guarding
    warned = events.of("no-model")
    assert "/no/such/bundle" in str(warned[0]["because"])
    assert warned[0]["what_follows"] == "the plain levels hold"


def test_the_shipped_model_is_the_default(events: Events) -> None:
    """Without a word about models, the bundle inside the package scores."""
    with oomguard.Guard(log=events):
        pass
    assert events.of("start")[0]["scorer"] == "forest"


def test_hooks_that_only_the_rules_know_are_named(tmp_path: Path, events: Events) -> None:
    """A typo in a hook's name is a warning at start; a registered one is none."""
    path = tmp_path / "rules.yaml"
    path.write_text(URGENT.replace("hook: any", "hook: imgcache"))
    guard = oomguard.Guard(rules=path, log=events)
    with guard:
        pass
    assert events.of("unknown-hooks")[0]["hooks"] == ["imgcache"]
    guard.hook("imgcache")(lambda request: None)
    with guard:
        pass
    assert len(events.of("unknown-hooks")) == 1


def test_that_nobody_can_be_asked_is_said_once(urgent: str, events: Events) -> None:
    """An app that goes by levels alone has no hook; it is told so once and not at each decision."""
    with oomguard.Guard(rules=urgent, cadence_s=0.1, log=events):
        until(lambda: len(events.of("decision")) >= 3)
    assert len(events.of("nobody-to-ask")) == 1


def test_the_window_outlives_the_guard_only_with_a_folder(tmp_path: Path, events: Events) -> None:
    """With runtime_dir the next guard of this process goes on from the window; without, nothing is written."""
    for folder in (tmp_path, tmp_path, ""):
        with oomguard.Guard(runtime_dir=folder, log=events):
            pass
    assert [fields["is_continued"] for fields in events.of("guarding")] == [False, True, False]
    assert [path.name for path in (tmp_path / "windows").iterdir()] == ["self.window"]


def test_another_process_is_guarded_until_it_ends() -> None:
    """When the target ends the guard says so and ends its queue; it cannot be started again for a pid that is gone."""
    child = subprocess.Popen(["sleep", "60"])
    guard = oomguard.Guard(f"pid:{child.pid}", cadence_s=0.1, log=None)
    with guard:
        levels = guard.levels()
        assert guard.is_guarding
        child.kill()
        child.wait()
        until(lambda: guard.problem == "the target has ended")
        assert levels.get() is None
        assert guard.level == 0
    with pytest.raises(oomguard.TargetGoneError):
        guard.start()
    assert not guard.is_guarding


def test_a_target_that_may_come_is_waited_for(tmp_path: Path) -> None:
    """A command that does not run yet is no error: `problem` says what is waited for."""
    with oomguard.Guard("command:no-such-program-runs-here", log=None) as guard:
        assert not guard.is_guarding
        assert guard.problem.startswith("waiting for the target: no process is called")


def test_logging_is_used_where_the_app_has_it(urgent: str, caplog: pytest.LogCaptureFixture) -> None:
    """Events come by the logger `oomguard`, at their severity, with their fields."""
    caplog.set_level(logging.INFO, "oomguard")
    with oomguard.Guard(rules=urgent):
        pass
    records = {record.message.split()[0]: record for record in caplog.records}
    assert records["level"].levelno == logging.INFO
    assert records["nobody-to-ask"].levelno == logging.WARNING
    assert records["level"].oomguard["was"] == 0
    assert "was=0" in records["level"].message


def test_without_logging_only_warnings_reach_standard_error(urgent: str) -> None:
    """A quiet app stays quiet: two of the events are warnings; the others are not there."""
    ended = run("import sys, oomguard\nwith oomguard.Guard(rules=sys.argv[1], model='/none'): pass", urgent)
    assert ended.returncode == 0, ended.stderr
    assert [line.split()[2] for line in ended.stderr.splitlines()] == ["event=no-model", "event=nobody-to-ask"]
    assert all("source=oomguard" in line for line in ended.stderr.splitlines())


def test_a_silent_guard_says_nothing(urgent: str) -> None:
    """log=None is silence."""
    ended = run("import sys, oomguard\nwith oomguard.Guard(rules=sys.argv[1], model='/none', log=None): pass", urgent)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_stopping_does_not_wait_for_the_next_tick() -> None:
    """A guard of a slow cadence stops at once: the thread is woken, not waited for."""
    guard = oomguard.Guard(cadence_s=10.0, log=None)
    began_s = time.monotonic()
    with guard:
        pass
    assert time.monotonic() - began_s < 9.0
