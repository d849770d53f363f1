"""One tick of one target. Sensor, machine and runner are fakes; window, rules, releases and notes are real."""

from __future__ import annotations

from typing import Any

import pytest

from oomguard.act.hooks import Hook, Outcome, Request
from oomguard.act.releases import Releases
from oomguard.clock import now_s
from oomguard.decide.decide import decider_for
from oomguard.decide.plan import Action, Bounds, Condition, Plan, Release, Rule, TargetPlan
from oomguard.errors import NotPermittedError, TargetGoneError
from oomguard.guard import TargetGuard
from oomguard.notes import BLIND_AFTER, Notes, status
from oomguard.profile import Profile
from oomguard.record.silence import Silence
from oomguard.scorer import Scorer
from oomguard.sense.sample import NAN, Sample
from oomguard.window import Window

MIB = 1 << 20
LIMIT_BYTES = 100.0 * MIB
TRIM = Rule("trim", Condition("level_at_least", 2.0), (Action("any", Release("all")),), cooldown_s=30.0)
PRESSED = Rule("pressed", Condition("pressure_above", 0.5, word="some"), (Action("any", Release("all")),))


class FakeSensor:
    """Reads what the test puts into it."""

    end_fd, trouble = -1, ""

    def __init__(self) -> None:
        self.headroom_bytes, self.constraint, self.limit_bytes = 90.0 * MIB, "cgroup:/app", LIMIT_BYTES
        self.psi_some_us = NAN
        self.error: Exception | None = None
        self.reads = self.closed = 0

    def read(self, t_s: float, late_s: float, machine: Any, evictable_bytes: float, phase: str | None) -> Sample:
        """Read what the test says."""
        self.reads += 1
        if self.error is not None:
            raise self.error
        used_bytes = self.limit_bytes - self.headroom_bytes
        return Sample(t_s, self.constraint, self.limit_bytes, self.headroom_bytes, used_bytes,
                      psi_some_us=self.psi_some_us, late_s=late_s, evictable_bytes=evictable_bytes, phase=phase)

    def kills(self) -> int:
        """No kill so far."""
        return 0

    def close(self) -> None:
        """Count closings."""
        self.closed += 1


class FakeRunner:
    """Takes orders and keeps them."""

    def __init__(self) -> None:
        self.orders: list[Request] = []

    def start(self, hook: Hook, request: Request) -> int:
        """Take an order; the ticket is its place in the list."""
        self.orders.append(request)
        return len(self.orders)


class FakeMachine:
    """A machine of which nothing is asked."""

    def read(self) -> None:
        """Read what the test says."""
        return


class Scene:
    """A guard and what it is built of. Time is the test's."""

    def __init__(self, *rules: Rule) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.sensor, self.runner = FakeSensor(), FakeRunner()
        plan = Plan((TargetPlan("app", "self"),), rules or (TRIM,), bounds=Bounds(60, 0.0))
        self.start_s = now_s()
        self.window = Window.in_memory(self.start_s)
        hook = Hook.from_call("cache", lambda request: None)
        releases = Releases([hook], self.runner, self.window, self._tell, 0.9, lambda: ("app", (), ""),  # type: ignore[arg-type]
                            Silence())
        self.guard = TargetGuard("app", FakeMachine(), self.sensor, self.window, Scorer(None, Profile()),  # type: ignore[arg-type]
                                 decider_for(plan, "app"), releases, Notes(self._tell, 0), Silence(), plan)
        self.t_s = 0.0

    def _tell(self, event: str, severity: str = "info", /, **fields: Any) -> None:
        self.told.append((event, fields))

    def tick(self, headroom_bytes: float | None = None, after_s: float = 1.0) -> None:
        """Let time pass, and tick."""
        if headroom_bytes is not None:
            self.sensor.headroom_bytes = headroom_bytes
        self.t_s += after_s
        self.guard.tick(None, self.start_s + self.t_s, 0.0)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        """Return the events so far."""
        return [event for event, _fields in self.told]


def test_a_falling_headroom_ends_in_a_hook() -> None:
    """Sense, window, score, decide, act: one request at the tick at which the rule holds, none before."""
    scene = Scene()
    for headroom_mib in (90, 60, 31, 25):
        scene.tick(headroom_mib * MIB)
    assert scene.runner.orders == []
    scene.tick(19 * MIB)
    (request,) = scene.runner.orders
    assert request.level == 2 and request.release_all and request.target == "app"
    assert scene.names() == ["level", "level", "decision"]
    assert len(scene.window) == 5


def test_enough_headroom_is_left_alone() -> None:
    """The counterpart: nothing is said, nothing is done."""
    scene = Scene()
    for _ in range(20):
        scene.tick(50 * MIB)
    assert scene.told == [] and scene.runner.orders == []


def test_a_hook_in_flight_and_a_cooldown_keep_the_rule_from_acting_again() -> None:
    """One action at a time; then the cooldown; then again."""
    scene = Scene()
    for _ in range(5):
        scene.tick(10 * MIB)
    assert len(scene.runner.orders) == 1 and scene.guard.releases.is_busy
    assert scene.guard.finished(Outcome("cache", True, NAN, 0.1, "", 1))
    for _ in range(20):
        scene.tick(10 * MIB)
    assert len(scene.runner.orders) == 1
    for _ in range(10):
        scene.tick(10 * MIB)
    assert len(scene.runner.orders) == 2


def test_an_outcome_of_another_target_is_not_taken() -> None:
    """So that whoever collects can go on asking."""
    assert not Scene().guard.finished(Outcome("cache", True, NAN, 0.1, "", 1))


def test_a_reading_that_cannot_be_used_decides_nothing() -> None:
    """NaN headroom, a limit of zero: the old reading stays, and after five the guard says that it is blind."""
    scene = Scene()
    scene.tick(50 * MIB)
    before = scene.guard.reading
    scene.sensor.headroom_bytes = NAN
    for _ in range(BLIND_AFTER):
        scene.tick()
    assert scene.guard.reading is before
    assert scene.names() == ["blind"] and "nan" in scene.told[0][1]["because"]
    assert status(scene.guard)["is_blind"] is True
    scene.tick(50 * MIB)
    assert scene.names() == ["blind", "sees-again"] and status(scene.guard)["is_blind"] is False


def test_a_target_that_is_gone_says_so() -> None:
    """The tick raises; whoever holds the guard closes it."""
    scene = Scene()
    scene.tick()
    scene.sensor.error = TargetGoneError("it has ended")
    with pytest.raises(TargetGoneError):
        scene.tick()
    scene.guard.close()
    assert scene.sensor.closed == 1


@pytest.mark.parametrize("error", [TargetGoneError("gone"), NotPermittedError("no"), OSError(5, "I/O error")])
def test_a_target_that_fails_at_the_second_look(error: Exception) -> None:
    """Between decision and hook it goes, or cannot be read: the last sample serves, and the hook is asked."""
    scene = Scene()
    real = scene.sensor.read

    def once(*args: Any) -> Sample:
        if scene.sensor.reads == 2:
            raise error
        return real(*args)

    scene.tick(50 * MIB)
    scene.sensor.headroom_bytes, scene.sensor.reads = 10.0 * MIB, 1
    scene.sensor.read = once  # type: ignore[method-assign]
    scene.tick()
    assert len(scene.runner.orders) == 1


def test_pressure_is_counted_only_for_rules_that_ask_for_it() -> None:
    """A rule on stalls sees their share of the last 10 s."""
    scene = Scene(PRESSED)
    for _ in range(5):
        scene.sensor.psi_some_us = 200_000.0 * scene.t_s
        scene.tick(90 * MIB)
    assert scene.runner.orders == []
    for _ in range(15):
        scene.sensor.psi_some_us += 900_000.0
        scene.tick(90 * MIB)
    assert len(scene.runner.orders) == 1
    assert "some" in scene.told[0][1]["because"]


def test_status_before_the_first_tick_has_no_figures() -> None:
    """Unknown is null, and the keys are there."""
    shown = status(Scene().guard)
    assert shown["limit_bytes"] is None and shown["level"] == 0 and shown["probabilities"] is None
    assert shown["scorer"] == "plain" and shown["samples"] == 0
    assert [hook["name"] for hook in shown["hooks"]] == ["cache"]  # type: ignore[index, union-attr]
