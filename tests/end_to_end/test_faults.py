"""What goes wrong around the guard: each fault has a clear outcome, and guarding goes on where it can."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guarded import MIB, Guard, Holder, is_alive, until

from oomguard.enclosure import Enclosure
from oomguard.trust.bundle import shipped_folder

Start = Callable[..., Guard]
Child = Callable[..., "subprocess.Popen[str]"]
Rules = Callable[[str], str]
MakeEnclosure = Callable[..., Enclosure]

Poor = Callable[..., "subprocess.CompletedProcess[str]"]

ONE_HOOK = """
hooks:
  - {{name: trim, command: [{command}], deadline: {deadline}}}
bounds: {{minimum_gap: 1s, actions_per_minute: 60}}
rules:
  - name: trim in time
    when: {{level_at_least: 2}}
    then: [{{hook: trim, release: all}}]
    cooldown: {cooldown}
"""


def run(start: Start, *targets: str, more: tuple[str, ...] = ()) -> Guard:
    """Guard these targets, on plain levels where nothing else is said."""
    named = [word for target in targets for word in ("--target", target)]
    model = [] if "--model" in more else ["--model", "none"]
    return start("run", *model, *named, *more)


def hooked(rules: Rules, command: str, deadline: str = "5s", cooldown: str = "1s") -> tuple[str, str]:
    """Return the options for a rule file with one command hook."""
    return "--rules", rules(ONE_HOOK.format(command=command, deadline=deadline, cooldown=cooldown))


@pytest.fixture
def pressed(enclosure: MakeEnclosure, child: Child) -> tuple[Enclosure, Holder]:
    """A program at level 3 of a 64 MiB cgroup."""
    group = enclosure("pressed", 64 * MIB)
    holder = Holder(child, join=group.join)
    holder.take(53)
    return group, holder


# -- limits and constraints --------------------------------------------------------------------------------------

def test_a_limit_of_max_leaves_the_machine_as_the_bound(start: Start, child: Child, enclosure: MakeEnclosure) -> None:
    """A cgroup without a limit is bound by what is above it, in the end by the machine; a limit set later is seen."""
    group = enclosure("max")
    holder = Holder(child, join=group.join)
    guard = run(start, f"cgroup:{group.path}")
    guard.samples(2)
    assert not guard.target()["constraint"].endswith(group.path)
    assert guard.target()["limit_bytes"] > 256 * MIB
    Path(group.directory, "memory.max" if group.kind == "v2" else "memory.limit_in_bytes").write_text(str(64 * MIB))
    changed = guard.event("constraint")
    assert changed["constraint"].endswith(group.path) and changed["limit_bytes"] == 64 * MIB
    holder.take(50)
    assert guard.event("level")["level"] >= 1


def test_a_sibling_that_fills_the_parent(start: Start, child: Child, enclosure: MakeEnclosure) -> None:
    """The child is far from its own limit, the parent is not: the parent becomes what binds, and the level rises."""
    parent = enclosure("parent", 64 * MIB)
    if parent.kind != "v1":
        pytest.skip("a v2 parent with processes in its children needs the controller handed down")
    paths = [f"{parent.directory}/{name}" for name in ("a", "b")]
    for path in paths:
        os.mkdir(path)
    Path(paths[0], "memory.limit_in_bytes").write_text(str(40 * MIB))

    def join(path: str) -> Callable[[], None]:
        return lambda: Path(path, "cgroup.procs").write_text("0") and None

    guarded, sibling = Holder(child, join=join(paths[0])), Holder(child, join=join(paths[1]))
    guarded.take(2)
    guard = run(start, f"cgroup:{parent.path}/a")
    guard.samples(2)
    assert guard.target()["constraint"].endswith("/a") and guard.target()["level"] == 0
    sibling.take(45)
    changed = guard.event("constraint")
    assert changed["was"].endswith("/a") and changed["constraint"] == f"cgroup:{parent.path}"
    assert guard.event("level")["constraint"] == f"cgroup:{parent.path}"
    assert guard.target()["level"] >= 1
    assert guard.target()["used_bytes"] > 45 * MIB      # the parent's, not the child's own


def test_a_kill_inside_the_target_is_told(start: Start, child: Child, enclosure: MakeEnclosure) -> None:
    """One of the target's processes killed by the kernel is an event; the guard goes on with those that are left."""
    group = enclosure("kill", 64 * MIB)
    survivor, victim = Holder(child, join=group.join), Holder(child, join=group.join)
    guard = run(start, f"cgroup:{group.path}")
    guard.samples(2)
    with pytest.raises((AssertionError, BrokenPipeError)):
        victim.take(80)
    assert guard.event("kill")["kills"] == 1
    assert guard.target()["kills"] == 1
    assert is_alive(survivor.pid)
    assert guard.process.poll() is None


# -- rights ------------------------------------------------------------------------------------------------------

def nobody() -> tuple[str, ...]:
    """Return what makes a program run as somebody who may read everything and write nothing."""
    program = shutil.which("setpriv")
    if program is None or os.geteuid() != 0:
        pytest.skip("needs root and setpriv, to run as somebody else")
    return (program, "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "+dac_read_search",
            "--ambient-caps", "+dac_read_search")


@pytest.fixture
def poor(folder: Path) -> Iterator[Poor]:
    """Run oomguard as nobody: poor("run", …)."""
    mine = folder / "nobody"
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    os.chmod(folder, 0o755)

    def begin(*argv: str, runtime: str = "") -> subprocess.CompletedProcess[str]:
        command = [*nobody(), sys.executable, "-m", "oomguard", *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=25,
                              env=os.environ | {"RUNTIME_DIRECTORY": runtime or str(mine)})

    yield begin


def test_nobody_may_guard_its_own_process(poor: Poor, child: Child) -> None:
    """Reading one's own process needs no right; what cannot be had (the oom score) is done without."""
    process = child(*nobody(), "sleep", "60")
    until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "setpriv")
    ended = poor("run", "--model", "none", "--cadence", "100ms", "--target", f"pid:{process.pid}", "--ticks", "3")
    assert ended.returncode == 0, ended.stderr
    assert "event=guarding" in ended.stderr


def test_exec_without_the_right_to_a_cgroup_guards_the_process(poor: Poor) -> None:
    """It says so, and what follows; the exit status is still the program's own, even if that ends at once."""
    for code in ("sleep 0.5; exit 3", "exit 3"):
        ended = poor("exec", "--model", "none", "--cadence", "100ms", "--", "sh", "-c", code)
        assert ended.returncode == 3, ended.stderr
        assert "event=no-cgroup" in ended.stderr and "own process is guarded" in ended.stderr


def test_a_limit_without_the_right_to_a_cgroup_is_refused(poor: Poor,
                                                          folder: Path) -> None:
    """A limit that cannot be set is no wish: exit code 5, the reason, and the program is not started."""
    mark = folder / "nobody" / "mark"
    ended = poor("exec", "--model", "none", "--limit", "64MiB", "--", "touch", str(mark))
    assert ended.returncode == 5
    assert "Permission denied" in ended.stderr or "no memory cgroup" in ended.stderr
    assert not mark.exists()


def test_a_runtime_folder_that_may_not_be_made(poor: Poor) -> None:
    """Exit code 5, and what to set instead."""
    ended = poor("run", "--model", "none", "--ticks", "1", runtime="/proc/none")
    assert ended.returncode == 5
    assert "set RUNTIME_DIRECTORY" in ended.stderr


# -- the window's file -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("harm", ["torn", "foreign", "version", "head", "empty"])
def test_a_corrupt_window_is_set_aside(start: Start, folder: Path, harm: str) -> None:
    """It is never trusted: the guard says so, keeps the file for who wants to look, and begins a new one."""
    target = f"pid:{os.getpid()}"
    assert run(start, target, more=("--ticks", "3")).wait() == 0
    path = folder / "rt" / "windows" / f"{os.getpid()}.window"
    data = bytearray(path.read_bytes())
    if harm == "torn":
        del data[5000:]
    elif harm == "foreign":
        data[:8] = b"SQLite f"
    elif harm == "version":
        data[8] = 99
    elif harm == "head":
        data[32:34] = b"\xff\xff"
    else:
        data.clear()
    path.write_bytes(data)
    guard = run(start, target, more=("--ticks", "3"))
    assert guard.wait() == 0, guard.said()
    assert guard.events("guarding")[1]["is_continued"] is False
    refused = guard.events("window-refused")
    assert len(refused) == (0 if harm == "empty" else 1)
    if refused:
        assert "set aside" in refused[0]["because"]
        assert (path.parent / (path.name + ".bad")).read_bytes() == data


@pytest.fixture
def full_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs on which nothing but names can be made."""
    place = folder / "disk"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)],
                                           capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs")
    with (place / "fill").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_for_the_runtime_folder(start: Start, full_disk: Path) -> None:
    """The window is kept in memory, the log says what that costs, and guarding goes on."""
    guard = run(start, f"pid:{os.getpid()}", more=("--runtime-dir", str(full_disk / "rt")))
    assert guard.samples(5) >= 5
    because = guard.event("window-in-memory")["because"]
    assert "No space" in because and "restart will forget" in because
    assert guard.stop() == 0


def test_a_log_on_a_full_disk(start: Start, full_disk: Path, folder: Path) -> None:
    """Lines are dropped and counted, and the guard goes on; the first line that gets through says how many."""
    guard = start("run", "--model", "none", "--target", f"pid:{os.getpid()}", "--log-json", str(full_disk / "log"),
                  "--socket", str(folder / "s"))
    guard.log_file = full_disk / "log"
    until(lambda: os.path.exists(folder / "s"), "its socket")
    from oomguard.tell.client import ask
    assert until(lambda: ask(str(folder / "s"), {"op": "status"})["targets"], "its target")
    os.truncate(full_disk / "fill", 0)
    assert guard.stop() == 0
    lines = [json.loads(line) for line in (full_disk / "log").read_text().splitlines()]
    assert [line["event"] for line in lines][-1] == "stop"
    assert lines[0]["dropped"] >= 1


# -- models ------------------------------------------------------------------------------------------------------

@pytest.fixture
def bundle(folder: Path) -> Path:
    """A copy of the shipped bundle, to be spoiled."""
    if not os.path.exists(os.path.join(shipped_folder(), "manifest.json")):
        pytest.skip("there is no shipped bundle in this checkout: make model")
    return Path(shutil.copytree(shipped_folder(), folder / "bundle"))


def spoil(bundle: Path, how: str) -> None:
    """Make a bundle one that must not be used."""
    manifest, forest = bundle / "manifest.json", bundle / "forest.bin"
    data = json.loads(manifest.read_text())
    if how == "truncated":
        forest.write_bytes(forest.read_bytes()[:-100])
    elif how == "tampered":
        content = bytearray(forest.read_bytes())
        content[len(content) // 2] ^= 1
        forest.write_bytes(content)
    elif how == "foreign":
        manifest.write_text("{}")
    elif how == "no manifest":
        manifest.unlink()
    elif how == "another feature table":
        manifest.write_text(json.dumps(data | {"feature_hash": "0" * 64}))


@pytest.mark.parametrize(
    "how", ["truncated", "tampered", "foreign", "no manifest", "another feature table", "unsigned"])
def test_a_bundle_that_cannot_be_trusted(start: Start, bundle: Path, how: str) -> None:
    """`check` refuses it with exit code 4; `run` goes on on plain levels, and its log and status say why."""
    spoil(bundle, how)
    allow = () if how == "unsigned" else ("--allow-unsigned",)
    ended = subprocess.run([sys.executable, "-m", "oomguard", "check", "--model", str(bundle), *allow],
                           capture_output=True, text=True, timeout=25)
    assert ended.returncode == 4
    assert str(bundle) in ended.stderr
    guard = run(start, f"pid:{os.getpid()}", more=("--model", str(bundle), *allow))
    guard.samples(2)
    status = guard.status()
    assert status["model"] is None
    assert any(str(bundle) in warning and "plain levels" in warning for warning in status["warnings"])
    assert guard.target()["scorer"] == "plain"
    assert any(str(bundle) in event["because"] for event in guard.events("warning"))
    assert guard.event("start")["model"] == "none"


def test_the_same_bundle_unspoiled_is_used(start: Start, bundle: Path) -> None:
    """The counterpart: whole, and allowed unsigned, it is what scores."""
    guard = run(start, f"pid:{os.getpid()}", more=("--model", str(bundle), "--allow-unsigned"))
    guard.samples(1)
    assert guard.status()["model"]["id"] == json.loads((bundle / "manifest.json").read_text())["model_id"]
    assert guard.event("start")["scorer"] == "forest"


# -- hooks -------------------------------------------------------------------------------------------------------

def test_a_hook_that_fails_is_put_on_hold(start: Start, pressed: tuple[Enclosure, Holder], rules: Rules) -> None:
    """Its exit status and last line are told; after three failures in a row it is not asked for a while."""
    guard = run(start, f"cgroup:{pressed[0].path}", more=hooked(rules, "sh, -c, 'echo out of order >&2; exit 3'"))
    assert guard.event("hook-failed")["because"] == "exit status 3: out of order"
    third = guard.event("hook-failed", 2)
    assert third["failures"] == 3
    assert guard.event("nobody-to-ask")["because"]
    assert guard.target()["hooks"][0]["on_hold_until_s"] > 0
    assert guard.process.poll() is None


def test_a_hook_that_cannot_be_started(start: Start, pressed: tuple[Enclosure, Holder], rules: Rules) -> None:
    """A program that is not there fails by name, and the guard goes on."""
    guard = run(start, f"cgroup:{pressed[0].path}", more=hooked(rules, "nonexistent-hook"))
    assert "nonexistent-hook" in guard.event("hook-failed")["because"]
    before = guard.target()["samples"]
    assert guard.samples(before + 3)


def test_a_hook_that_hangs_is_ended_at_its_deadline(start: Start, pressed: tuple[Enclosure, Holder], rules: Rules,
                                                    folder: Path) -> None:
    """The loop goes on while it hangs; then it and its children are killed, and the log says so."""
    guard = run(start, f"cgroup:{pressed[0].path}",
                more=hooked(rules, f"sh, -c, 'echo $$ > {folder}/pid; sleep 1000'", deadline="1s", cooldown="1h"))
    pid = int(until(lambda: (folder / "pid").exists() and (folder / "pid").read_text(), "the hook"))
    before = guard.target()["samples"]
    assert guard.samples(before + 3)
    assert "deadline of 1 s passed" in guard.event("hook-failed")["because"]
    until(lambda: not is_alive(pid), "its end")


def test_a_hook_that_lies_is_found_out(start: Start, pressed: tuple[Enclosure, Holder], rules: Rules) -> None:
    """It claims a gigabyte, the samples show nothing: told with both figures, and counted as a failure."""
    guard = run(start, f"cgroup:{pressed[0].path}", more=hooked(rules, "echo, '1073741824'", cooldown="5s"))
    release = guard.event("release")
    assert release["severity"] == "warning"
    assert release["claimed_bytes"] == 1 << 30 and release["freed_bytes"] < MIB
    assert "claimed 1073741824 bytes" in release["why"]
    assert guard.target()["hooks"][0]["failures"] >= 1


def test_an_honest_hook_is_believed(
    start: Start, pressed: tuple[Enclosure, Holder], rules: Rules, folder: Path,
) -> None:
    """The counterpart: what it claims is what the samples show, and its yield is learned."""
    command = f"sh, -c, 'touch {folder}/go; until test -e {folder}/gone; do sleep 0.02; done; echo 30000000'"
    guard = run(start, f"cgroup:{pressed[0].path}", more=hooked(rules, command, cooldown="30s"))
    until((folder / "go").exists, "the hook", guard.said)
    pressed[1].drop()
    (folder / "gone").touch()
    release = guard.event("release")
    assert release["ok"] and release["why"] is None
    assert release["freed_bytes"] > 30 * MIB
    assert guard.target()["hooks"][0]["yield_bytes"] == release["freed_bytes"]
    assert guard.target()["level"] == 0


def helper_of(pid: int) -> int:
    """Return the pid of a daemon's helper process, 0 while there is none."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"act.helper" in Path(f"/proc/{child}/cmdline").read_bytes() and is_alive(int(child)):
                return int(child)
    return 0


def test_a_helper_killed_comes_back(
    start: Start, pressed: tuple[Enclosure, Holder], rules: Rules, folder: Path,
) -> None:
    """kill -9 of the helper under pressure: the guard goes on, starts another, and the next hook works."""
    guard = run(start, f"cgroup:{pressed[0].path}", more=hooked(rules, f"sh, -c, 'echo x >> {folder}/ran'"))
    until((folder / "ran").exists, "the first hook", guard.said)
    first = helper_of(guard.pid)
    os.kill(first, signal.SIGKILL)
    second = until(lambda: helper_of(guard.pid) not in (0, first) and helper_of(guard.pid), "another helper")
    lines = len((folder / "ran").read_text())
    until(lambda: len((folder / "ran").read_text()) > lines, "the next hook")
    assert is_alive(second)
    assert guard.target()["level"] >= 2
    assert not is_alive(first)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_helper_ends_with_the_guard(start: Start, rules: Rules, number: int) -> None:
    """Asked to stop or killed -9, the guard leaves no helper behind."""
    guard = run(start, f"pid:{os.getpid()}", more=hooked(rules, "'true'"))
    helper = until(lambda: helper_of(guard.pid), "the helper")
    guard.process.send_signal(number)
    guard.wait()
    until(lambda: not is_alive(helper), "its end")


# -- the guard's own trouble -------------------------------------------------------------------------------------

def test_a_frozen_guard_goes_on_where_it_stood(start: Start) -> None:
    """Stopped for a while, as by a debugger or a standby: one late sample, no storm of missed ones."""
    guard = run(start, f"pid:{os.getpid()}")
    guard.samples(3)
    os.kill(guard.pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{guard.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "its stop")
    before_s = guard.event("start") and os.times().elapsed
    until(lambda: os.times().elapsed - before_s > 1.0, "a second to pass")
    os.kill(guard.pid, signal.SIGCONT)
    after = guard.samples(4)
    assert after < 10           # a second held ten ticks
    assert guard.samples(after + 2)
