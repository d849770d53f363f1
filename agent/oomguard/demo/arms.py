"""The two arms: the same app alone, and under `oomguard exec`; watched and, at the very end, tidied away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

from oomguard.clock import now_s
from oomguard.demo.meter import EnclosureMeter, Meter, meter_of
from oomguard.demo.story import Story
from oomguard.demo.tail import Tail
from oomguard.enclosure import Enclosure, folder_name
from oomguard.tell.pressure import WATCH, WRITE

_GRACE_S = 3.0              # for `exec` to end its app and remove its cgroup


class Arm:
    """A running app and what is known of it."""

    def __init__(self, story: Story, argv: list[str], folder: str, enclosure: Enclosure | None = None,
                 is_supervised: bool = False) -> None:
        """Start it.

        Args:
            story: where its facts are collected.
            argv: the program.
            folder: where its report, log and errors lie, named after the story.
            enclosure: the cgroup to start it in; None where it is in none or makes its own.
            is_supervised: whether it is to be killed by us when it is over its limit.
        """
        self.story, self._enclosure, self._is_supervised = story, enclosure, is_supervised
        self._report, self._log = Tail(report_path(folder, story.name)), Tail(log_path(folder, story.name))
        self._meter: Meter | None = EnclosureMeter(enclosure) if enclosure else None
        with open(os.path.join(folder, f"{story.name}.err"), "wb") as errors:
            self._process = subprocess.Popen(
                argv, env=_environ(os.environ), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                start_new_session=True,         # a Ctrl-C is ours to pass on
                preexec_fn=enclosure.join if enclosure else None)   # noqa: PLW1509  there are no threads here

    def look(self) -> None:
        """Take in what happened since the last look."""
        story = self.story
        code = self._process.poll() if not story.ended else story.exit_code
        for line in self._report.lines():
            story.take_report(line)
        for line in self._log.lines():
            story.take_log(line, now_s())
        if story.ended or (story.started_s is None and code is None):
            return
        if code is None:
            self._measure(now_s())
        else:
            self._take_end(code)

    def _measure(self, at_s: float) -> None:
        story = self.story
        if self._meter is None:
            self._meter = meter_of(story.pid, folder_name(story.name, self._process.pid))     # as `exec` calls it
        used_bytes = self._meter.used_bytes()
        if used_bytes is None:
            return
        story.take_used(story.t_s(at_s), used_bytes)
        story.oom_kills = max(story.oom_kills, self._meter.kills())
        if self._is_supervised and used_bytes >= story.limit_bytes:
            story.killer = "supervisor"
            with suppress(ProcessLookupError):
                os.kill(story.pid, signal.SIGKILL)

    def _take_end(self, code: int) -> None:
        story = self.story
        story.exit_code, story.survived_s = code, story.t_s(now_s())
        if self._enclosure is not None:
            story.oom_kills = self._enclosure.kills()
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL) and (story.oom_kills > 0 or story.killer):
            story.ended, story.killer = "oom", story.killer or "kernel"
            story.take_death()
        else:
            story.ended = "exit" if code == 0 else "crash"

    def stop(self) -> None:
        """End it if it still runs, and remove what it leaves behind."""
        story = self.story
        if self._process.poll() is None:
            self._process.terminate()           # `exec` passes it on to the app and tidies up
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if not story.ended:
            story.ended, story.exit_code, story.survived_s = "stopped", self._process.returncode, story.t_s(now_s())
        if isinstance(self._meter, EnclosureMeter):
            self._meter.enclosure.remove(kill=True)
        elif self._enclosure is not None:
            self._enclosure.remove(kill=True)


def app_argv(folder: str, name: str, limit_bytes: int, planned_s: float, seed: int) -> list[str]:
    """Return the command line of the app."""
    return [sys.executable, "-m", "oomguard.demo.app", "--report", report_path(folder, name),
            "--seconds", str(planned_s), "--limit", str(limit_bytes), "--seed", str(seed)]


def guard_argv(folder: str, name: str, limit_bytes: int, rules: str = "") -> list[str]:
    """Return what goes before the app's command line: the guard, with the shipped model.

    Args:
        limit_bytes: the limit of the cgroup that `exec` makes; 0 where none can be made.
        rules: a rule file; empty for the shipped one.
    """
    return [sys.executable, "-m", "oomguard", "exec", "--name", name, "--log-json", log_path(folder, name),
            *(["--limit", f"{limit_bytes}B"] if limit_bytes else []), *(["--rules", rules] if rules else []), "--"]


def report_path(folder: str, name: str) -> str:
    """Return where an arm's app reports to."""
    return os.path.join(folder, f"{name}.report")


def log_path(folder: str, name: str) -> str:
    """Return where an arm's guard logs to."""
    return os.path.join(folder, f"{name}.log")


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the arms' environment: pressure that our own supervisor told us of is none of theirs."""
    return {name: value for name, value in environ.items() if name not in (WATCH, WRITE)}
