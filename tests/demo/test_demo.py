"""The whole demo, shortened: real apps, real kills, the guard as it is shipped."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oomguard.cli import demo
from oomguard.demo import show
from oomguard.enclosure import Enclosure, folder_name
from oomguard.errors import NotPermittedError, UsageError
from oomguard.sense.mounts import find_hierarchies

PATIENCE_S = 60.0
START = """\
import argparse, sys
from oomguard.cli import demo
parser = argparse.ArgumentParser()
demo.add_arguments(parser)
sys.exit(demo.run(parser.parse_args()))
"""


@pytest.fixture
def _may_enclose() -> None:
    """Skip where no memory cgroup can be made."""
    try:
        Enclosure.make("probe").remove()
    except NotPermittedError as error:
        pytest.skip(str(error))


def parsed(*words: str) -> argparse.Namespace:
    """Return what the command line makes of these words."""
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(words)


def left_behind() -> set[str]:
    """Return the cgroups that oomguard made and that are still there."""
    hierarchies = find_hierarchies()
    tops = [mount.path for mount in (hierarchies.memory, hierarchies.unified) if mount is not None]
    return {folder for top in tops for folder, _folders, _files in os.walk(top)
            if os.path.basename(folder).startswith(("oomguard-unguarded-", "oomguard-guarded-"))}


def until(is_true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < give_up_s, "it did not come to pass"
        time.sleep(0.05)


def parent_of(pid: int) -> int:
    """Return the pid of a process' parent."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Run the demo; return its exit code and what it printed."""
    code = demo.run(parsed("--json", *words))
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("_may_enclose")
def test_killed_without_the_guard_and_alive_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The kernel kills the one app and counts it; the other, with the same seed, lives to the planned end."""
    before = left_behind()
    code, told = run_json(capsys, "--minutes", "0.4")
    one, other = told["arms"]["unguarded"], told["arms"]["guarded"]
    assert code == 0, told
    assert told["limit_kind"] in ("v1", "v2")
    assert (one["ended"], one["killer"], one["exit_code"]) == ("oom", "kernel", -signal.SIGKILL)
    assert one["oom_kills"] >= 1
    assert 0.4 * 24 < one["survived_s"] < 24
    assert (one["evictions"], one["evicted_bytes"], one["first_alarm_lead_s"]) == (0, 0, None)
    assert (other["ended"], other["exit_code"], other["oom_kills"]) == ("exit", 0, 0)
    assert other["survived_s"] >= 24
    assert other["evictions"] >= 1
    assert other["evicted_bytes"] > 8 << 20
    assert other["first_alarm_lead_s"] > 0
    assert other["peak_used_ratio"] < one["peak_used_ratio"] <= 1.0
    assert 0.5 < other["cache_hit_ratio"] <= one["cache_hit_ratio"] + 0.05
    assert told["spoke_first"] == other["first_alarm"]["scorer"]
    assert left_behind() <= before


def test_where_no_cgroup_can_be_made_a_supervisor_kills(
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to a cgroup the demo holds the limit itself, tells the guard of it, and says so."""
    def refused(_settings: show.Settings) -> tuple[Enclosure | None, str]:
        return None, "cgroups are read-only here"

    monkeypatch.setattr(demo, "enclosure_or_reason", refused)
    monkeypatch.setattr(demo, "_may_use_scopes", lambda: False)
    code, told = run_json(capsys, "--minutes", "0.3")
    one, other = told["arms"]["unguarded"], told["arms"]["guarded"]
    assert code == 0, told
    assert told["limit_kind"] == "supervisor"
    assert (one["ended"], one["killer"], one["oom_kills"]) == ("oom", "supervisor", None)
    assert (other["ended"], other["killer"]) == ("exit", None)
    assert other["evictions"] >= 1
    settings = show.Settings(96 << 20, 18.0, 1)
    assert "a supervisor that kills at the limit, because cgroups are" in demo._heading(settings, None, "cgroups are")


@pytest.fixture
def interrupted(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A demo that runs, both of its apps at work, as it stands when somebody presses Ctrl-C."""
    with subprocess.Popen([sys.executable, "-c", START], env=os.environ | {"TMPDIR": str(tmp_path)}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        reports = ("unguarded.report", "guarded.report")
        until(lambda: all(list(tmp_path.glob(f"*/{name}")) for name in reports))
        yield process
        process.kill()


@pytest.mark.usefixtures("_may_enclose")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(number: signal.Signals, interrupted: subprocess.Popen[str],
                                              tmp_path) -> None:
    """Ctrl-C, or a service manager's stop, ends both apps and the guard, and removes cgroups and files."""
    pids = [json.loads(path.read_text().splitlines()[0])["pid"] for path in tmp_path.glob("*/*.report")]
    guards = [parent_of(json.loads(path.read_text().splitlines()[0])["pid"])
              for path in tmp_path.glob("*/guarded.report")]
    assert len(pids) == 2
    interrupted.send_signal(number)
    interrupted.communicate(timeout=PATIENCE_S)
    assert interrupted.returncode != 0
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []
    assert list(tmp_path.iterdir()) == []
    left = {os.path.basename(path) for path in left_behind()}
    assert left & {folder_name("unguarded", interrupted.pid), folder_name("guarded", guards[0])} == set()


@pytest.mark.parametrize(("words", "said"), [
    (("--limit", "96"), "--limit: '96' is not a quantity"), (("--limit", "1MiB"), "too small"),
    (("--minutes", "0.1"), "too short"), (("--plot", "demo.bmp"), "does not end in")])
def test_what_cannot_be_shown_is_refused_at_once(words: tuple[str, ...], said: str) -> None:
    """Wrong limits, times and file names are usage errors, told before anything is started."""
    with pytest.raises(UsageError, match=said):
        demo.run(parsed(*words))
