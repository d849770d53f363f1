"""`oomguard exec`: the program runs as it would alone, guarded; nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from guarded import PROGRAMS, Guard, is_alive, until

from oomguard.tell.client import ask

Start = Callable[..., Guard]
# Says its pid, then waits for signals and prints them; ends at SIGTERM with 9.
LISTENER = """
import os, signal, sys
def tell(number, frame):
    print(signal.Signals(number).name, flush=True)
    number == signal.SIGTERM and sys.exit(9)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, tell)
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""


def python(code: str) -> tuple[str, ...]:
    """Return the argv of a small Python program."""
    return sys.executable, "-S", "-c", code


def exec_(start: Start, *argv: str, options: tuple[str, ...] = (), **more: object) -> Guard:
    """Start a program under the guard, on plain levels, its standard output to be read."""
    return start("exec", "--model", "none", *options, "--", *argv, stdout=subprocess.PIPE, text=True, **more)


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_its_exit_status_is_ours(start: Start, code: int) -> None:
    """Whatever the program says at its end is said on."""
    guard = exec_(start, "sh", "-c", f"exit {code}")
    assert guard.wait() == code
    assert guard.event("end")["app_exit_code"] == code
    assert guard.event("stop")["exit_code"] == code


@pytest.mark.parametrize(("number", "ended"), [("KILL", "crash"), ("SEGV", "crash"), ("TERM", "crash")])
def test_a_signal_that_ends_it_is_128_more(start: Start, number: str, ended: str) -> None:
    """As a shell has it; and a kill that the kernel did not count is no oom."""
    guard = exec_(start, "sh", "-c", f"kill -{number} $$")
    assert guard.wait() == 128 + getattr(signal, f"SIG{number}")
    assert guard.event("end")["ended"] == ended


def test_input_output_and_arguments_are_its_own(start: Start) -> None:
    """Standard input reaches the program, its output is untouched, and the guard says nothing in between."""
    code = "import sys; sys.stdout.write(sys.stdin.read()[::-1] + '|'.join(sys.argv[1:])); sys.stderr.write('oh')"
    guard = exec_(start, *python(code), "--limit", "a b", "", "--", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = guard.process.communicate("hello\n" * 3)
    guard.process.stderr = None
    assert out == ("hello\n" * 3)[::-1] + "--limit|a b||--"
    assert err == "oh"


@pytest.mark.parametrize("argv", [("nonexistent-program",), ("./nonexistent",)])
def test_a_missing_program_is_a_usage_error(start: Start, folder: Path, argv: tuple[str, ...]) -> None:
    """Exit code 2, the name in the text, nothing left."""
    guard = exec_(start, *argv)
    assert guard.wait() == 2
    assert argv[0] in guard.errors.read_text()
    assert os.listdir(folder / "rt") == []


def test_a_program_that_may_not_be_run(start: Start, folder: Path) -> None:
    """Exit code 5, whether it is no executable or a folder."""
    plain = folder / "plain"
    plain.write_text("no program")
    for name in (str(plain), str(folder)):
        guard = exec_(start, name)
        assert guard.wait() == 5
        assert "Permission denied" in guard.errors.read_text()
    assert os.listdir(folder / "rt") == []


def test_nothing_runs_unguarded_when_the_guard_cannot_start(start: Start, folder: Path) -> None:
    """A socket or log that cannot be opened, a limit that is none: refused before the program is started."""
    mark = folder / "mark"
    for options, code in ((("--socket", "/nonexistent/s"), 5), (("--log", "/nonexistent/log"), 5),
                          (("--limit", "12parsecs"), 2), (("--rules", "/nonexistent/rules"), 3)):
        guard = exec_(start, "touch", str(mark), options=options)
        assert guard.wait() == code, guard.errors.read_text()
        assert "Traceback" not in guard.errors.read_text()
    assert not mark.exists()


def test_what_the_program_finds_in_its_environment(start: Start) -> None:
    """A pressure FIFO, no MEMORY_PRESSURE_WRITE even if we had one, a socket that answers; not our service's words."""
    guard = exec_(start, "sh", "-c", "env; read line",  stdin=subprocess.PIPE, environ={
        "MEMORY_PRESSURE_WRITE": "c29tZQ==", "MEMORY_PRESSURE_WATCH": "/sys/fs/cgroup/x", "NOTIFY_SOCKET": "@none",
        "WATCHDOG_USEC": "1000000", "KEPT": "yes"})
    until(lambda: guard.events("guarding"), "the program")
    told: dict[str, str] = {}
    while "OOMGUARD_SOCKET" not in told or "KEPT" not in told or "MEMORY_PRESSURE_WATCH" not in told:
        name, _, value = guard.process.stdout.readline().rstrip("\n").partition("=")
        told[name] = value
    assert stat.S_ISFIFO(os.stat(told["MEMORY_PRESSURE_WATCH"]).st_mode)
    assert ask(told["OOMGUARD_SOCKET"], {"op": "status"})["targets"][0]["name"] == "sh"
    rest, _ = guard.process.communicate("\n")
    names = {*told, *(line.partition("=")[0] for line in rest.splitlines())}
    assert not names & {"MEMORY_PRESSURE_WRITE", "NOTIFY_SOCKET", "WATCHDOG_USEC"}
    assert "PATH" in names


def test_signals_are_passed_on(start: Start) -> None:
    """USR1, USR2, HUP, INT and TERM reach the program and not the guard; what it then does is its own."""
    guard = exec_(start, *python(LISTENER), start_new_session=True)
    out = guard.process.stdout
    assert int(out.readline()) > 1
    for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT", "SIGTERM"):
        os.kill(guard.pid, getattr(signal, name))
        assert out.readline().strip() == name
    assert guard.wait() == 9


@pytest.mark.parametrize("_turn", range(5))
def test_a_signal_during_the_start_is_not_lost(start: Start, _turn: int) -> None:
    """Whoever stops us before the program is up stops the program, too: it never runs on alone."""
    guard = exec_(start, "sleep", "60")
    until(lambda: "oomguard.daemon" in Path(f"/proc/{guard.pid}/cmdline").read_text(), "the daemon")
    until(lambda: int(_mask(guard.pid, "SigCgt"), 16) & 1 << signal.SIGTERM - 1, "its handlers")
    os.kill(guard.pid, signal.SIGTERM)
    assert guard.wait() == 128 + signal.SIGTERM


def _mask(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))


def folder_of(cgroup: str) -> str:
    """Return where a memory cgroup is."""
    return next(path for path in (f"/sys/fs/cgroup/memory{cgroup}", f"/sys/fs/cgroup{cgroup}") if os.path.isdir(path))


def test_nothing_is_left_behind(start: Start, needs_cgroup: None, folder: Path) -> None:
    """Runtime folder, FIFO, socket and cgroup are there while it runs and gone afterwards."""
    guard = exec_(start, *python(LISTENER), options=("--limit", "64MiB"))
    pid = int(guard.process.stdout.readline())
    cgroup = guard.event("guarding")["what"]
    assert cgroup in Path(f"/proc/{pid}/cgroup").read_text()
    directory = folder_of(cgroup)
    assert sorted(os.listdir(folder / "rt" / f"exec-{guard.pid}")) == ["control.sock", "lock", "pressure", "windows"]
    guard.stop()
    assert os.listdir(folder / "rt") == []
    assert not os.path.exists(directory)


def test_the_program_killed_by_someone(start: Start) -> None:
    """kill -9 of the program: 137, and no kill of the kernel's is claimed."""
    guard = exec_(start, *python(LISTENER))
    os.kill(int(guard.process.stdout.readline()), signal.SIGKILL)
    assert guard.wait() == 137
    end = guard.event("end")
    assert (end["ended"], end["oom_kills"]) in (("crash", 0), ("oom", -1))


def test_the_guard_killed_leaves_the_program_running_and_at_rest(start: Start, child: Callable[..., object]) -> None:
    """kill -9 of the guard: the program lives on, waits on its FIFO, and does not spin on it."""
    guard = exec_(start, sys.executable, "-S", str(PROGRAMS / "watcher.py"))
    out = guard.process.stdout
    pid = int(out.readline())
    os.kill(guard.pid, signal.SIGKILL)
    guard.process.wait()
    try:
        assert is_alive(pid)
        wakes = [int(out.readline()) for _ in range(3)]     # it says every 200 ms how often it was woken
        assert wakes[-1] == wakes[0]
    finally:
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid), "its end")
        _sweep(guard.pid)


def _sweep(pid: int) -> None:
    """Remove the cgroups that a killed guard left."""
    for top in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        for directory, _folders, _files in os.walk(top, topdown=False):
            if directory.endswith(f"-{pid}") and "oomguard-" in directory:
                os.rmdir(directory)


def test_children_that_outlive_the_program_are_left_alone(start: Start, needs_cgroup: None) -> None:
    """The program's end is the end; a daemon it left keeps its cgroup, and the log says so."""
    guard = exec_(start, "sh", "-c", "sleep 30 >&- 2>&- & echo $!; exit 4", options=("--limit", "64MiB"))
    pid = int(guard.process.stdout.readline())
    try:
        assert guard.wait() == 4
        assert is_alive(pid)
        assert guard.event("cgroup-left")["cgroup"]
    finally:
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid), "its end")
        _sweep(guard.pid)


# Limit, MiB in all, MiB a second: the last tenth of the limit takes longer than five of the guard's ticks.
PACE = {"python": ("48MiB", "66", "7"), "node": ("100MiB", "110", "18")}
SOON = """
rules:
  - name: drop the cache in time
    when: {level_at_least: 2}
    then: [{hook: any, release: all}]
    cooldown: 1s
bounds: {minimum_gap: 1s}
"""


def cache_app(kind: str, ear: str) -> tuple[str, ...]:
    """Return the argv of a program that takes more than its limit, less what it gives back when told."""
    _limit, total_mib, pace = PACE[kind]
    if kind == "python":
        return sys.executable, "-S", str(PROGRAMS / "cache_app.py"), total_mib, pace, ear
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    return node, "--expose-gc", str(PROGRAMS / "cache_app.js"), total_mib, pace, ear


def keep_code_outside(node: str) -> None:
    """Have node's code charged to our own cgroup, by reading it, and not to the one that it will run in.

    Code that is charged to a cgroup at its limit is reclaimed and read again, page by page: beside busy neighbours
    that went on for up to 27 s before the kernel gave up and killed (78,000 refaults a second).
    """
    maps = subprocess.run([node, "-p", "require('fs').readFileSync('/proc/self/maps', 'utf8')"],
                          capture_output=True, text=True, check=True).stdout
    for path in {Path(line[line.index("/"):]) for line in maps.splitlines() if " /" in line}:
        if path.is_file():
            path.read_bytes()


@pytest.mark.parametrize("kind", PACE)
def test_a_program_that_does_not_listen_is_killed_by_the_kernel(
    start: Start, needs_cgroup: None, rules: Callable[[str], str], kind: str,
) -> None:
    """Without a listener the kernel's oom_kill counts, and the exit status is 137: this is what is prevented."""
    app = cache_app(kind, "deaf")
    if kind == "node":          # Python's code is our own, and so outside already
        keep_code_outside(app[0])
    guard = exec_(start, *app, options=("--limit", PACE[kind][0], "--rules", rules(SOON)))
    assert guard.wait() == 137
    end = guard.event("end")
    assert (end["ended"], end["oom_kills"]) == ("oom", 1)
    assert "done" not in guard.process.stdout.read()
    # Not the last: the kernel frees the memory before the program is reaped, and a tick in between sees level 0.
    assert max(event["level"] for event in guard.events("level")) >= 4


@pytest.mark.parametrize("kind", PACE)
def test_a_program_that_listens_to_its_fifo_lives(
    start: Start, needs_cgroup: None, rules: Callable[[str], str], kind: str,
) -> None:
    """The same program, reading MEMORY_PRESSURE_WATCH, gives its cache back and lives to its planned end."""
    guard = exec_(start, *cache_app(kind, "fifo"), options=("--limit", PACE[kind][0], "--rules", rules(SOON)))
    assert guard.wait() == 0, guard.said()
    assert "done, told" in guard.process.stdout.read()
    end = guard.event("end")
    assert (end["ended"], end["oom_kills"]) == ("exit", 0)
    assert guard.events("kill") == []
    releases = guard.events("release")
    assert {release["hook"] for release in releases} == {"pressure"}
    assert max(release["freed_bytes"] for release in releases) > 10 << 20
    assert guard.event("decision")["rule"] == "drop the cache in time"


@pytest.mark.parametrize("kind", PACE)
def test_a_program_that_handles_a_signal_lives(
    start: Start, needs_cgroup: None, rules: Callable[[str], str], kind: str,
) -> None:
    """A signal hook of the rules does the same for a program that knows no FIFO but handles SIGUSR2."""
    hooks = "hooks:\n  - {name: drop, signal: SIGUSR2, cost: 0.1}\n"
    text = rules(hooks + SOON.replace("hook: any", "hook: drop"))
    guard = exec_(start, *cache_app(kind, "usr2"), options=("--limit", PACE[kind][0], "--rules", text))
    assert guard.wait() == 0, guard.said()
    assert "done, told" in guard.process.stdout.read()
    assert guard.event("end")["oom_kills"] == 0
    assert guard.event("release")["hook"] == "drop"


def test_the_shipped_rules_save_a_program_that_listens(start: Start, needs_cgroup: None) -> None:
    """With no rule written at all a steadily growing cache is trimmed in time."""
    guard = exec_(start, sys.executable, "-S", str(PROGRAMS / "cache_app.py"), "58", "4.5", "fifo",
                  options=("--limit", "48MiB"))
    assert guard.wait() == 0, guard.said()
    assert guard.event("end")["oom_kills"] == 0
    assert guard.event("release")["hook"] == "pressure"


def test_a_cgroup_of_its_own_is_what_is_guarded(start: Start, needs_cgroup: None) -> None:
    """The children of the program count, too: they share its cgroup and its limit."""
    grow = "import mmap, sys; m = mmap.mmap(-1, 20 << 20); m.write(b'x' * (20 << 20)); sys.stdin.read()"
    guard = exec_(start, "sh", "-c", f'{sys.executable} -S -c "{grow}"; exit 5', stdin=subprocess.PIPE,
                  options=("--limit", "100MiB"))
    until(lambda: (guard.target().get("used_bytes") or 0) > 20 << 20, "the child's memory to count", guard.said)
    assert guard.target()["limit_bytes"] == 100 << 20
    assert guard.process.stdin is not None
    guard.process.stdin.close()
    assert guard.wait() == 5
