"""The helper process: real commands, real signals, a cgroup folder, and its own death."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomguard.act import channel
from oomguard.act.hooks import Hook, Request
from oomguard.act.processes import start_ticks
from oomguard.act.runner import Runner
from oomguard.clock import now_s
from oomguard.decide.plan import HookPlan

if TYPE_CHECKING:
    from runner_bench import Bench

MIB = 1 << 20
REQUEST = Request(level=4, needed_bytes=5 * MIB, deadline_s=20, reason="level 4 >= 2", target="app",
                  pids=(7, 8))
ROOT = os.path.join(os.path.dirname(__file__), "../../agent")


def is_gone(pid: int) -> bool:
    """Return whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# Commands

def test_a_command_hears_its_request_and_says_what_it_freed(bench: Bench, tmp_path: Path) -> None:
    """The request comes as environment, stdin is empty, the last line of the output is the freed bytes."""
    out = tmp_path / "env"
    hook = bench.command("sh", "-c", f'env >{out}; cat; echo "noise" >&2; echo 12; echo 4096; echo')
    outcome = bench.run(hook, REQUEST)
    assert (outcome.ok, outcome.freed_bytes, outcome.why) == (True, 4096, "")
    told = dict(line.split("=", 1) for line in out.read_text().splitlines() if line.startswith("OOMGUARD_"))
    assert told == {
        "OOMGUARD_LEVEL": "4", "OOMGUARD_NEEDED_BYTES": str(5 * MIB), "OOMGUARD_REASON": "level 4 >= 2",
        "OOMGUARD_TARGET": "app", "OOMGUARD_DEADLINE_S": "10", "OOMGUARD_PIDS": "7 8",
    }


def test_release_all_and_ratio_are_told(bench: Bench) -> None:
    """`all` stands in place of a number, and a share is told beside it."""
    hook = bench.command("sh", "-c", '[ "$OOMGUARD_NEEDED_BYTES,$OOMGUARD_RATIO" = all,0.25 ]')
    assert bench.run(hook, REQUEST._replace(release_all=True, ratio=0.25)).ok
    assert not bench.run(hook, REQUEST).ok


def test_a_commands_environment_speaks_to_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemd gave the daemon for itself is not passed on; the rest of the environment is."""
    from runner_bench import Bench

    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "MEMORY_PRESSURE_WATCH"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("KEPT", "yes")
    bench = Bench(Runner())
    outcome = bench.run(bench.command("sh", "-c", f"env >{tmp_path}/env"), REQUEST)
    bench.runner.close()
    assert outcome.ok
    names = {line.split("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert "KEPT" in names
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "MEMORY_PRESSURE_WATCH"}


def test_output_that_is_no_number_is_not_told(bench: Bench) -> None:
    """Words, negative and absurd numbers as last line mean that the freed bytes are unknown."""
    for words in ("done", "-5", "1.5", "9" * 30, ""):
        outcome = bench.run(bench.command("echo", words), REQUEST)
        assert outcome.ok
        assert outcome.freed_bytes != outcome.freed_bytes


def test_a_failing_command_says_why(bench: Bench) -> None:
    """The exit status and the last line come back; so does the signal that ended it."""
    failed = bench.run(bench.command("sh", "-c", "echo no cache >&2; exit 3"), REQUEST)
    assert failed.why == "exit status 3: no cache"
    assert bench.run(bench.command("sh", "-c", "kill -9 $$"), REQUEST).why == "ended by signal 9"


def test_a_program_that_is_not_there_fails_clearly(bench: Bench) -> None:
    """The name and the reason are in the outcome."""
    outcome = bench.run(bench.command("/no/such/program"), REQUEST)
    assert not outcome.ok
    assert outcome.why == "/no/such/program cannot be started: No such file or directory"


def test_a_flooding_forking_hanging_command_is_killed_with_its_group(bench: Bench, tmp_path: Path) -> None:
    """At the deadline the command and its grandchild end, though it floods its output and ignores SIGTERM."""
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 1000 & echo $! $$ >{pids}; while :; do echo xxxxxxxxxxxxxxxxxxxxxxxx; done"
    hook = bench.command("sh", "-c", script, deadline_s=1.0)
    outcome = bench.run(hook, REQUEST)
    assert not outcome.ok
    assert outcome.why == "deadline of 1 s passed; its processes were killed"
    assert hook.failures == 1
    bench.until(lambda: all(is_gone(int(pid)) for pid in pids.read_text().split()))
    assert bench.run(bench.command("echo", "1"), REQUEST).ok


def test_a_flood_that_ends_keeps_its_last_line(bench: Bench) -> None:
    """Only the end of the output is kept, and that is where the number is."""
    hook = bench.command("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo 77")
    assert bench.run(hook, REQUEST).freed_bytes == 77


def test_what_a_command_leaves_behind_is_killed(bench: Bench, tmp_path: Path) -> None:
    """A grandchild that holds the output open neither delays the outcome nor stays."""
    hook = bench.command("sh", "-c", f"sleep 1000 & echo $! >{tmp_path}/pid; echo 9")
    assert bench.run(hook, REQUEST).freed_bytes == 9
    bench.until(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_several_commands_run_at_once(bench: Bench, tmp_path: Path) -> None:
    """Two commands that wait for each other both end, each with its own outcome."""
    for name in ("a", "b"):
        os.mkfifo(tmp_path / name)
    scripts = (f"read x <{tmp_path}/a; echo y >{tmp_path}/b; echo 1",
               f"echo x >{tmp_path}/a; read y <{tmp_path}/b; echo 2")
    first, second = (bench.runner.start(bench.command("sh", "-c", script), REQUEST) for script in scripts)
    assert (bench.outcome(second).freed_bytes, bench.outcome(first).freed_bytes) == (2, 1)


def test_too_many_commands_are_refused(bench: Bench) -> None:
    """The ninth at once would only add to the pressure."""
    hook = bench.command("sleep", "1000")
    for _ in range(8):
        bench.runner.start(hook, REQUEST)
    assert bench.outcome(bench.runner.start(hook, REQUEST)).why == "8 commands are running already"


def test_an_order_too_long_fails_alone(bench: Bench) -> None:
    """A command line that does not fit a message is that hook's trouble, not the helper's."""
    assert "longer than" in bench.run(bench.command("echo", "x" * 70_000), REQUEST).why
    assert bench.run(bench.command("echo", "1"), REQUEST).ok


def test_a_dry_run_starts_signals_and_reclaims_nothing(tmp_path: Path, child: Child) -> None:
    """Every kind goes through the helper and back without the last step."""
    from runner_bench import Bench

    cgroup = make_cgroup(tmp_path)
    bench = Bench(Runner(dry_run=True, root=str(tmp_path)))
    request = REQUEST._replace(pids=(child.pid,), cgroup="/app")
    for plan in (HookPlan("c", "command", argv=("touch", f"{tmp_path}/touched")),
                 HookPlan("s", "signal", signal="SIGUSR1"), HookPlan("r", "reclaim")):
        hook = Hook.from_plan(plan)
        outcome = bench.run(hook, request)
        assert (outcome.ok, outcome.why, hook.calls) == (True, "dry run", 0)
        assert outcome.freed_bytes != outcome.freed_bytes
    bench.runner.close()
    assert not (tmp_path / "touched").exists()
    assert (cgroup / "memory.reclaim").read_text() == ""
    child.stop()
    assert child.heard() == ""


# Signals

class Child:
    """A real process that says which signals it got."""

    CODE = ("import signal, sys\n"
            "for s in map(int, sys.argv[1:]):\n"
            "    signal.signal(s, lambda n, f: print(n, flush=True))\n"
            "print('ready', flush=True)\n"
            "sys.stdin.readline()\n")

    def __init__(self, *signals: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", self.CODE, *map(str, map(int, signals))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def next_signal(self) -> int:
        """Wait for a signal and return its number."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def heard(self) -> str:
        """Return what it said until its end."""
        assert self._process.stdout is not None
        return self._process.stdout.read()

    def stop(self) -> int:
        """Let it end; return its exit status."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
        return self._process.wait(20)

    def close(self) -> None:
        """End it and let its pipes go."""
        self.stop()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def child() -> Iterator[Child]:
    """A process that handles SIGUSR1."""
    made = Child(signal.SIGUSR1)
    yield made
    made.close()


def signal_hook(name: str = "SIGUSR1") -> Hook:
    return Hook.from_plan(HookPlan("signal", "signal", signal=name))


def test_a_signal_reaches_the_target(bench: Bench, child: Child) -> None:
    """A process that handles SIGUSR1 gets it; what it frees is for the samples to show."""
    outcome = bench.run(signal_hook(), REQUEST._replace(pids=(child.pid,)))
    assert (outcome.ok, outcome.why) == (True, "")
    assert outcome.freed_bytes != outcome.freed_bytes
    assert child.next_signal() == signal.SIGUSR1


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGTERM", "SIGKILL", "SIGSTOP"])
def test_a_signal_that_would_end_the_target_is_not_sent(bench: Bench, child: Child, name: str) -> None:
    """The guard never kills: a process without a handler for it is left alone, and the outcome says so."""
    outcome = bench.run(signal_hook(name), REQUEST._replace(pids=(child.pid,)))
    assert not outcome.ok
    assert f"does not handle {name}, which would end it" in outcome.why
    assert child.stop() == 0


def test_a_reused_pid_is_never_signalled(bench: Bench, child: Child) -> None:
    """The same number with another start time is another process."""
    request = REQUEST._replace(pids=(child.pid,), pid_starts=(start_ticks(child.pid) - 1,))
    outcome = bench.run(signal_hook(), request)
    assert outcome.why == f"no process to signal; pid {child.pid} is another process now"
    child.stop()
    assert child.heard() == ""


def test_part_of_a_target_may_be_gone(bench: Bench, child: Child) -> None:
    """Those that are there are signalled, and the outcome says who was not."""
    gone = Child()
    gone.close()
    outcome = bench.run(signal_hook(), REQUEST._replace(pids=(gone.pid, child.pid), pid_starts=()))
    assert outcome.ok
    assert outcome.why == f"signalled 1 of 2; pid {gone.pid} is gone"
    assert child.next_signal() == signal.SIGUSR1


def test_a_blocked_signal_may_be_sent(bench: Bench) -> None:
    """A process that blocks it in each thread reads it by signalfd: it is not ended by it."""
    code = ("import signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [10]); print('ready', flush=True); "
            "sys.stdin.readline(); sys.exit(40 if 10 in signal.sigpending() else 1)")
    argv = [sys.executable, "-I", "-S", "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        outcome = bench.run(signal_hook("SIGUSR1"), REQUEST._replace(pids=(process.pid,)))
        process.stdin.close()
        assert process.wait(20) == 40
    assert (outcome.ok, outcome.why) == (True, "")


@pytest.mark.parametrize("name", ["SIGNONE", "SIG_BLOCK", "USR1", "Signals", ""])
def test_a_name_that_is_no_signal_fails(bench: Bench, name: str) -> None:
    """What is not a signal is refused in words."""
    assert "is not a signal" in bench.run(signal_hook(name), REQUEST._replace(pids=(os.getpid(),))).why


def test_nobody_to_signal(bench: Bench) -> None:
    """The whole system has no processes to signal, and pid 1 is never one."""
    assert bench.run(signal_hook(), REQUEST._replace(pids=())).why == "no process to send SIGUSR1 to"
    assert "pid (from 2)" in bench.run(signal_hook("SIGCONT"), REQUEST._replace(pids=(1,))).why


# Reclaim

def make_cgroup(root: Path, current_bytes: int = 64 * MIB) -> Path:
    folder = root / "sys/fs/cgroup/app"
    folder.mkdir(parents=True)
    (folder / "memory.stat").write_text("anon 1\n")
    (folder / "memory.current").write_text(f"{current_bytes}\n")
    (folder / "memory.reclaim").write_text("")
    return folder


def reclaim_hook(deadline_s: float = 10.0) -> Hook:
    return Hook.from_plan(HookPlan("reclaim", "reclaim", deadline_s=deadline_s))


@pytest.fixture
def rooted(tmp_path: Path) -> Iterator[Bench]:
    """A runner that looks for cgroups below a folder of the test's."""
    from runner_bench import Bench

    made = Bench(Runner(root=str(tmp_path)))
    yield made
    made.runner.close()


def test_reclaim_writes_the_bytes_in_chunks(rooted: Bench, tmp_path: Path) -> None:
    """10 MiB go as 4 + 4 + 2, each as cgroup v2 wants it; what memory.current fell by comes back."""
    folder = make_cgroup(tmp_path)
    outcome = rooted.run(reclaim_hook(), REQUEST._replace(cgroup="/app", needed_bytes=10 * MIB))
    assert (outcome.ok, outcome.freed_bytes, outcome.why) == (True, 0, "")
    assert (folder / "memory.reclaim").read_text() == f"{4 * MIB}{4 * MIB}{2 * MIB}"


def test_reclaim_all_asks_for_what_is_charged(rooted: Bench, tmp_path: Path) -> None:
    """`all` is bounded by memory.current, never a huge number."""
    folder = make_cgroup(tmp_path, 5 * MIB)
    assert rooted.run(reclaim_hook(), REQUEST._replace(cgroup="app", release_all=True)).ok
    assert (folder / "memory.reclaim").read_text() == f"{4 * MIB}{MIB}"


def test_reclaim_reports_what_fell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was freed is the difference of memory.current before and after, not what was asked."""
    from oomguard.act.reclaim import Reclaim

    folder = make_cgroup(tmp_path)

    def write(fd: int, data: bytes) -> int:
        (folder / "memory.current").write_text(f"{58 * MIB}\n")
        return len(data)

    monkeypatch.setattr("oomguard.act.reclaim.os.write", write)
    reclaim = Reclaim(str(folder), 3 * MIB)
    reclaim.step()
    assert (reclaim.is_over, reclaim.freed_bytes()) == (True, 6 * MIB)
    reclaim.close()


def test_a_kernel_that_finds_less_gives_a_partial_success(
    rooted: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """EAGAIN means less than asked: no failure, and no further chunk."""
    import errno

    from oomguard.act.reclaim import Reclaim

    folder = make_cgroup(tmp_path)
    reclaim = Reclaim(str(folder), 12 * MIB)
    calls = []

    def write(fd: int, data: bytes) -> int:
        calls.append(data)
        (folder / "memory.current").write_text(f"{(64 - 3 * len(calls)) * MIB}\n")
        if len(calls) == 2:
            raise BlockingIOError(errno.EAGAIN, "again")
        return len(data)

    monkeypatch.setattr("oomguard.act.reclaim.os.write", write)
    reclaim.step()
    assert not reclaim.is_over
    reclaim.step()
    monkeypatch.undo()
    assert (reclaim.is_over, reclaim.is_partial, reclaim.freed_bytes()) == (True, True, 6 * MIB)
    reclaim.close()


def test_where_there_is_nothing_to_reclaim_from_it_says_so(rooted: Bench, tmp_path: Path) -> None:
    """No cgroup, a vanished one, an old kernel's and a v1 one are told apart; no path escapes."""
    base = tmp_path / "sys/fs/cgroup"
    (base / "old").mkdir(parents=True)
    (base / "old/memory.stat").write_text("")
    (base / "memory/v1").mkdir(parents=True)
    (base / "memory/v1/memory.stat").write_text("")
    (base / "memory/v1/memory.limit_in_bytes").write_text("1")
    says = {"": "no cgroup to reclaim", "/gone": "no such cgroup", "/old": "no memory.reclaim",
            "/v1": "cgroup v1", "/a/../../x": "no cgroup to reclaim"}
    for cgroup, words in says.items():
        outcome = rooted.run(reclaim_hook(), REQUEST._replace(cgroup=cgroup))
        assert not outcome.ok
        assert words in outcome.why


# The helper itself

def test_the_helper_is_light_and_killable(bench: Bench) -> None:
    """Its oom_score_adj is 0, it has its own process group, and nothing heavy is imported."""
    bench.run(bench.command("true"), REQUEST)
    pid = bench.runner.helper_pid
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "0\n"
    assert os.getpgid(pid) == pid
    code = ("import sys; sys.path.append(sys.argv[1]); import oomguard.act.helper\n"
            "sys.exit(sum(m in sys.modules "
            "for m in ('typing', 'socket', 'threading', 'subprocess', 'dataclasses')))")
    assert subprocess.run([sys.executable, "-I", "-S", "-c", code, ROOT]).returncode == 0


def test_a_killed_helper_loses_no_ticket_and_its_command_ends(bench: Bench, tmp_path: Path) -> None:
    """kill -9 in flight: the ticket fails with the reason, no hook is blamed, no command is left."""
    pid_file = tmp_path / "pid"
    os.mkfifo(pid_file)
    hook = bench.command("sh", "-c", f"echo $$ >{pid_file}; exec sleep 1000", deadline_s=60)
    other = Hook.from_call("cache", lambda request: 6)
    bench.runner.register(other)
    tickets = [bench.runner.start(hook, REQUEST), bench.runner.start(other, REQUEST)]
    command_pid = int(pid_file.read_text())
    bench.until(lambda: bench.runner._flights[tickets[0]].group_pid == command_pid)
    os.kill(bench.runner.helper_pid, signal.SIGKILL)
    assert bench.outcome(tickets[0], is_quiet=False).why == "the helper is gone"
    assert bench.outcome(tickets[1], is_quiet=False).freed_bytes == 6
    assert hook.failures == 0
    bench.until(lambda: is_gone(command_pid), is_quiet=False)
    assert bench.runner.last_problem == "the helper is gone"


def test_a_dead_helper_is_started_again_when_it_is_quiet_and_not_before(bench: Bench) -> None:
    """Under pressure hooks are refused with the reason; in quiet, after the back-off, all is well."""
    hook = bench.command("echo", "5")
    bench.until(lambda: bench.runner.is_helper_ready)
    os.kill(bench.runner.helper_pid, signal.SIGKILL)
    bench.until(lambda: bench.runner.helper_pid < 0, is_quiet=False)
    bench.runner.poll(now_s() + 3600, is_quiet=False)
    assert bench.runner.helper_pid < 0
    refused = bench.outcome(bench.runner.start(hook, REQUEST), is_quiet=False)
    assert "down" in refused.why
    assert hook.failures == 0
    bench.runner.poll(now_s(), is_quiet=True)
    assert bench.runner.helper_pid < 0      # the back-off of a second
    bench.runner.poll(now_s() + 1.1, is_quiet=True)
    assert bench.runner.helper_pid > 0
    assert bench.run(hook, REQUEST).freed_bytes == 5
    assert bench.runner.last_problem == ""


def test_backoff_doubles_to_a_minute() -> None:
    """A helper that dies at once again and again is started ever more seldom; one that lived starts over."""
    runner = Runner()
    runner.register(Hook.from_plan(HookPlan("c", "command", argv=("true",))))
    link, now, waits = runner._link, now_s(), []
    for _ in range(8):
        link.drop(now)
        tried = (wait for wait in (1, 2, 4, 8, 16, 32, 60, 61) if link.tend(now + wait, is_quiet=True))
        waits.append(next(tried))
        now += waits[-1]
    link.drop(now + 61)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not link.tend(now + 61.9, is_quiet=True)
    assert link.tend(now + 62, is_quiet=True)
    runner.close()


def test_a_helper_that_is_silent_is_given_up(bench: Bench) -> None:
    """A stopped helper's tickets fail a grace after the deadline, and it is killed, to be replaced."""
    hook = bench.command("true", deadline_s=1)
    bench.until(lambda: bench.runner.is_helper_ready)
    pid = bench.runner.helper_pid
    os.kill(pid, signal.SIGSTOP)
    ticket = bench.runner.start(hook, REQUEST)
    assert bench.runner.poll(now_s() + 2.5, is_quiet=False) == []
    outcomes = bench.runner.poll(now_s() + 3.5, is_quiet=False)
    assert [(outcome.ticket, outcome.why) for outcome in outcomes] == [(ticket, "the helper does not answer")]
    bench.until(lambda: is_gone(pid), is_quiet=False)


def test_a_stopped_helper_fills_up_without_blocking_the_loop(bench: Bench) -> None:
    """When its socket is full, further requests fail at once."""
    hook = bench.command("echo", "x" * 30_000)
    bench.until(lambda: bench.runner.is_helper_ready)
    os.kill(bench.runner.helper_pid, signal.SIGSTOP)
    for _ in range(20):
        bench.runner.start(hook, REQUEST)
    bench.until(lambda: any("does not read" in one.why for one in bench.outcomes.values()), is_quiet=False)
    os.kill(bench.runner.helper_pid, signal.SIGKILL)


def test_the_helper_leaves_with_its_parent_and_takes_its_commands_along(tmp_path: Path) -> None:
    """When the daemon is killed with -9, neither helper nor command is left."""
    code = ("import sys, time; sys.path.append(sys.argv[1])\n"
            "from oomguard.act.runner import Runner; from oomguard.act.hooks import *\n"
            "from oomguard.decide.plan import HookPlan\n"
            "plan = HookPlan('c', 'command', argv=('sh', '-c', sys.argv[2]), deadline_s=500)\n"
            "r = Runner(); h = Hook.from_plan(plan); r.register(h)\n"
            "r.start(h, Request(1, 1, deadline_s=500))\n"
            "print(r.helper_pid, flush=True); time.sleep(500)")
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", code, ROOT, f"echo $$ >{fifo}; exec sleep 1000"],
                          stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        helper_pid, command_pid = int(daemon.stdout.readline()), int(fifo.read_text())
        pidfds = [os.pidfd_open(pid) for pid in (helper_pid, command_pid)]
        daemon.kill()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 20)[0], "still there"
        os.close(pidfd)


def test_descriptors_and_processes_stay_constant(bench: Bench) -> None:
    """A hundred commands leave neither descriptors nor zombies, here or in the helper."""
    hook = bench.command("true")
    bench.run(hook, REQUEST)

    def open_now() -> tuple[int, int, str]:
        helper = bench.runner.helper_pid
        return (len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{helper}/fd")),
                Path(f"/proc/{helper}/task/{helper}/children").read_text())

    before = open_now()
    for _ in range(100):
        assert bench.run(hook, REQUEST).ok
    assert open_now() == before


def start_helper() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Return a helper started by hand, as a module, and our end of its channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        boot = ("import sys, runpy; sys.path.append(sys.argv.pop()); "
                "runpy.run_module('oomguard.act.helper', None, '__main__')")
        process = subprocess.Popen([sys.executable, "-I", "-c", boot, str(theirs.fileno()), ROOT],
                                   pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    ours.settimeout(20)
    return ours, process


def test_the_helper_greets_with_its_version_and_answers_what_it_cannot_do() -> None:
    """Unknown or malformed orders with a ticket are answered under it; the helper goes on."""
    ours, process = start_helper()
    with ours, process:
        assert json.loads(ours.recv(65536)) == {"hello": channel.VERSION, "pid": process.pid}
        for order in ({"do": "dance"}, {}, {"do": 5}, {"do": "command"}, {"do": "command", "argv": []},
                      {"do": "signal", "signal": "SIGUSR1", "is_dry_run": False, "processes": [[0, 0]]},
                      {"do": "signal", "signal": "SIGUSR1", "is_dry_run": False, "processes": [[-1, 0]]},
                      {"do": "reclaim", "folder": "/", "wanted_bytes": -1},
                      {"do": "command", "argv": ["true"], "environment": {"A=B\0": "x"}, "deadline_s": 1,
                       "is_dry_run": False}):
            ours.send(json.dumps({"ticket": 3, **order}).encode())
            answer = json.loads(ours.recv(65536))
            assert (answer["ticket"], answer["ok"]) == (3, False), order
            assert answer["why"]
        ours.close()
        assert process.wait(20) == 0


def test_the_helper_stops_on_nonsense() -> None:
    """What is no message leaves nobody to answer: the helper ends with a word, and the daemon notices."""
    ours, process = start_helper()
    with ours, process:
        ours.recv(65536)
        ours.send(b"\xff")
        assert process.wait(20) == 70
        assert process.stderr is not None
        assert b"helper stops: a message is not JSON" in process.stderr.read()


def test_a_helper_that_speaks_another_version_is_not_used(tmp_path: Path) -> None:
    """An interpreter that says a foreign hello is dropped, and hooks are refused with that reason."""
    from runner_bench import Bench

    foreign = tmp_path / "python"
    foreign.write_text('#!/bin/sh\nprintf \'{"hello":99,"pid":5}\' >&3\nexec sleep 1000\n')
    foreign.chmod(0o755)
    bench = Bench(Runner(executable=str(foreign)))
    hook = bench.command("true")
    ticket = bench.runner.start(hook, REQUEST)
    assert "version 99" in bench.outcome(ticket, is_quiet=False).why
    bench.runner.close()


def test_a_helper_that_cannot_be_started_leaves_the_runner_working() -> None:
    """Without an interpreter to run, hooks for the helper are refused, and the others go on."""
    from runner_bench import Bench

    bench = Bench(Runner(executable="/no/such/python"))
    hook = bench.command("true")
    assert "cannot be started" in bench.runner.last_problem
    assert not bench.outcome(bench.runner.start(hook, REQUEST)).ok
    assert bench.run(Hook.from_call("cache", lambda request: 3), REQUEST).freed_bytes == 3
    bench.runner.close()


def test_bytes_not_told_by_the_helper_are_unknown(bench: Bench) -> None:
    """NaN crosses the channel as null."""
    assert math.isnan(bench.run(bench.command("true"), REQUEST).freed_bytes)


def test_a_helper_of_its_own_service_serves_one_daemon_after_the_other(tmp_path: Path) -> None:
    """Handed a listening socket as systemd does, it outlives daemons; when it dies, it is connected to anew."""
    from runner_bench import Bench

    path = str(tmp_path / "helper.sock")

    def serve() -> subprocess.Popen[bytes]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(path)
            listening.listen()
            boot = ("import os, sys; os.dup2(int(sys.argv[2]), 3); os.environ['LISTEN_PID'] = str(os.getpid())\n"
                    "sys.path.append(sys.argv[1]); from oomguard.act.helper import main; main(['listen'])")
            return subprocess.Popen([sys.executable, "-I", "-S", "-c", boot, ROOT, str(listening.fileno())],
                                    pass_fds=[listening.fileno()])

    service = serve()
    for _ in range(2):
        bench = Bench(Runner(helper_address=path))
        hook = bench.command("echo", "5")
        assert bench.run(hook, REQUEST).freed_bytes == 5
        assert bench.runner.helper_pid == service.pid
        bench.runner.close()
    bench = Bench(Runner(helper_address=path))
    hook = bench.command("echo", "6")
    assert bench.run(hook, REQUEST).ok
    service.kill()
    service.wait(20)
    bench.until(lambda: bench.runner.helper_pid < 0)
    os.unlink(path)
    service = serve()
    bench.runner.poll(now_s() + 1.1, is_quiet=False)
    assert bench.run(hook, REQUEST).freed_bytes == 6
    service.terminate()
    assert service.wait(20) == 0
    bench.runner.close()


def test_no_service_to_connect_to_is_told(tmp_path: Path) -> None:
    """Without the service hooks are refused with the reason, and no helper is started in its place."""
    runner = Runner(helper_address=str(tmp_path / "none"))
    runner.register(Hook.from_plan(HookPlan("c", "command", argv=("true",))))
    assert "no helper listens at" in runner.last_problem
    assert runner.helper_pid < 0
    runner.close()
