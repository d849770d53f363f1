"""Forks: the parent goes on as if nothing had happened; the child's guard is inert, or starts again when asked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from embedding import run

import oomguard
from inside import until
from oomguard.embed.lives import QUIET

# pytest's process has threads of its own; a fork of it is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_child(work: Callable[[], None]) -> None:
    """Run the work in a forked child; fail with what it raised."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:  # noqa: BLE001  told to the parent
            os.write(tell, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)
    os.close(tell)
    with os.fdopen(told) as file:
        problem = file.read()
    _pid, status = os.waitpid(pid, 0)
    assert (problem, status) == ("", 0)


def fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_the_child_is_inert_and_says_so_and_the_parent_goes_on() -> None:
    """The child has no thread, no reading, no descriptor of the guard's; the parent's readings go on."""
    before = fds()
    guard = oomguard.Guard(cadence_s=0.1, log=None)
    parent = os.getpid()
    guard.hook("cache")(lambda request: None)

    def child() -> None:
        assert guard.problem == f"forked from process {parent}, which is guarded on; start() guards this one"
        assert not guard.is_guarding
        assert (guard.level, guard.reading) == (0, None)
        assert len(threading.enumerate()) == 1
        assert len(fds() - before) <= 3          # the pipe that this child reports by, and this listing's own
        guard.gauge("cache", 1)
        guard.state("playback")
        guard.stop()

    with guard:
        for _ in range(20):                     # at any moment of the tick
            in_child(child)
        assert guard.is_guarding
        first = guard.reading
        until(lambda: guard.reading is not first)


def test_the_child_may_start_its_own() -> None:
    """start() in the child guards the child: another process, another window; both halves go on, both may stop."""
    guard = oomguard.Guard(cadence_s=0.1, log=None)

    def child() -> None:
        seen: list[int] = []
        guard.hook("mine")(lambda request: seen.append(1))
        with guard:
            first = guard.reading
            assert first is not None
            assert first.sample.t_s < 1.0
            until(lambda: guard.reading is not first)
        assert guard.problem == "stopped"

    with guard:
        in_child(child)
        first = guard.reading
        until(lambda: guard.reading is not first)


def test_the_child_restarts_when_asked() -> None:
    """after_fork="restart": the child is guarded as soon as it is there, without a word of the app's."""
    guard = oomguard.Guard(cadence_s=0.1, log=None, after_fork="restart")

    def child() -> None:
        assert guard.is_guarding
        assert [thread.name for thread in threading.enumerate()].count("oomguard") == 1
        first = guard.reading
        until(lambda: guard.reading is not first)
        guard.stop()

    in_child(lambda: None)          # not started: nothing is restarted either
    with guard:
        in_child(child)
        assert guard.is_guarding


def test_a_child_does_not_touch_the_parent_s_window(tmp_path: Path) -> None:
    """The window's file stays the parent's, also when the child guards itself."""
    guard = oomguard.Guard(cadence_s=0.1, log=None, runtime_dir=tmp_path, after_fork="restart")
    path = f"{tmp_path}/windows/self.window"
    with guard:
        inode = os.stat(path).st_ino
        in_child(lambda: until(lambda: guard.is_guarding))
        assert os.stat(path).st_ino == inode
        assert os.listdir(f"{tmp_path}/windows") == ["self.window"]


def test_queues_end_in_the_child_and_go_on_in_the_parent(urgent: str) -> None:
    """What waits in a queue is the parent's to take; the child's copy is empty, ended and has its own descriptor."""
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, log=None)
    levels = guard.levels()
    levels.fileno()

    def child() -> None:
        assert levels.is_ended
        assert levels.get() is None
        assert levels.fileno() >= 0
        levels.close()

    with guard:
        until(lambda: guard.level)
        in_child(child)
        assert [each.was for each in levels.pending()] == [0]
    levels.close()


def test_a_fork_waits_for_the_end_of_a_tick_and_no_longer() -> None:
    """While a tick is under way no child is made; afterwards it is."""
    guard = oomguard.Guard(cadence_s=10.0, log=None)
    forked = threading.Event()

    def fork() -> None:
        in_child(lambda: None)
        forked.set()

    with guard:
        with QUIET:
            thread = threading.Thread(target=fork)
            thread.start()
            assert not forked.wait(0.05)
        until(forked.is_set)
        thread.join()


def test_forks_from_a_hook_a_callback_and_many_threads_at_once(urgent: str) -> None:
    """Whoever forks, nobody hangs: each child ends with status 0 and the guard goes on."""
    done: list[str] = []
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, log=None,
                           on_level=lambda change: (in_child(lambda: None), done.append("callback")))

    @guard.hook("forks")
    def free(request: oomguard.Request) -> None:
        in_child(lambda: None)
        done.append("hook")

    with guard:
        threads = [threading.Thread(target=in_child, args=(lambda: None,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: {"callback", "hook"} <= set(done))
        first = guard.reading
        until(lambda: guard.reading is not first)


@pytest.mark.parametrize("after_fork", ["inert", "restart"])
def test_children_of_multiprocessing_and_subprocess_end_as_ever(after_fork: str) -> None:
    """A pool of forked workers works in both modes, and neither half says a word on standard error."""
    code = ("import multiprocessing, subprocess, sys, warnings, oomguard\n"
            "warnings.simplefilter('ignore', DeprecationWarning)\n"
            "guard = oomguard.Guard(cadence_s=0.1, log=None, after_fork=sys.argv[1]).start()\n"
            "def work(number): return number * number, guard.is_guarding\n"
            "with multiprocessing.get_context('fork').Pool(3) as pool:\n"
            "    print(pool.map(work, range(4), 1))\n"
            "    pool.close(); pool.join()\n"
            "print(subprocess.run(['echo', 'hello'], preexec_fn=lambda: None, stdout=-1).stdout)\n"
            "assert guard.is_guarding\n")
    ended = run(code, after_fork)
    assert (ended.returncode, ended.stderr) == (0, "")
    is_on = after_fork == "restart"
    assert ended.stdout.splitlines() == [str([(n * n, is_on) for n in range(4)]), "b'hello\\n'"]


def test_both_halves_end_by_themselves() -> None:
    """A child that leaves through the interpreter's end, with the parent's guard in it, ends well; the parent, too."""
    code = ("import os, sys, warnings, oomguard\n"
            "warnings.simplefilter('ignore', DeprecationWarning)\n"
            "with oomguard.Guard(cadence_s=0.1, log=None) as guard:\n"
            "    if os.fork() == 0:\n"
            "        sys.exit(7)\n"
            "    print(os.waitstatus_to_exitcode(os.wait()[1]), guard.is_guarding)\n")
    ended = run(code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "7 True\n", "")


def test_a_helper_belongs_to_the_parent_alone(tmp_path: Path) -> None:
    """Rules that name commands have a helper: a child neither ends it nor keeps it."""
    rules = f"{tmp_path}/rules.yaml"
    with open(rules, "w") as file:
        file.write("version: 1\ntargets: [self]\nhooks:\n  - {name: gc, command: [/bin/true]}\n"
                   "rules:\n  - {name: r, when: {level_at_least: 5}, then: [{hook: gc}]}\n")
    guard = oomguard.Guard(rules=rules, cadence_s=0.1, log=None)
    with guard:
        runner = guard._engine._runner
        until(lambda: runner.is_helper_ready)
        helper = runner.helper_pid
        in_child(lambda: None)
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], os.environ)
        os.waitpid(pid, 0)
        assert runner.helper_pid == helper
    assert subprocess.run(["kill", "-0", str(helper)], stderr=subprocess.DEVNULL).returncode != 0
