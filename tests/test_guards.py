"""The guards of all targets: found, ticked, lost, looked for again. Targets, sensors and the runner are fakes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from oomguard import guards as module
from oomguard.act.hooks import Outcome
from oomguard.briefing import Briefing, Options
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.errors import NotPermittedError, OomguardError, TargetGoneError
from oomguard.guards import LOOK_EVERY_S, Guards
from oomguard.sense.sample import NAN, Sample
from oomguard.sense.target import Found

MIB = 1 << 20


class FakeSensor:
    """Reads what the test says."""

    trouble, pressure_of, kind = "", "none", "cgroup"

    def __init__(self, name: str) -> None:
        self.identity, self.end_fd, self.closed = name, -1, 0
        self.headroom_bytes, self.constraint = 500.0 * MIB, f"cgroup:/{name}"
        self.error: Exception | None = None

    def constraints(self) -> tuple[()]:
        """None to show."""
        return ()

    def read(self, t_s: float, late_s: float, machine: Any, evictable_bytes: float, phase: str | None) -> Sample:
        """Read what the test says."""
        if self.error is not None:
            raise self.error
        return Sample(t_s, self.constraint, 1000.0 * MIB, self.headroom_bytes, 1000.0 * MIB - self.headroom_bytes)

    def kills(self) -> int:
        """No kill so far."""
        return 0

    def pids(self) -> tuple[int, ...]:
        """Nobody in particular."""
        return ()

    def close(self) -> None:
        """Count closings."""
        self.closed += 1


class FakeRunner:
    """Has outcomes to give, and remembers whether it might start a helper."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.helper_pid = -1
        self.was_quiet: list[bool] = []

    def poll(self, now: float, *, is_quiet: bool) -> list[Outcome]:
        """Give the outcomes, once."""
        self.was_quiet.append(is_quiet)
        outcomes, self.outcomes = self.outcomes, []
        return outcomes


class FakeMachine:
    """A machine with so much available."""

    available_bytes = 1000.0 * MIB

    def read(self) -> FakeMachine:
        """Read what the test says."""
        return self


class Scene:
    """Guards over targets that the test lets appear: `there` holds their sensors, `missing` why one is not there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *targets: TargetPlan) -> None:
        self.there: dict[str, FakeSensor] = {}
        self.missing: dict[str, OomguardError] = {}
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.now_s, self.runner, self.machine = 1000.0, FakeRunner(), FakeMachine()
        monkeypatch.setattr(module, "resolve", self._resolve)
        monkeypatch.setattr(module, "open_sensor", lambda found, *_more: self.there[found.label])
        monkeypatch.setattr(module, "now_s", lambda: self.now_s)
        plan = Plan(targets, ())
        self.guards = Guards(Briefing(plan, None, Options(str(folder))), self.machine, self.runner, [], self._tell)  # type: ignore[arg-type]

    def _resolve(self, target: TargetPlan) -> Found:
        if target.name in self.there:
            return Found("cgroup", 0, f"/{target.name}", target.name)
        raise self.missing.get(target.name, TargetGoneError(f"no {target.name}"))

    def _tell(self, event: str, severity: str = "info", /, **fields: Any) -> None:
        self.told.append((event, fields))

    def appear(self, name: str) -> FakeSensor:
        """Let a target appear; return its sensor."""
        self.there[name] = FakeSensor(name)
        return self.there[name]

    def tick(self, after_s: float = 1.0) -> None:
        """Let time pass, and tick."""
        self.now_s += after_s
        self.guards.tick(0.0)

    def names(self) -> list[str]:
        """Return the events so far."""
        return [f"{event} {fields.get('target', '')}".strip() for event, fields in self.told]


A, B = TargetPlan("a", "cgroup", "/a"), TargetPlan("b", "unit", "b.service")
PID = TargetPlan("p", "pid", "7")


def test_a_target_that_comes_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked for every 5 s and not at every tick; what is missing is said once."""
    scene = Scene(tmp_path, monkeypatch, A, B)
    scene.appear("a")
    scene.guards.look_for_targets()
    assert scene.names() == ["guarding a", "waiting b"]
    assert [target.name for target in scene.guards.missing] == ["b"]
    scene.appear("b")
    for _ in range(int(LOOK_EVERY_S) - 1):
        scene.tick()
    assert set(scene.guards.by_name) == {"a"}
    scene.tick()
    assert set(scene.guards.by_name) == {"a", "b"}


def test_each_missing_target_is_named_once_for_each_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that are missing do not take turns in the log; another reason is news."""
    scene = Scene(tmp_path, monkeypatch, A, B)
    for _ in range(5):
        scene.guards.look_for_targets()
    assert scene.names() == ["waiting a", "waiting b"]
    scene.missing["a"] = NotPermittedError("may not look")
    scene.guards.look_for_targets()
    assert scene.names() == ["waiting a", "waiting b", "waiting a"]


def test_one_target_that_ends_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed and told; the other one is ticked on; when it comes back it is guarded again."""
    scene = Scene(tmp_path, monkeypatch, A, B)
    first, other = scene.appear("a"), scene.appear("b")
    scene.guards.look_for_targets()
    first.error = TargetGoneError("cgroup /a is gone")
    del scene.there["a"]
    scene.tick()
    assert first.closed == 1 and other.closed == 0
    assert scene.told[-1] == ("target-gone", {"target": "a", "because": "cgroup /a is gone", "kills": 0})
    scene.appear("a").identity = "another run"
    scene.tick(LOOK_EVERY_S)
    assert scene.names()[-1] == "guarding a" and scene.told[-1][1]["is_continued"] is False
    assert len(scene.guards.by_name["b"].window) == 2
    scene.guards.close()
    assert other.closed == 1


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), NotPermittedError("no"), OomguardError("odd")])
def test_a_target_that_cannot_be_read_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception,
) -> None:
    """The others go on, it stays, after five the guard says that it is blind; and then it may see again."""
    scene = Scene(tmp_path, monkeypatch, A, B)
    sick = scene.appear("a")
    scene.appear("b")
    scene.guards.look_for_targets()
    sick.error = error
    for _ in range(5):
        scene.tick()
    assert scene.names()[-1] == "blind a"
    assert len(scene.guards.by_name["b"].window) == 5
    sick.error = None
    scene.tick()
    assert scene.names()[-1] == "sees-again a"


def test_what_is_hopeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process by its number does not come back; a unit may. The reason is the one of the last look."""
    alone = Scene(tmp_path, monkeypatch, PID)
    alone.missing["p"] = NotPermittedError("hidden")
    alone.guards.look_for_targets()
    assert alone.guards.is_hopeless and isinstance(alone.guards.problem, NotPermittedError)
    mixed = Scene(tmp_path, monkeypatch, PID, B)
    mixed.guards.look_for_targets()
    assert not mixed.guards.is_hopeless
    assert isinstance(Scene(tmp_path, monkeypatch).guards.problem, TargetGoneError)


def test_targets_know_of_one_anothers_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are there now: what one was asked for counts against what another one needs."""
    scene = Scene(tmp_path, monkeypatch, A, B)
    scene.appear("a")
    b = scene.appear("b")
    scene.guards.look_for_targets()
    releases = [guard.releases for guard in scene.guards.by_name.values()]
    assert all(list(each._others()) == releases for each in releases)
    b.error = TargetGoneError("it has ended")
    del scene.there["b"]
    scene.tick()
    assert list(releases[0]._others()) == releases[:1]


def test_an_outcome_that_nobody_waits_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its target is gone: that it ended, and how, is still in the log."""
    scene = Scene(tmp_path, monkeypatch, A)
    scene.appear("a")
    scene.guards.look_for_targets()
    scene.runner.outcomes.append(Outcome("trim", False, NAN, 1.0, "exit status 3", 9))
    scene.guards.collect()
    assert scene.told[-1] == ("hook-ended", {"hook": "trim", "ok": False, "because": "exit status 3"})


@pytest.mark.parametrize(("constraint", "headroom_mib", "available_mib", "expected"), [
    ("cgroup:/a", 500, 1000, True), ("cgroup:/a", 1, 1000, True),       # full, but not ours
    ("machine", 1, 1, False), ("cgroup:/a", 500, 10, False),            # the machine is
    ("own", 1, 1000, False), ("own", 500, 1000, True), ("cgroup:/", 1, 1000, False)])
def test_when_a_helper_may_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constraint: str,
                                      headroom_mib: float, available_mib: float, expected: bool) -> None:
    """Wherever it fits: a target near the limit of a cgroup that is not ours needs its hooks now."""
    scene = Scene(tmp_path, monkeypatch, A)
    sensor = scene.appear("a")
    scene.guards.look_for_targets()
    scene.guards._own_cgroup = "cgroup:/our/own"
    sensor.constraint = "cgroup:/our" if constraint == "own" else constraint
    sensor.headroom_bytes, scene.machine.available_bytes = headroom_mib * MIB, available_mib * MIB
    scene.tick()
    scene.runner.was_quiet.clear()
    scene.guards.collect()
    assert scene.runner.was_quiet == [expected]


def test_windows_of_odd_names_are_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may hold anything; no two share a file, and none leaves the folder."""
    names = ["a/b", "a%2f%b", "../../x", "ä", "a b", "."]
    scene = Scene(tmp_path, monkeypatch, *(TargetPlan(name, "cgroup", "/x") for name in names))
    for name in names:
        scene.appear(name)
    scene.guards.look_for_targets()
    assert set(scene.guards.by_name) == set(names)
    assert len(os.listdir(tmp_path / "windows")) == len(names)


def test_a_window_that_cannot_be_a_file_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is a file: guarded all the same, and what that costs is said."""
    (tmp_path / "windows").write_text("")
    scene = Scene(tmp_path, monkeypatch, A)
    scene.appear("a")
    scene.guards.look_for_targets()
    assert scene.names() == ["window-in-memory a", "guarding a"]
    assert "restart will forget" in scene.told[0][1]["because"]
    scene.tick()
    assert len(scene.guards.by_name["a"].window) == 1
