"""The runner's own executors: the worker thread and inline calls."""

from __future__ import annotations

import math
import os
import select
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from oomguard.act.call import Job
from oomguard.act.hooks import Call, Hook, Request
from oomguard.act.link import HelperLink
from oomguard.act.runner import Runner
from oomguard.act.wake import Wake
from oomguard.act.worker import STUCK_MAX, Workers
from oomguard.clock import now_s

if TYPE_CHECKING:
    from runner_bench import Bench

MIB = 1 << 20
REQUEST = Request(level=3, needed_bytes=MIB, reason="because", target="app")


def on_thread(call: Call, name: str = "cache", deadline_s: float = 20.0) -> Hook:
    return Hook.from_call(name, call, deadline_s=deadline_s)


def test_a_callable_runs_on_another_thread_and_its_bytes_come_back(bench: Bench) -> None:
    """The hook sees the request, off the loop's thread, and the outcome has what it returned."""
    seen: list[tuple[Request, int]] = []

    def give(request: Request) -> int:
        seen.append((request, threading.get_ident()))
        return 3 * MIB

    hook = on_thread(give)
    outcome = bench.run(hook, REQUEST)
    assert (outcome.hook, outcome.ok, outcome.freed_bytes, outcome.why) == ("cache", True, 3 * MIB, "")
    assert outcome.duration_s >= 0
    assert seen[0][0] == REQUEST
    assert seen[0][1] != threading.get_ident()
    assert hook.calls == 1


def test_the_worker_starts_when_the_first_callable_is_registered() -> None:
    """No thread is made under pressure: it waits from registration on; without callables there is none."""
    runner = Runner()
    before = set(threading.enumerate())
    runner.register(Hook.from_call("fifo", lambda request: None, is_inline=True))
    assert not set(threading.enumerate()) - before
    runner.register(on_thread(lambda request: None))
    runner.register(on_thread(lambda request: None))
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["oomguard-hooks"]
    runner.close()


def test_threading_is_not_imported_without_a_thread_hook() -> None:
    """A daemon whose hooks are all declared pays nothing for threads."""
    code = ("import sys; sys.path.append(sys.argv[1]); import oomguard.act.runner as r\n"
            "from oomguard.act.hooks import *\n"
            "x = r.Runner(); h = Hook.from_call('a', lambda q: 1, is_inline=True); x.register(h)\n"
            "x.start(h, Request(1, 1)); assert x.poll(0.0)[0].ok; x.close(); "
            "sys.exit(sum(m in sys.modules for m in ('threading', 'socket', 'subprocess', 'dataclasses')))")
    root = os.path.join(os.path.dirname(__file__), "../../agent")
    assert subprocess.run([sys.executable, "-I", "-S", "-c", code, root]).returncode == 0


def test_none_is_not_told(bench: Bench) -> None:
    """A hook need not know what it freed."""
    outcome = bench.run(on_thread(lambda request: None), REQUEST)
    assert outcome.ok
    assert outcome.freed_bytes != outcome.freed_bytes


class UnprintableError(Exception):
    """An error that cannot even be told."""

    def __str__(self) -> str:
        raise RuntimeError


def test_a_hook_that_raises_fails_with_its_words(bench: Bench) -> None:
    """The outcome names what was raised, even SystemExit, even what has no text; the worker lives on."""
    for error, words in ((ValueError("no cache"), "ValueError: no cache"), (SystemExit(3), "SystemExit: 3"),
                         (UnprintableError(), "its text raised RuntimeError")):
        def fail(request: Request, error: BaseException = error) -> None:
            raise error

        outcome = bench.run(on_thread(fail), REQUEST)
        assert not outcome.ok
        assert words in outcome.why
    assert bench.run(on_thread(lambda request: 1), REQUEST).ok


@pytest.mark.parametrize("told", ["64", -1, math.nan, math.inf, True, [1], b"1"])
def test_nonsense_returned_is_a_failure(bench: Bench, told: object) -> None:
    """Only a number of bytes from 0, or None, is an answer."""
    outcome = bench.run(on_thread(lambda request: told), REQUEST)  # type: ignore[arg-type,return-value]
    assert not outcome.ok
    assert "returned" in outcome.why or "float()" in outcome.why


def test_three_raises_put_the_hook_on_hold(bench: Bench) -> None:
    """The runner records every outcome with the hook."""
    hook = on_thread(lambda request: 1 // 0)
    for _ in range(3):
        bench.run(hook, REQUEST)
    assert hook.is_on_hold(now_s())


def test_a_hung_hook_fails_at_its_deadline_and_the_next_one_runs(bench: Bench) -> None:
    """The worker is replaced; the late return of the hung call gives no second outcome."""
    let_go = threading.Event()
    returned = threading.Event()

    def hang(request: Request) -> None:
        let_go.wait(60)
        returned.set()

    hung = bench.run(on_thread(hang, "hung", deadline_s=0.05), REQUEST)
    assert not hung.ok
    assert "deadline" in hung.why
    assert bench.run(on_thread(lambda request: 5), REQUEST).freed_bytes == 5
    let_go.set()
    assert returned.wait(20)
    assert bench.run(on_thread(lambda request: 6), REQUEST).freed_bytes == 6
    assert bench.runner.in_flight == 0


def test_hooks_are_refused_once_too_many_hang_and_taken_again_when_they_return(bench: Bench) -> None:
    """Stuck threads are bounded; a refusal says why and is not held against the refused hook."""
    let_go = threading.Event()
    for number in range(STUCK_MAX + 1):
        assert "deadline" in bench.run(
            on_thread(lambda request: let_go.wait(60), f"hung{number}", deadline_s=0.05), REQUEST).why
    innocent = on_thread(lambda request: 7)
    refused = bench.run(innocent, REQUEST)
    assert not refused.ok
    assert refused.why == f"{STUCK_MAX + 1} hooks hang and hold their threads"
    assert innocent.failures == 0
    let_go.set()
    bench.until(lambda: bench.run(innocent, REQUEST).ok)


def test_a_hook_that_waits_for_its_turn_is_not_blamed(bench: Bench) -> None:
    """A deadline counts from when a hook is entered, so a queue behind a hung one costs nobody else."""
    let_go = threading.Event()
    hung, fine = on_thread(lambda request: let_go.wait(60), deadline_s=0.1), on_thread(lambda request: 8)
    bench.runner.register(hung)
    tickets = [bench.runner.start(hook, REQUEST) for hook in (hung, fine, fine)]
    outcomes = [bench.outcome(ticket) for ticket in tickets]
    assert [outcome.ok for outcome in outcomes] == [False, True, True]
    let_go.set()


def test_tickets_are_not_mixed_up(bench: Bench) -> None:
    """Each of many requests, on two executors, gets its own outcome."""
    hooks = [on_thread(lambda request: request.needed_bytes),
             Hook.from_call("inline", lambda request: request.needed_bytes, is_inline=True)]
    bench.runner.register(hooks[0])
    asked = {bench.runner.start(hooks[n % 2], REQUEST._replace(needed_bytes=n)): n for n in range(1, 60)}
    for ticket, needed in asked.items():
        assert bench.outcome(ticket).freed_bytes == needed


def test_an_inline_hook_is_done_when_start_returns_and_wakes_the_loop() -> None:
    """The pressure FIFO is written at once, and the loop hears that there is an outcome."""
    runner = Runner()
    told: list[int] = []
    hook = Hook.from_call("fifo", lambda request: told.append(request.level), is_inline=True)
    ticket = runner.start(hook, REQUEST)
    assert told == [3]
    assert select.select(runner.fds(), [], [], 0)[0]
    assert [outcome.ticket for outcome in runner.poll(now_s())] == [ticket]
    assert not select.select(runner.fds(), [], [], 0)[0]
    runner.close()


def test_a_dry_run_calls_nothing_and_blames_nobody(dry_bench: Bench) -> None:
    """The same path without the last step, for thread and inline hooks."""
    called: list[Request] = []
    for is_inline in (False, True):
        hook = Hook.from_call("cache", called.append, is_inline=is_inline)
        outcome = dry_bench.run(hook, REQUEST)
        assert (outcome.ok, outcome.why) == (True, "dry run")
        assert outcome.freed_bytes != outcome.freed_bytes
        assert hook.calls == 0
    assert called == []


def test_closing_gives_what_was_still_due() -> None:
    """No outcome is lost when the guard stops, and a call that returns later does no harm."""
    runner = Runner()
    let_go = threading.Event()
    hook = on_thread(lambda request: let_go.wait(60))
    runner.register(hook)
    tickets = {runner.start(hook, REQUEST) for _ in range(3)}
    outcomes = runner.close()
    assert {outcome.ticket for outcome in outcomes} == tickets
    assert {outcome.why for outcome in outcomes} == {"the guard stops"}
    let_go.set()
    for thread in threading.enumerate():
        if thread.name == "oomguard-hooks":
            thread.join(20)


def test_wake_at_is_the_next_deadline(bench: Bench) -> None:
    """The loop knows how long it may wait; infinity where nothing is in flight."""
    assert bench.runner.wake_at_s() == math.inf
    let_go = threading.Event()
    hook = on_thread(lambda request: let_go.wait(60), deadline_s=20)
    bench.runner.register(hook)
    before_s = now_s()
    ticket = bench.runner.start(hook, REQUEST._replace(deadline_s=15))
    assert before_s + 15 <= bench.runner.wake_at_s() <= now_s() + 15
    let_go.set()
    bench.outcome(ticket)
    assert bench.runner.wake_at_s() == math.inf


def test_no_thread_to_be_had_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no further thread after a hang, waiting hooks are refused, not lost."""
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    let_go = threading.Event()
    wake = Wake()
    workers = Workers(wake)
    workers.submit(Job(1, lambda request: let_go.wait(60), REQUEST, 0.0, False))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        workers.submit(Job(2, lambda request: 1, REQUEST, 9.0, False))
        results = workers.poll(now_s())
    told = [(result.ticket, result.ok, result.is_hooks_fault) for result in results]
    assert told == [(1, False, True), (2, False, False)]
    workers.submit(Job(3, lambda request: 1, REQUEST, 9.0, False))
    let_go.set()
    workers.poll(now_s())
    workers.close()
    wake.close()


def test_a_quiet_poll_asks_the_kernel_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing in flight, nothing due and no helper wanted, neither the wake nor the helper is looked at."""
    runner = Runner()
    runner.register(on_thread(lambda request: None))

    def refuse(*_args: object) -> int:
        raise AssertionError("asked in vain")

    with monkeypatch.context() as patched:
        patched.setattr(os, "eventfd_read", refuse)
        patched.setattr(Workers, "poll", refuse)
        patched.setattr(HelperLink, "receive", refuse)
        patched.setattr(HelperLink, "tend", refuse)
        assert runner.poll(now_s()) == []
    runner.close()


def test_a_poll_looks_when_a_hung_call_comes_back(bench: Bench) -> None:
    """Nothing is in flight any more, yet the wake is cleared, or the loop would spin on it for ever."""
    let_go = threading.Event()
    outcome = bench.run(on_thread(lambda request: let_go.wait(60), deadline_s=0.01), REQUEST)
    assert not outcome.ok
    let_go.set()
    assert select.select(bench.runner.fds(), [], [], 20)[0] == list(bench.runner.fds())
    assert bench.runner.poll(now_s()) == []
    assert select.select(bench.runner.fds(), [], [], 0)[0] == []


def test_a_wake_that_was_read_by_another_is_clear() -> None:
    """Its descriptor may be handed out: to clear it then raises nothing, and the next set is seen."""
    wake = Wake()
    wake.set()
    assert wake.is_set and os.eventfd_read(wake.fd) == 1
    wake.clear()
    assert not wake.is_set
    wake.set()
    assert select.select([wake.fd], [], [], 0)[0] == [wake.fd]
    wake.clear()
    assert select.select([wake.fd], [], [], 0)[0] == []
    wake.close()
