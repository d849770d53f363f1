"""Rules and model are taken up again while guarding: checked first, whole or not at all, windows kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from guarded import Guard, until

from oomguard.errors import BundleError, ConfigError, NotPermittedError
from oomguard.reload import FILE_NAME, leave_briefing, take_briefing
from oomguard.tell.client import RefusedError, ask
from oomguard.tell.peer import Peer

Start = Callable[..., Guard]

RULES = """\
version: 1
cadence: {cadence}
rules:
  - name: {name}
    when: {{level_at_least: 5}}
    then: [{{hook: any, release: all}}]
"""


def reload(guard: Guard, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `oomguard reload` against a guard."""
    return subprocess.run([sys.executable, "-m", "oomguard", "reload", "--socket", guard.socket, *words],
                          capture_output=True, text=True, timeout=60)


@pytest.fixture
def rules(folder: Path) -> Path:
    """Return a rule file that a test may change."""
    path = folder / "rules.yaml"
    path.write_text(RULES.format(name="the first", cadence="100ms"))
    return path


def guard_of(start: Start, rules: Path) -> Guard:
    """Start a guard of this very process under a rule file."""
    return start("run", str(rules), "--model", "none", "--target", f"pid:{os.getpid()}")


@pytest.mark.parametrize("how", ["verb", "signal"])
def test_new_rules_are_taken_up_and_the_window_goes_on(start: Start, rules: Path, how: str) -> None:
    """After a reload the new rules hold, and the samples so far still count."""
    guard = guard_of(start, rules)
    seen = guard.samples(5)
    rules.write_text(RULES.format(name="the second", cadence="200ms"))
    if how == "verb":
        done = reload(guard)
        assert (done.returncode, done.stderr) == (0, "")
    else:
        guard.process.send_signal(signal.SIGHUP)
    guard.event("reload")
    assert guard.status()["rules"]["names"] == ["the second"]
    assert guard.event("guarding", 1)["is_continued"] is True
    assert guard.samples(seen + 2) > seen
    assert guard.stop() == 0


@pytest.mark.parametrize("how", ["verb", "signal"])
def test_a_bad_file_keeps_the_old_rules(start: Start, rules: Path, how: str) -> None:
    """What does not check is named with its line; the guard goes on as it was."""
    guard = guard_of(start, rules)
    guard.samples(2)
    rules.write_text(RULES.format(name="the second", cadence="200"))
    if how == "verb":
        done = reload(guard)
        assert done.returncode == ConfigError.exit_code
        assert "rules.yaml:2: cadence" in done.stderr
    else:
        guard.process.send_signal(signal.SIGHUP)
        assert guard.event("reload-refused")["exit_code"] == ConfigError.exit_code
    assert guard.status()["rules"]["names"] == ["the first"]
    assert not guard.events("reload")


def test_a_bad_model_keeps_the_old_one(start: Start, rules: Path, folder: Path) -> None:
    """A start without a model still guards; a reload does not give up the one there is."""
    guard = start("run", str(rules), "--target", f"pid:{os.getpid()}")
    model = guard.status()["model"]
    assert model is not None
    rules.write_text(RULES.format(name="the second", cadence="200ms") + f"model: {folder}/nowhere\n")
    done = reload(guard)
    assert done.returncode == BundleError.exit_code
    assert "nowhere: No such file" in done.stderr
    assert (guard.status()["model"], guard.status()["rules"]["names"]) == (model, ["the first"])


def test_dry_run_does_not_change_under_way(start: Start, rules: Path) -> None:
    """Whether hooks are really asked is settled at the start."""
    guard = guard_of(start, rules)
    guard.samples(2)
    rules.write_text(RULES.format(name="the second", cadence="200ms") + "dry_run: true\n")
    done = reload(guard)
    assert done.returncode == 1
    assert "dry_run" in done.stderr


def test_nothing_left_is_nothing_taken(start: Start, rules: Path) -> None:
    """Asking over the socket without a checked briefing is refused, and the guard goes on."""
    guard = guard_of(start, rules)
    guard.samples(2)
    with pytest.raises(RefusedError, match=r"briefing\.next"):
        ask(guard.socket, {"op": "reload"})
    (guard.folder / "rt" / FILE_NAME).write_bytes(b"garbage\n[]\n")
    with pytest.raises(RefusedError):
        ask(guard.socket, {"op": "reload"})
    assert guard.target()["name"]


def test_only_the_owner_is_believed(tmp_path: Path) -> None:
    """Another user's request, a file that others may write, a link: refused; and what was read is gone."""
    me = Peer(os.getpid(), os.geteuid(), ())
    with pytest.raises(NotPermittedError, match="only root"):
        take_briefing(str(tmp_path), me._replace(uid=os.geteuid() + 4711))
    path = Path(leave_briefing(str(tmp_path), b"{}\n"))
    path.chmod(0o666)
    with pytest.raises(NotPermittedError, match="nobody else"):
        take_briefing(str(tmp_path), me)
    assert not path.exists()
    path.symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match="cannot be read"):
        take_briefing(str(tmp_path), me)


def test_waits_for_no_guard() -> None:
    """Without a guard the verb says so and exits 1."""
    done = subprocess.run([sys.executable, "-m", "oomguard", "reload", "--socket", "/nonexistent/socket"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    until(lambda: done.stderr, "a reason")
