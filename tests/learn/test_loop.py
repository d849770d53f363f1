"""The closed loop, with real programs in real cgroups: killed unguarded, saved by a trigger, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomguard.cli import main
from oomguard.errors import NotPermittedError, UsageError
from oomguard.learn.lab.cell import Cell
from oomguard.learn.lab.loop.loop import LoopProgress, life_of, planned_s_of, run_loop
from oomguard.learn.lab.loop.plan import PLATEAU, Setting, Trial, draw_cases, trials_of
from oomguard.learn.lab.loop.store import LoopStore
from oomguard.learn.lab.loop.triggers import model_of, policy_of
from oomguard.profile import Profile
from oomguard.sense.mounts import find_hierarchies
from oomguard.trust.bundle import load_shipped

# Short lives, so hooks must be fast and releases may follow each other soon.
SETTING = Setting(seed=1, seeds=1, programs=("pythonapp",), latencies_s=(0.05,), life_s=(12.0, 16.0),
                  limit_mib=(96, 112), lives=1.8, cooldown_s=3.0)
CASES = draw_cases(SETTING)
STEADY = next(case for case in CASES if case.shape == "steady")
ARMS = ("none", "threshold-80")


@pytest.fixture
def cell_rights() -> Iterator[None]:
    """Where no memory cgroup can be made there is no lab."""
    try:
        Cell("rights", 64 << 20).remove()
    except NotPermittedError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield


def done(trials: list[Trial], store: LoopStore) -> LoopProgress:
    """Do them, one beside the other."""
    policy, model = policy_of(cooldown_s=SETTING.cooldown_s), model_of(load_shipped(), Profile())
    return run_loop(trials, SETTING, store, policy, model, 2, lambda _progress: None)


def test_threshold_with_a_fast_hook_averts_what_kills_the_unguarded(cell_rights: None, tmp_path: Path) -> None:
    """The same case is killed by the kernel without a guard, and alive 1.8 lives later with 80 % and a fast hook."""
    store = LoopStore(str(tmp_path), SETTING._asdict())
    progress = done(trials_of([STEADY], SETTING, ARMS), store)
    assert (progress.done, progress.averted, progress.killed, progress.failed) == (2, 1, 1, 0)
    none, guarded = (store.read()[f"{STEADY.case_id}-{name}"] for name in ("none", "threshold-80-0.05s"))
    assert (none["ended"], guarded["ended"]) == ("oom", "alive")
    assert guarded["planned_s"] == pytest.approx(1.8 * none["ended_after_s"], abs=0.1)
    assert none["evictions"] == [] and sum(dropped for *_rest, dropped in guarded["evictions"]) > 1 << 20
    # What was done is not done again.
    written_ns = os.stat(tmp_path / "trials" / f"{STEADY.case_id}-none.json").st_mtime_ns
    assert done(trials_of([STEADY], SETTING, ARMS), store).done == 2
    assert os.stat(tmp_path / "trials" / f"{STEADY.case_id}-none.json").st_mtime_ns == written_ns


def test_interrupted_loop_leaves_nothing_behind_and_goes_on(cell_rights: None, tmp_path: Path) -> None:
    """Ctrl-C ends the programs, removes the cgroups, and says how to go on."""
    command = [sys.executable, "-m", "oomguard", "learn", "loop", "--work", str(tmp_path), "--programs", "pythonapp",
               "--seeds", "1", "--latencies", "2", "--jobs", "2"]
    loop = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    groups = find_hierarchies("/")
    assert groups.memory is not None
    until_s = time.monotonic() + 60
    while not (found := _groups_of(loop.pid, groups.memory.path)) and time.monotonic() < until_s:
        time.sleep(0.05)            # a cgroup in the making, of which there is no event
    assert found
    loop.send_signal(signal.SIGINT)
    _out, err = loop.communicate(timeout=60)
    assert loop.returncode == 130 and b"the same command goes on" in err
    assert not _groups_of(loop.pid, groups.memory.path)
    assert (tmp_path / "setting.json").exists()


def test_arms_are_planned_for_the_life_that_was_measured() -> None:
    """Guarded trials wait for the unguarded life, and last so many of it; where nothing kills there is none."""
    none, guarded = trials_of([STEADY], SETTING, ARMS)
    assert planned_s_of(guarded, None, 3.0) is None
    assert planned_s_of(guarded, {"ended": "oom", "ended_after_s": 20.0}, 3.0) == 60.0
    assert planned_s_of(guarded, {"ended": "alive", "ended_after_s": 90.0}, 3.0) is None
    assert planned_s_of(none, None, 3.0) > STEADY.expected_s       # type: ignore[operator]


def test_plateaus_are_planned_by_their_curve() -> None:
    """A plateau waits for nobody: it has a length, and no life to be measured by."""
    plateau = next(case for case in CASES if case.shape == PLATEAU)
    assert planned_s_of(Trial(plateau, "linear", 2.0), None, 3.0) == plateau.expected_s
    assert life_of(plateau, {"ended": "alive", "ended_after_s": 1.0}) is None


def test_store_refuses_trials_of_another_setting(tmp_path: Path) -> None:
    """Trials of one seed or model are never mixed with those of another."""
    LoopStore(str(tmp_path), SETTING._asdict())
    LoopStore(str(tmp_path), SETTING._asdict())
    with pytest.raises(UsageError, match=r"another setting \(seed\)"):
        LoopStore(str(tmp_path), SETTING._replace(seed=2)._asdict())


def test_store_keeps_no_half_a_trial(tmp_path: Path) -> None:
    """What cannot be written as JSON leaves nothing that would be read as a finished trial."""
    store = LoopStore(str(tmp_path), {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.add({"trial_id": "x", "ended_after_s": float("nan")})
    assert store.read() == {}


def test_loop_lists_without_doing(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` prints each case and does none."""
    assert main(["learn", "loop", "--list", "--programs", "redis", "--seeds", "1"]) == 0
    assert capsys.readouterr().out.count("loop-redis-") == 4


@pytest.mark.parametrize(("words", "expected"), [
    ([], "--work"), (["--work", "x", "--figure", "x.doc"], ".png"), (["--life", "9", "5"], "--life"),
    (["--latencies", "0"], "--latencies"), (["--work", "x", "--arms", "guess"], "no arm guess"),
    (["--programs", "perl"], "those with a cache"), (["--seeds", "0"], "--seeds")])
def test_loop_says_what_it_cannot_take(words: list[str], expected: str, capsys: pytest.CaptureFixture[str],
                                       tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong words are refused with what is allowed, before anything is begun."""
    monkeypatch.chdir(tmp_path)
    assert main(["learn", "loop", "--programs", "redis", *words]) == 2
    assert expected in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def _groups_of(pid: int, root: str) -> list[str]:
    return [folder for folder, _folders, _files in os.walk(root)
            if os.path.basename(folder).startswith("oomguard-lab-loop-") and folder.endswith(f"-{pid}")]
