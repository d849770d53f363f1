"""A command hook with a `user` runs as that user, with none of the helper's rights, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from pwd import getpwuid

import pytest
from runner_bench import Bench

from oomguard.act import commands
from oomguard.act.commands import as_user
from oomguard.act.hooks import Hook, Request
from oomguard.act.runner import Runner
from oomguard.decide.plan import HookPlan
from oomguard.errors import HelperError

REQUEST = Request(level=4, needed_bytes=1 << 20, deadline_s=10.0, reason="r", target="app")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a runner with a helper of its own."""
    made = Bench(Runner())
    yield made
    made.runner.close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that anybody may write."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def hook(user: str, script: str, deadline_s: float = 10.0) -> Hook:
    """Return a hook that runs a shell script as a user."""
    return Hook.from_plan(HookPlan("h", "command", argv=("sh", "-c", script), user=user, deadline_s=deadline_s))


@as_root
def test_a_command_drops_to_its_user(bench: Bench, open_folder: Path) -> None:
    """User, groups and capabilities are nobody's, nothing can be got back, and what it is told still arrives."""
    out = open_folder / "out"
    outcome = bench.run(hook("nobody", f"(cat /proc/self/status; env) >{out}; echo 4096"), REQUEST)
    assert (outcome.ok, outcome.freed_bytes, outcome.why) == (True, 4096, "")
    lines = [line.replace(":\t", "=", 1) for line in out.read_text().splitlines() if line[:1].isalpha()]
    told = dict(line.split("=", 1) for line in lines)
    assert told["Uid"].split() == ["65534"] * 4 and told["Groups"].split() in (["65534"], [])
    assert {told[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert told["NoNewPrivs"] == "1"
    assert (told["USER"], told["LOGNAME"], told["OOMGUARD_LEVEL"]) == ("nobody", "nobody", "4")


@as_root
def test_without_a_user_it_runs_as_the_helper(bench: Bench) -> None:
    """The counterpart: nothing is dropped that nobody asked for."""
    assert bench.run(hook("", f'[ "$(id -u)" = {os.geteuid()} ]'), REQUEST).ok
    assert not bench.run(hook("nobody", f'[ "$(id -u)" = {os.geteuid()} ]'), REQUEST).ok


@as_root
def test_a_file_of_root_is_out_of_its_reach(bench: Bench, tmp_path: Path) -> None:
    """What a hook could otherwise read or write, it cannot."""
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    assert bench.run(hook("", f"cat {tmp_path}/secret"), REQUEST).ok
    assert not bench.run(hook("nobody", f"cat {tmp_path}/secret"), REQUEST).ok


@as_root
def test_it_is_killed_at_its_deadline_all_the_same(bench: Bench) -> None:
    """Its whole group: another user's, and still the helper's to end."""
    request = REQUEST._replace(deadline_s=0.3)
    outcome = bench.run(hook("nobody", "trap '' TERM; sleep 1000 & wait", deadline_s=0.3), request)
    assert not outcome.ok and "its processes were killed" in outcome.why


def test_a_user_that_is_not_there_runs_nothing(bench: Bench, tmp_path: Path) -> None:
    """Never as the helper's own user instead."""
    outcome = bench.run(hook("no-such-user", f"touch {tmp_path}/ran"), REQUEST)
    assert not outcome.ok and "there is no user no-such-user" in outcome.why
    assert not (tmp_path / "ran").exists()


def test_without_setpriv_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the program that drops rights is missing."""
    monkeypatch.setattr(commands, "SETPRIV", ())
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(HelperError, match="there is no setpriv"):
        as_user("root", ["x"], {})


def test_ones_own_user_needs_no_dropping() -> None:
    """A helper that is that user already runs it directly."""
    own = getpwuid(os.geteuid()).pw_name
    argv, extra = as_user(own, ["x"], {"A": "b"})
    assert argv == ["x"] and extra["USER"] == own and extra["A"] == "b"
    assert as_user("", ["x"], {}) == (["x"], {})
