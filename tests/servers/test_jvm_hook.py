"""The jvm hook against real JVMs: which collectors give memory back, and whom SIGQUIT must never reach."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import MIB, Guarding, Program, cgroup_bytes, tool

from oomguard.decide.plan import HookPlan
from oomguard.enclosure import Enclosure

Start = Callable[..., Any]
HOG = """import java.util.*;
public class Hog {
  static List<byte[]> held = new ArrayList<>();
  public static void main(String[] words) throws Exception {
    for (int i = 0; i < 3200; i++) held.add(new byte[65536]);
    List<byte[]> kept = new ArrayList<>();
    for (int i = 0; i < 320; i++) kept.add(held.get(i * 10));
    held = kept;
    System.out.println("ready");
    System.in.read();
  }
}
"""
PLAN = HookPlan("jvm", "jvm", deadline_s=20.0)


class Jvm(Program):
    """A JVM that holds 20 MB and has just dropped 180."""

    def __init__(self, folder: Path, *options: str, enclosure: Enclosure | None = None) -> None:
        source = folder / "Hog.java"
        source.write_text(HOG)
        if not (folder / "Hog.class").exists():
            subprocess.run([tool("javac"), "-d", str(folder), str(source)], check=True, timeout=60)
        super().__init__(tool("java"), "-Xmx400m", *options, "-cp", str(folder), "Hog", enclosure=enclosure,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        """Kill it, and remove the door that a killed JVM leaves."""
        super().end()
        Path(f"/tmp/.java_pid{self.pid}").unlink(missing_ok=True)


@pytest.mark.parametrize("collector", ["G1", "Shenandoah"])
def test_collectors_that_give_back(
    guard: Guarding, start: Start, folder: Path, enclosure: Callable[..., Enclosure], collector: str,
) -> None:
    """What was dropped leaves the process, by its own count and the cgroup's."""
    group = enclosure()
    jvm = start(Jvm, folder, f"-XX:+Use{collector}GC", enclosure=group)
    before = cgroup_bytes(group)
    outcome = guard.ask(PLAN, needed_bytes=100 * MIB, pids=(jvm.pid,))
    fell = before - cgroup_bytes(group)
    print(f"jvm {collector}: asked {100 * MIB}, said {outcome.freed_bytes:.0f}, cgroup {fell}, of {before}, "
          f"{outcome.duration_s:.2f} s, {outcome.why}")
    assert outcome.ok, outcome.why
    assert outcome.freed_bytes > 90 * MIB
    assert abs(outcome.freed_bytes - fell) < 32 * MIB
    assert jvm.process.poll() is None


@pytest.mark.parametrize(("collector", "word"), [("Serial", "keeps its heap"), ("Parallel", "keeps its heap"),
                                                 ("Z", "ZUncommitDelay")])
def test_collectors_that_do_not_give_back_are_named(
    guard: Guarding, start: Start, folder: Path, enclosure: Callable[..., Enclosure], collector: str, word: str,
) -> None:
    """They collect and keep what they have: little is claimed, and the remark says why."""
    group = enclosure()
    jvm = start(Jvm, folder, f"-XX:+Use{collector}GC", enclosure=group)
    before = cgroup_bytes(group)
    outcome = guard.ask(PLAN, needed_bytes=100 * MIB, pids=(jvm.pid,))
    print(f"jvm {collector}: asked {100 * MIB}, said {outcome.freed_bytes:.0f}, "
          f"cgroup {before - cgroup_bytes(group)}, {outcome.why}")
    assert outcome.ok, outcome.why
    assert outcome.freed_bytes < 50 * MIB
    assert word in outcome.why


def test_a_second_release_finds_the_door_open(guard: Guarding, start: Start, folder: Path) -> None:
    """The JVM is knocked at once; afterwards its socket is there, and nothing else is left in /tmp."""
    jvm = start(Jvm, folder, "-XX:+UseG1GC")
    assert guard.ask(PLAN, pids=(jvm.pid,)).ok
    assert guard.ask(PLAN, pids=(jvm.pid,)).ok
    assert not Path(f"/tmp/.attach_pid{jvm.pid}").exists()


def test_who_is_no_jvm_gets_no_signal(guard: Guarding, start: Start) -> None:
    """A process without a JVM in it is not knocked at, whatever it handles."""
    program = start(Program, sys.executable, "-c", "import signal, time; print(flush=True); time.sleep(600)",
                    stdout=subprocess.PIPE)
    program.process.stdout.readline()
    outcome = guard.ask(PLAN, pids=(program.pid,))
    assert not outcome.ok
    assert "is a JVM" in outcome.why
    assert program.process.poll() is None


def test_one_that_handles_no_signals_has_its_door_open(guard: Guarding, start: Start, folder: Path) -> None:
    """With -Xrs SIGQUIT would end it, and is not needed: it listens from the start."""
    jvm = start(Jvm, folder, "-XX:+UseG1GC", "-Xrs")
    outcome = guard.ask(PLAN, pids=(jvm.pid,))
    assert outcome.ok, outcome.why
    assert jvm.process.poll() is None


def test_one_that_would_die_of_the_signal_is_spared(guard: Guarding, start: Start, folder: Path) -> None:
    """Where nobody handles SIGQUIT and no door is open, it is not sent."""
    jvm = start(Jvm, folder, "-Xrs")
    Path(f"/tmp/.java_pid{jvm.pid}").unlink()
    outcome = guard.ask(PLAN, pids=(jvm.pid,))
    assert not outcome.ok
    assert "does not handle SIGQUIT" in outcome.why
    assert jvm.process.poll() is None
    assert not Path(f"/tmp/.attach_pid{jvm.pid}").exists()


def test_one_that_does_not_answer_costs_the_deadline_only(guard: Guarding, start: Start, folder: Path) -> None:
    """A JVM that lets nobody attach, and one that is stopped, fail with a reason and live on."""
    closed = start(Jvm, folder, "-XX:+DisableAttachMechanism")
    stopped = start(Jvm, folder)
    stopped.process.send_signal(signal.SIGSTOP)
    for jvm in (closed, stopped):
        outcome = guard.ask(PLAN._replace(deadline_s=1.0), pids=(jvm.pid,))
        assert not outcome.ok
        assert "no answer in time" in outcome.why
        assert jvm.process.poll() is None
        assert not Path(f"/tmp/.attach_pid{jvm.pid}").exists()


def test_a_dry_run_does_not_knock(guarding: Callable[..., Guarding], start: Start, folder: Path) -> None:
    """It counts JVMs, and no socket appears."""
    jvm = start(Jvm, folder)
    assert "dry run: 1 JVMs" in guarding(dry_run=True).ask(PLAN, pids=(jvm.pid,)).why
    assert not Path(f"/tmp/.java_pid{jvm.pid}").exists()


def test_jcmd_gives_the_same_heap_to_look_at(start: Start, folder: Path) -> None:
    """What our own client of the attach protocol hears is what jcmd prints."""
    from oomguard.act.processes import start_ticks
    from oomguard.act.servers import jvm as hook
    from oomguard.act.servers.ask import Task

    jvm = start(Jvm, folder, "-XX:+UseG1GC")
    ours = hook.jcmd(jvm.pid, start_ticks(jvm.pid), "VM.version", Task(20.0))
    jcmd = shutil.which("jcmd")
    if jcmd is None:
        pytest.skip("jcmd is not installed")
    theirs = subprocess.run([jcmd, str(jvm.pid), "VM.version"], capture_output=True, text=True, timeout=60).stdout
    assert ours.strip() == theirs.partition("\n")[2].strip()
    assert os.path.exists(f"/tmp/.java_pid{jvm.pid}")
