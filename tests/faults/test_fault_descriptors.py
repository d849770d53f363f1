"""Descriptors, processes and inotify run out: what needs a new one waits and is said, and guarding goes on."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from broken import SPAWNING, Broken
from faulted import guard_of_us
from guarded import MIB, Guard, Holder, is_alive, until
from journals import SMALL, Told, facts, read, row, rows, walk

from oomguard.enclosure import Enclosure
from oomguard.record.journal import Journal

Start = Callable[..., Guard]
Child = Callable[..., "subprocess.Popen[str]"]
MakeEnclosure = Callable[..., Enclosure]
Rules = Callable[[str], str]

HOOKED = """
hooks:
  - {{name: trim, command: [sh, -c, 'echo x >> {mark}']}}
bounds: {{minimum_gap: 0s, actions_per_minute: 60}}
rules:
  - name: trim in time
    when: {{level_at_least: 2}}
    then: [{{hook: trim, release: all}}]
    cooldown: 1s
"""


def fds_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def exhaust(guard: Guard, but: int = 0) -> None:
    """Leave a guard no descriptor but those that it has, and so many more."""
    used = {int(name) for name in os.listdir(f"/proc/{guard.pid}/fd")}
    free = (number for number in range(1 << 16) if number not in used)
    last = max([max(used), *(next(free) for _ in range(but))]) if but else max(used)
    _soft, hard = resource.prlimit(guard.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(guard.pid, resource.RLIMIT_NOFILE, (last + 1, hard))


def relieve(guard: Guard) -> None:
    """Let it open files again."""
    _soft, hard = resource.prlimit(guard.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(guard.pid, resource.RLIMIT_NOFILE, (1024, hard))


def helper_of(pid: int) -> int:
    """Return the pid of a daemon's helper process, 0 while there is none."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            if b"act.helper" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        except OSError:
            continue
    return 0


@pytest.fixture
def pressed(enclosure: MakeEnclosure, child: Child) -> Enclosure:
    """A cgroup of 64 MiB at level 3."""
    group = enclosure("scarce", 64 * MIB)
    Holder(child, join=group.join).take(53)
    return group


def test_a_helper_cannot_be_replaced_without_descriptors(
    start: Start, pressed: Enclosure, rules: Rules, folder: Path,
) -> None:
    """Killed while none is free: the guard ticks on without hands, and has them again when descriptors are back."""
    mark = folder / "mark"
    guard = start("run", "--rules", rules(HOOKED.format(mark=mark)), "--target", f"cgroup:{pressed.path}")
    until(mark.exists, "the first hook", guard.said)
    exhaust(guard)
    helper = helper_of(guard.pid)
    os.kill(helper, signal.SIGKILL)
    until(lambda: helper_of(guard.pid) != helper, "its end", guard.said)
    guard.event("hook-failed")
    ticks = samples_in(folder)
    until(lambda: samples_in(folder) > ticks + 20, "two seconds of ticks, tries among them", guard.said)
    assert guard.process.poll() is None, guard.said()
    relieve(guard)
    lines = len(mark.read_text())
    until(lambda: len(mark.read_text()) > lines, "a hook after that", guard.said)


def test_a_helper_that_took_the_last_descriptors_is_known_all_the_same(
    start: Start, pressed: Enclosure, rules: Rules, folder: Path,
) -> None:
    """Nothing was left to look at it with when it started: when it hangs later, it is still killed, and not left."""
    mark = folder / "mark"
    text = HOOKED.format(mark=mark).replace("]}\n", "], deadline: 1s}\n", 1)
    guard = start("run", "--rules", rules(text), "--target", f"cgroup:{pressed.path}")
    until(mark.exists, "the first hook", guard.said)
    first = helper_of(guard.pid)
    exhaust(guard, but=1)               # and the one of the link to the helper that is killed now
    os.kill(first, signal.SIGKILL)
    second = until(lambda: helper_of(guard.pid) not in (0, first) and helper_of(guard.pid), "another", guard.said)
    lines = len(mark.read_text())
    until(lambda: len(mark.read_text()) > lines, "a hook by it", guard.said)
    relieve(guard)
    os.kill(second, signal.SIGSTOP)
    until(lambda: not is_alive(second), "its end", guard.said)


def samples_in(folder: Path) -> int:
    """Return how many samples the windows count: read from their files, for no client gets in."""
    return sum(int.from_bytes(path.read_bytes()[64:72], sys.byteorder)
               for path in (folder / "rt" / "windows").glob("*.window"))


def test_a_target_that_comes_while_none_is_free_is_guarded_all_the_same(
    start: Start, enclosure: MakeEnclosure, folder: Path,
) -> None:
    """Its files are opened at each tick, its window is in memory: dearer, but guarded; nothing is left open."""
    group = enclosure("comes", 64 * MIB)
    guard = start("run", "--model", "none", "--target", f"cgroup:{group.path}", "--target", "system")
    guard.samples(3)
    before = fds_of(guard.pid)
    group.remove()
    guard.event("target-gone")
    exhaust(guard)
    enclosure("comes", 64 * MIB)
    assert len(guard.event("guarding", 2)) and guard.process.poll() is None
    relieve(guard)
    assert guard.samples(3)
    until(lambda: fds_of(guard.pid) <= before, "no more descriptors than before", guard.said)


def test_a_flush_that_finds_no_descriptor_costs_no_sample(tmp_path: Path) -> None:
    """Recording goes on; to have the disk keep what it has waits for the next flush, and no descriptor is lost."""
    told, samples = Told(), list(walk(40))
    journal = Journal.open(str(tmp_path), SMALL, told)
    run = journal.run(facts())
    run.sample(samples[0])
    journal.tick(0.0)
    fds = os.listdir("/proc/self/fd")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)                   # room for the first of the two that a flush takes, and not for the second
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
    try:
        for sample in samples[1:20]:
            run.sample(sample)
            journal.tick(journal._house_s)      # a flush is due at each of these
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert told.names == []
    assert len(os.listdir("/proc/self/fd")) == len(fds)
    for sample in samples[20:]:
        run.sample(sample)
        journal.tick(journal._house_s)
    journal.close()
    kept, losses = read(tmp_path)
    assert rows(kept["app"]) == [row(sample) for sample in samples]
    assert losses.lines() == []


def test_a_reload_that_cannot_be_started_is_refused(start: Start, broken: Broken) -> None:
    """SIGHUP while no process can be made: the old rules hold, and it says so; the next one works."""
    guard = guard_of_us(start, environ=broken.environ)
    before = guard.samples(2)
    broken.fail(SPAWNING, errno.EAGAIN, "")
    os.kill(guard.pid, signal.SIGHUP)
    assert "Resource temporarily unavailable" in guard.event("reload-refused")["because"]
    assert guard.samples(before + 3)
    broken.mend()
    os.kill(guard.pid, signal.SIGHUP)
    assert guard.event("reload")


def test_without_inotify_nothing_is_missed(start: Start, folder: Path) -> None:
    """A user with no inotify instance left guards as ever: nothing is watched by it."""
    program = shutil.which("unshare")
    command = (program or "", "--user", "--map-root-user", "--")
    spoil = ("sh", "-c", 'echo 0 > /proc/sys/fs/inotify/max_user_instances && exec "$@"', "sh")
    if program is None or subprocess.run([*command, *spoil, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace can be made")
    guard = guard_of_us(start, prefix=(*command, *spoil))
    assert guard.samples(5)
    assert guard.process.poll() is None
    assert guard.stop() == 0
