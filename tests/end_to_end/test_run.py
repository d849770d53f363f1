"""`oomguard run`: guards what is named, says what is worth saying, waits for what is not there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guarded import MIB, PROGRAMS, Guard, Holder, until

from oomguard.enclosure import Enclosure

Start = Callable[..., Guard]
Child = Callable[..., "subprocess.Popen[str]"]
Rules = Callable[[str], str]
MakeEnclosure = Callable[..., Enclosure]

COMMAND_HOOK = """
hooks:
  - {{name: trim, command: [{command}], deadline: 10s}}
bounds: {{minimum_gap: 1s}}
rules:
  - name: trim in time
    when: {{level_at_least: 2}}
    then: [{{hook: trim, release: needed}}]
    cooldown: 1s
"""


def run(start: Start, *targets: str, more: tuple[str, ...] = ()) -> Guard:
    """Guard these targets on plain levels."""
    named = [word for target in targets for word in ("--target", target)]
    return start("run", "--model", "none", *named, *more)


# -- a real redis-server -----------------------------------------------------------------------------------------

class Redis:
    """A real redis-server in a cgroup, and a client that leaks keys into it."""

    def __init__(self, folder: Path, enclosure: Enclosure, child: Child) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        self.path = str(folder / "redis.sock")
        self.process = child(program, "--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no",
                             "--daemonize", "no", preexec_fn=enclosure.join, stdout=subprocess.DEVNULL)
        until(lambda: os.path.exists(self.path), "redis-server")
        self.client = socket.socket(socket.AF_UNIX)
        self.client.connect(self.path)
        self.client.settimeout(20)

    def leak(self, key: int, size: int = MIB) -> bool:
        """Store one more key; return whether the server lived to answer."""
        name = f"key:{key}".encode()
        try:
            self.client.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n" % (len(name), name, size))
            self.client.sendall(b"x" * size + b"\r\n")
            return self.client.recv(64) == b"+OK\r\n"
        except OSError:
            return False

    def close(self) -> None:
        """Hang up."""
        self.client.close()


@pytest.fixture
def redis(folder: Path, enclosure: MakeEnclosure, child: Child) -> Iterator[Callable[[Enclosure], Redis]]:
    """Start a redis-server in a cgroup."""
    made: list[Redis] = []

    def begin(group: Enclosure) -> Redis:
        made.append(Redis(folder, group, child))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def leak_steadily(server: Redis, mib: int, pace_s: float = 0.04) -> bool:
    """Store so many MiB of keys at a steady pace; return whether the server lived to hold them."""
    for key in range(mib):
        if not server.leak(key):
            return False
        time.sleep(pace_s)      # the pace of the leak; nothing is waited for
    return True


def test_redis_is_killed_by_the_kernel_without_the_guard(
    enclosure: MakeEnclosure, redis: Callable[[Enclosure], Redis],
) -> None:
    """A redis-server that leaks keys past its limit ends by the kernel's own kill: this is what is prevented."""
    group = enclosure("redis", 48 * MIB)
    server = redis(group)
    assert not leak_steadily(server, 80, pace_s=0.0)
    assert server.process.wait() == -signal.SIGKILL
    assert group.kills() == 1


def test_redis_lives_with_a_command_hook(
    start: Start, enclosure: MakeEnclosure, redis: Callable[[Enclosure], Redis], rules: Rules,
) -> None:
    """The same server, under `run` with a hook that trims it, takes nearly twice its limit and lives."""
    group = enclosure("redis", 48 * MIB)
    server = redis(group)
    text = rules(COMMAND_HOOK.format(command=f"{PROGRAMS / 'trim_redis.sh'}, {server.path}"))
    guard = run(start, f"cgroup:{group.path}", more=("--rules", text))
    guard.samples(3)
    assert leak_steadily(server, 90), guard.said()
    assert server.process.poll() is None
    assert group.kills() == 0
    release = guard.event("release")
    assert release["ok"] and release["freed_bytes"] > 10 * MIB and release["claimed_bytes"] > 10 * MIB
    decision = guard.event("decision")
    assert decision["rule"] == "trim in time" and decision["because"] and decision["level"] >= 2
    assert guard.stop() == 0


# -- options -----------------------------------------------------------------------------------------------------

def test_it_stops_after_so_many_ticks(start: Start) -> None:
    """--ticks N: N readings, exit code 0; the log begins with the settings in effect and ends with the stop."""
    guard = run(start, f"pid:{os.getpid()}", more=("--ticks", "5"))
    assert guard.wait() == 0
    names = [event["event"] for event in guard.events()]
    assert names[0] == "start" and names[-1] == "stop"
    first = guard.events()[0]
    assert first["cadence_s"] == 0.1 and first["model"] == "none" and first["scorer"] == "plain"


def test_without_a_file_the_system_or_the_container_is_guarded(start: Start) -> None:
    """No target, no file: the default rules over the cgroup that bounds us, else over the machine."""
    guard = start("run", "--model", "none", "--ticks", "2")
    assert guard.wait() == 0
    assert guard.events("guarding")[0]["target"] in ("system", "container")
    assert guard.events("start")[0]["rules"].endswith("default.yaml")


def test_the_portable_reader_can_be_chosen(start: Start, child: Child) -> None:
    """--portable: the same guard over psutil, as on other systems."""
    process = child("sleep", "60")
    guard = run(start, f"pid:{process.pid}", more=("--portable",))
    assert guard.samples(3)
    assert guard.target()["limit_bytes"] > 0
    process.kill()
    process.wait()
    assert guard.wait() == 6


def test_the_daemon_is_small(start: Start) -> None:
    """A generous bound on its peak, start-up included; the bench measures it properly."""
    guard = run(start, f"pid:{os.getpid()}", "system")
    guard.samples(20)
    lines = Path(f"/proc/{guard.pid}/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    assert peak_kib < 48 * 1024
    threads = next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))
    assert threads == 1


def test_quiet_ticks_are_silent(start: Start, child: Child, enclosure: MakeEnclosure) -> None:
    """After the start nothing is written for as long as nothing changes; that the machine stalled is a change."""
    group = enclosure("quiet", 200 * MIB)
    Holder(child, join=group.join)
    guard = run(start, f"cgroup:{group.path}")
    guard.samples(2)
    before = [event for event in guard.events() if event["event"] != "woken"]
    guard.samples(25)
    assert [event for event in guard.events() if event["event"] != "woken"] == before


def test_each_line_is_json_and_complete(start: Start, child: Child, enclosure: MakeEnclosure, rules: Rules) -> None:
    """Every line parses; level, decision and release say what they must."""
    group = enclosure("lines", 64 * MIB)
    holder = Holder(child, join=group.join)
    guard = run(start, f"cgroup:{group.path}", more=("--rules", rules(COMMAND_HOOK.format(command="echo, '4194304'"))))
    holder.take(57)         # above nine tenths: less, standing still, needs nothing
    release = guard.event("release")
    level, decision = guard.event("level"), guard.event("decision")
    for event in (level, decision):
        assert event["target"] == group.path.rpartition("/")[2]
        assert event["scorer"] == "plain"
        assert event["constraint"].endswith(group.path)
        assert 0 < event["used_bytes"] < event["limit_bytes"] == 64 * MIB
    assert decision["because"].startswith("level ")
    assert release["claimed_bytes"] == 4 * MIB
    assert release["rule"] == "trim in time" and release["hook"] == "trim"
    assert guard.stop() == 0
    assert all(re.match(r"\d{4}-\d\d-\d\dT", event["time"]) for event in guard.events())


def test_a_dry_run_decides_and_releases_nothing(start: Start, child: Child, enclosure: MakeEnclosure, rules: Rules,
                                                folder: Path) -> None:
    """--dry-run: the decision is logged, the hook's outcome says so, and the command never ran."""
    group = enclosure("dry", 64 * MIB)
    holder = Holder(child, join=group.join)
    mark = folder / "mark"
    text = rules(COMMAND_HOOK.format(command=f"touch, {mark}"))
    guard = run(start, f"cgroup:{group.path}", more=("--rules", text, "--dry-run"))
    holder.take(57)         # above nine tenths: less, standing still, needs nothing
    release = guard.event("release")
    assert guard.event("decision")["rule"] == "trim in time"
    assert release["why"] == "dry run"
    assert guard.status()["dry_run"] is True
    assert guard.event("start")["dry_run"] is True
    assert not mark.exists()


# -- what is refused ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("target", "code", "text"), [
    ("pid:4194303", 6, "process 4194303"), ("pid:abc", 2, "not a process number"), ("nonsense", 2, "is not one of"),
    ("pid:", 2, "is not one of"), ("unit:", 2, "is not one of")])
def test_a_target_that_cannot_be_there(start: Start, target: str, code: int, text: str) -> None:
    """A dead pid is exit code 6; what makes no sense is 2; both say what is wrong."""
    guard = run(start, target)
    assert guard.wait() == code
    assert text in guard.errors.read_text()


def test_a_process_that_has_just_died(start: Start, child: Child) -> None:
    """A zombie is gone, too."""
    process = child("true")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    guard = run(start, f"pid:{process.pid}")
    assert guard.wait() == 6
    assert "has ended" in guard.errors.read_text()


def test_a_bad_rule_file_is_named_to_the_line(start: Start, rules: Rules) -> None:
    """Exit code 3 and file:line: path: problem, before anything is guarded."""
    path = rules("rules:\n  - name: wrong\n    when: {level_at_least: 7}\n    then: [{hook: any}]\n")
    for verb in ("run", "check"):
        code, said = _verb(verb, path)
        assert code == 3
        assert f"{path}:7: rules[0].when.level_at_least: 7 is not in 1..5" in said


def _verb(*argv: str) -> tuple[int, str]:
    ended = subprocess.run([sys.executable, "-m", "oomguard", *argv], capture_output=True, text=True, timeout=20)
    return ended.returncode, ended.stderr


def test_two_guards_do_not_share_a_socket(start: Start) -> None:
    """The second one is refused with the first one's pid; the first goes on."""
    first = run(start, f"pid:{os.getpid()}")
    assert first.status()["pid"] == first.pid
    second = run(start, f"pid:{os.getpid()}")
    assert second.wait() == 1
    assert f"pid {first.pid}) listens at" in second.errors.read_text()
    assert first.status()["pid"] == first.pid


def test_two_guards_do_not_share_their_windows(start: Start, folder: Path) -> None:
    """Another socket over the same runtime folder is refused too: both would write one window."""
    first = run(start, f"pid:{os.getpid()}")
    assert first.status()["pid"] == first.pid
    second = run(start, f"pid:{os.getpid()}", more=("--socket", str(folder / "other.sock")))
    assert second.wait() == 5
    assert "another guard uses" in second.errors.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_when_asked(start: Start, folder: Path, number: int) -> None:
    """Exit code 0, the stop is logged, the socket removed, the window's file stays."""
    guard = run(start, f"pid:{os.getpid()}")
    guard.samples(1)
    path = guard.socket
    guard.process.send_signal(number)
    assert guard.wait() == 0
    assert guard.events()[-1]["event"] == "stop" and guard.events()[-1]["exit_code"] == 0
    assert not os.path.exists(path)
    assert os.listdir(folder / "rt" / "windows") == [f"{os.getpid()}.window"]


def test_status_speaks_while_it_runs(start: Start, child: Child, enclosure: MakeEnclosure) -> None:
    """`oomguard status --json` over the socket: targets with their figures, model, rules."""
    group = enclosure("status", 64 * MIB)
    holder = Holder(child, join=group.join)
    holder.take(20)
    guard = run(start, f"cgroup:{group.path}")
    guard.samples(1)
    ended = subprocess.run([sys.executable, "-m", "oomguard", "status", "--socket", guard.socket],
                           capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0
    assert group.path.rpartition("/")[2][:16] in ended.stdout
    shown = guard.target()
    assert shown["limit_bytes"] == 64 * MIB and 20 * MIB < shown["used_bytes"] < 64 * MIB
    assert shown["probabilities"] is None and shown["scorer"] == "plain" and shown["level"] == 0
    assert not shown["is_blind"] and shown["kills"] == 0


# -- targets that come and go ------------------------------------------------------------------------------------

def test_a_command_that_comes_later_is_found_and_waited_for_again(start: Start, child: Child, folder: Path) -> None:
    """It is picked up within the 5 s between two looks; when it dies it is waited for again, and another run begins."""
    name = f"og{os.getpid()}"
    program = folder / name
    shutil.copy("/bin/sleep", program)
    guard = run(start, f"command:{name}")
    assert name in guard.event("waiting")["because"]
    assert guard.status()["waiting_for"] == [name]
    first = child(str(program), "100")
    assert str(first.pid) in guard.event("guarding")["what"]
    assert guard.samples(3)
    first.kill()
    first.wait()
    assert guard.event("target-gone")["because"]
    second = child(str(program), "100")
    again = guard.event("guarding", 1)
    assert str(second.pid) in again["what"]
    assert again["is_continued"] is False       # another process is another run
    assert guard.process.poll() is None


def test_a_cgroup_that_vanishes_is_waited_for_and_found_again(start: Start, enclosure: MakeEnclosure) -> None:
    """A cgroup removed in mid-run is an event and no end; one of the same name is another run."""
    group = enclosure("vanishing", 64 * MIB)
    guard = run(start, f"cgroup:{group.path}")
    guard.samples(3)
    group.remove()
    assert guard.event("target-gone")
    assert guard.status()["waiting_for"] == [group.path.rpartition("/")[2]]
    again = enclosure("vanishing", 64 * MIB)
    assert again.path == group.path
    assert guard.event("guarding", 1)["is_continued"] is False
    assert guard.samples(2)


def test_the_last_process_gone_ends_the_guard(start: Start, child: Child) -> None:
    """A process named by its number does not come back: exit code 6."""
    process = child("sleep", "100")
    guard = run(start, f"pid:{process.pid}")
    guard.samples(1)
    process.kill()
    process.wait()
    assert guard.wait() == 6
    assert "ended" in guard.events("target-gone")[0]["because"]


def test_two_missing_targets_are_each_named_once(start: Start) -> None:
    """Silence: looking for them again says nothing new."""
    guard = run(start, "command:og-none-a", "command:og-none-b", f"pid:{os.getpid()}")
    guard.samples(70)           # 7 s: two more looks
    assert [event["target"] for event in guard.events("waiting")] == ["og-none-a", "og-none-b"]


def test_targets_of_one_last_name_are_both_guarded(start: Start, enclosure: MakeEnclosure) -> None:
    """Two cgroups whose paths end alike are two targets; the same one twice is a mistake."""
    first, second = enclosure("alike", 64 * MIB), enclosure("alike2", 64 * MIB)
    for group in (first, second):
        os.mkdir(f"{group.directory}/app")
    paths = [f"cgroup:{group.path}/app" for group in (first, second)]
    guard = run(start, *paths)
    until(lambda: len(guard.events("guarding")) == 2, "both", guard.said)
    assert {target["name"] for target in guard.status()["targets"]} == set(paths)
    twice = run(start, paths[0], paths[0])
    assert twice.wait() == 2


def test_a_reused_pid_is_another_run(start: Start, child: Child) -> None:
    """The number of a dead process, given to another one, does not continue its window."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    if not os.access(last, os.W_OK):
        pytest.skip("needs a writable /proc/sys/kernel/ns_last_pid")
    first = child("sleep", "100")
    guard = run(start, f"pid:{first.pid}", more=("--ticks", "3"))
    assert guard.wait() == 0
    assert guard.events("guarding")[0]["is_continued"] is False
    guard = run(start, f"pid:{first.pid}", more=("--ticks", "1"))
    assert guard.wait() == 0
    assert guard.events("guarding")[1]["is_continued"] is True
    first.kill()
    first.wait()
    for _ in range(100):        # others fork, too
        last.write_text(str(first.pid - 1))
        second = child("sleep", "100")
        if second.pid == first.pid:
            break
    else:
        pytest.skip("the pid could not be had again: others were quicker")
    guard = run(start, f"pid:{first.pid}", more=("--ticks", "1"))
    assert guard.wait() == 0
    assert guard.events("guarding")[2]["is_continued"] is False
