"""What apps do to a guard: hooks and callbacks that raise, hang or lie, stop at odd moments, dropped references."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import weakref
from pathlib import Path

import pytest
from embedding import Events, run

import oomguard
from inside import AGENT, until
from oomguard.embed import courier as courier_module
from oomguard.embed.courier import WAITING_MOST, Courier
from oomguard.embed.engine import MISTAKES_MOST


def ticks_on(guard: oomguard.Guard) -> None:
    """Wait for two more readings."""
    for _ in range(2):
        before = guard.reading
        until(lambda before=before: guard.reading is not before)


def test_a_callback_that_raises_is_told_and_called_again(urgent: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The guard ticks on, the next change is delivered, and a line says whose callback raised what."""
    seen: list[int] = []

    def on_level(change: oomguard.LevelChange) -> None:
        seen.append(change.level)
        raise RuntimeError("not my day")

    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, on_level=on_level)
    with guard:
        until(lambda: seen)
        ticks_on(guard)
    until(lambda: len(seen) == 2)       # up at the start, down to 0 at the stop
    said = capfd.readouterr().err
    assert said.count("event=callback-failed") == 2
    assert "on_level raised RuntimeError: not my day" in said


def test_a_callback_that_blocks_hurts_no_tick(urgent: str, monkeypatch: pytest.MonkeyPatch,
                                              capfd: pytest.CaptureFixture[str]) -> None:
    """The guard ticks on and says, once, that a callback does not return; stop does not wait for it for ever."""
    monkeypatch.setattr(courier_module, "BLOCKED_AFTER_S", 0.1)
    monkeypatch.setattr(courier_module, "FAREWELL_S", 0.1)
    entered, go = threading.Event(), threading.Event()

    def on_level(change: oomguard.LevelChange) -> None:
        entered.set()
        go.wait()

    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, on_level=on_level)
    guard.start()
    until(entered.is_set)
    for _ in range(3):
        ticks_on(guard)
    guard.stop()
    assert not go.is_set()
    go.set()
    assert capfd.readouterr().err.count("event=callback-blocks") == 1


def test_a_log_function_that_raises_hurts_nobody(urgent: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Its error is told on standard error, and the guard goes on."""
    def log(event: str, severity: str, fields: object) -> None:
        raise KeyError(event)

    with oomguard.Guard(rules=urgent, cadence_s=0.1, log=log) as guard:
        ticks_on(guard)
    assert "log raised KeyError: 'start'" in capfd.readouterr().err


def test_calls_that_wait_are_bounded() -> None:
    """Behind one that blocks, the oldest are dropped and counted; the newest are made."""
    made: list[int] = []
    entered, go = threading.Event(), threading.Event()
    courier = Courier(lambda event, because: None)
    courier.post(lambda: (entered.set(), go.wait()))
    until(entered.is_set)
    for number in range(WAITING_MOST + 5):
        courier.post(made.append, number)
    go.set()
    courier.close()
    courier.join()
    assert courier.dropped == 5
    assert made == list(range(5, WAITING_MOST + 5))
    courier.post(made.append, -1)       # closed: nothing happens
    assert made[-1] != -1


def test_a_hook_that_raises_is_logged_and_put_on_hold(urgent: str, events: Events) -> None:
    """After three failures it is left alone, and the guard goes on."""
    calls: list[int] = []
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, log=events)

    @guard.hook("broken")
    def free(request: oomguard.Request) -> int:
        calls.append(1)
        raise OSError("the disk is gone")

    with guard:
        until(lambda: events.of("nobody-to-ask"))       # it is on hold
        ticks_on(guard)
    assert len(calls) == 3
    assert [fields["because"] for fields in events.of("hook-failed")] == ["raised OSError: the disk is gone"] * 3


def test_a_hook_that_hangs_is_given_up_at_its_deadline(urgent: str, events: Events) -> None:
    """Ticks go on, another hook is asked meanwhile, stop does not wait for the one that hangs."""
    go, asked = threading.Event(), threading.Event()
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, log=events)
    guard.hook("hangs", cost=0.1, deadline_s=0.2)(lambda request: go.wait() and None)
    guard.hook("works", cost=5.0)(lambda request: asked.set())
    with guard:
        until(lambda: events.of("hook-failed"))
        until(asked.is_set)
        ticks_on(guard)
    assert events.of("hook-failed")[0]["because"] == "deadline of 0.2 s passed"
    go.set()


def test_a_hook_that_lies_is_found_out(urgent: str, events: Events) -> None:
    """It claims a gigabyte; the samples show none; the release's line says so."""
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, limit_bytes=1 << 40, log=events)
    guard.hook("liar")(lambda request: 1 << 50)
    with guard:
        until(lambda: events.of("release"))
    assert str(events.of("release")[0]["why"]).startswith(f"claimed {1 << 50} bytes, the samples show")


def test_stop_from_a_callback_from_a_hook_and_from_many_threads(urgent: str) -> None:
    """Whoever stops it, it stops, and nobody waits for himself."""
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, log=None, on_level=lambda change: guard.stop())
    with guard:
        until(lambda: guard.problem == "stopped")
    hooked = oomguard.Guard(rules=urgent, cadence_s=0.1, log=None)
    hooked.hook("stops")(lambda request: hooked.stop())
    with hooked:
        until(lambda: hooked.problem == "stopped")
    plain = oomguard.Guard(cadence_s=0.1, log=None).start()
    threads = [threading.Thread(target=step) for step in [plain.stop, plain.start] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plain.stop()
    assert plain.problem == "stopped"


def test_a_guard_that_is_dropped_ends_and_says_so(events: Events) -> None:
    """Nobody refers to it: its thread and descriptors go, with a warning; one that was stopped goes silently."""
    for is_stopped in (False, True):
        guard = oomguard.Guard(log=events).start()
        if is_stopped:
            guard.stop()
        gone = weakref.ref(guard)
        del guard
        gc.collect()
        assert gone() is None
        until(lambda: "oomguard" not in [thread.name for thread in threading.enumerate()])
    until(lambda: len(events.of("stop")) == 2)
    assert len(events.of("dropped")) == 1


def test_an_app_that_closes_all_descriptors_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """The guard gives up after some turns instead of spinning, and says that nothing is guarded any more."""
    ended = run("import os, time, oomguard\n"
                "guard = oomguard.Guard(cadence_s=0.1).start()\n"
                "os.closerange(3, 4096)\n"
                "while guard.is_guarding: time.sleep(0.01)\n"
                "print(guard.problem)\n")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"gave up after {MISTAKES_MOST} ticks that failed: ")
    assert "event=tick-failed" in ended.stderr
    assert "event=gave-up" in ended.stderr


def test_the_app_s_signals_are_left_to_its_own_threads() -> None:
    """An app that blocks a signal to wait for it gets it: the guard's thread does not take it away and die of it."""
    ended = run("import os, signal, oomguard\n"
                "with oomguard.Guard(cadence_s=0.1, log=None):\n"
                "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
                "    os.kill(os.getpid(), signal.SIGTERM)\n"
                "    print(signal.sigwait([signal.SIGTERM]).name)\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "SIGTERM\n", "")


@pytest.mark.parametrize("end", [
    "pass", "sys.exit(0)", "guard.stop()", "del guard", "threading.Thread(target=time.sleep, args=(0.1,)).start()",
    "guard.hook('hangs', deadline_s=60)(lambda request: time.sleep(60)); time.sleep(0.2)",
    "atexit.register(guard.stop)",
])
def test_the_interpreter_ends_without_a_hang_or_a_word(urgent: str, end: str) -> None:
    """However an app ends that never stopped its guard: exit status 0, nothing on standard error."""
    ended = run("import atexit, sys, threading, time, oomguard\n"
                "guard = oomguard.Guard(rules=sys.argv[1], cadence_s=0.1, log=lambda *event: None,\n"
                "                       on_level=lambda change: None).start()\n" + end, urgent)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_exception_in_the_with_block_passes_and_stops_the_guard() -> None:
    """The guard swallows nothing."""
    guard = oomguard.Guard(log=None)
    with pytest.raises(ZeroDivisionError), guard:
        1 / 0  # noqa: B018
    assert guard.problem == "stopped"


def test_killing_the_app_leaves_no_helper(tmp_path: Path) -> None:
    """Rules may name commands: their helper process goes with the app, even by kill -9."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\ntargets: [self]\nhooks:\n  - {name: gc, command: [/bin/true]}\n"
                     "rules:\n  - {name: r, when: {level_at_least: 5}, then: [{hook: gc}]}\n")
    code = ("import sys, time; sys.path.insert(0, sys.argv[2]); import oomguard\n"
            "guard = oomguard.Guard(rules=sys.argv[1], cadence_s=0.1, log=None).start()\n"
            "pid = guard._engine._runner.helper_pid\n"
            "print(pid, flush=True); time.sleep(60)")
    told, tell = os.pipe()
    app = os.posix_spawn(sys.executable, [sys.executable, "-c", code, str(rules), AGENT], os.environ,
                         file_actions=[(os.POSIX_SPAWN_DUP2, tell, 1)])
    os.close(tell)
    with os.fdopen(told) as file:
        helper = int(file.readline())
    assert helper > 0
    os.kill(app, signal.SIGKILL)
    os.waitpid(app, 0)
    until(lambda: not _runs(helper))


def _runs(pid: int) -> bool:
    """Return whether the process is there; a zombie that an adopter has not reaped yet is not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
