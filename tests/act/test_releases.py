"""The releases of one target: one hook at a time, looked at again, measured by samples. The runner is a fake."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from oomguard.act.hooks import Hook, Outcome, Request
from oomguard.act.releases import Releases
from oomguard.decide.decide import Decision
from oomguard.decide.plan import Action, Release
from oomguard.record.silence import Silence
from oomguard.sense.sample import Sample
from oomguard.window import Window

MIB = 1 << 20
LIMIT_BYTES = 256.0 * MIB
ALL, NEEDED = Release("all"), Release("needed")


class FakeRunner:
    """Takes orders and does nothing: the test says what came of them."""

    def __init__(self) -> None:
        self.orders: list[tuple[Hook, Request]] = []

    def start(self, hook: Hook, request: Request) -> int:
        """Take an order; the ticket is its place in the list."""
        self.orders.append((hook, request))
        return len(self.orders)


class Scene:
    """One target with its hooks."""

    def __init__(self, *hooks: Hook, others: Callable[[], list[Releases]] = list) -> None:
        self.runner, self.window = FakeRunner(), Window.in_memory()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.releases = Releases(hooks, self.runner, self.window, self._tell, 0.9, lambda: ("app", (7,), "/app"),  # type: ignore[arg-type]
                                 Silence(), others=others)
        self.now = self.sample(0.0, 20 * MIB)

    def _tell(self, event: str, severity: str = "info", /, **fields: Any) -> None:
        self.told.append((event, fields | {"severity": severity}))

    def sample(self, t_s: float, headroom_bytes: float, constraint: str = "cgroup:/app") -> Sample:
        """Return a sample of 256 MiB."""
        return Sample(t_s, constraint, LIMIT_BYTES, headroom_bytes, LIMIT_BYTES - headroom_bytes)

    def begin(self, *actions: Action, level: int = 3, may_wait: bool = False) -> None:
        """Let the releases carry a decision out."""
        self.window.push(self.now)
        self.releases.begin(Decision("trim", 0, actions, "level 3 >= 2"), 30.0, self.now, level, lambda: self.now,
                            may_wait=may_wait)

    def finish(self, ok: bool = True, freed_bytes: float = float("nan"), ticket: int = 0, t_s: float = 1.0) -> bool:
        """Say what came of the last order."""
        hook, _request = self.runner.orders[-1]
        outcome = Outcome(hook.name, ok, freed_bytes, 0.5, "" if ok else "raised", ticket or len(self.runner.orders))
        return self.releases.finished(outcome, t_s, lambda: self.now)

    def see(self, t_s: float, headroom_bytes: float, level: int = 3, constraint: str = "cgroup:/app") -> None:
        """Let the releases see a sample."""
        self.now = self.sample(t_s, headroom_bytes, constraint)
        self.window.push(self.now)
        self.releases.see(self.now, level)
        self.releases.tend(self.now)

    def names(self) -> list[str]:
        """Return the events so far."""
        return [event for event, _fields in self.told]

    def last(self) -> dict[str, Any]:
        """Return the fields of the last event."""
        return self.told[-1][1]


def hook(name: str = "cache", cost: float = 1.0) -> Hook:
    return Hook.from_call(name, lambda request: None, cost=cost)


def test_a_release_is_measured_by_the_samples_that_follow() -> None:
    """From the request to the line in the log: what was asked, claimed and seen."""
    scene = Scene(hook())
    scene.begin(Action("cache", ALL))
    (_hook, request), = scene.runner.orders
    assert (request.level, request.release_all, request.target, request.pids, request.cgroup) == (
        3, True, "app", (7,), "/app")
    assert request.reason == "trim: level 3 >= 2"
    assert scene.releases.is_busy
    assert scene.finish(freed_bytes=100 * MIB)
    assert not scene.releases.is_busy
    for t_s, headroom in ((2.0, 80 * MIB), (3.0, 120 * MIB), (4.5, 110 * MIB)):
        scene.see(t_s, headroom)
    assert scene.names() == ["release"]
    told = scene.last()
    assert (told["requested_bytes"], told["claimed_bytes"], told["freed_bytes"]) == ("all", 100 * MIB, 100 * MIB)
    assert told["severity"] == "notice" and told["why"] is None
    assert scene.releases.count == 1 and scene.releases.bytes_total == 100 * MIB


def test_one_hook_works_at_a_time() -> None:
    """`any` with `all` reaches every hook, cheapest first; the next one starts when the one before has ended."""
    scene = Scene(hook("dear", 5.0), hook("cheap", 1.0))
    scene.begin(Action("any", ALL))
    assert [each.name for each, _request in scene.runner.orders] == ["cheap"]
    assert scene.releases.is_busy
    scene.finish()
    assert [each.name for each, _request in scene.runner.orders] == ["cheap", "dear"]
    assert scene.releases.is_busy
    scene.finish()
    assert not scene.releases.is_busy


def test_an_outcome_of_another_target_is_left_alone() -> None:
    """Tickets tell whose it is."""
    scene = Scene(hook())
    assert not scene.releases.finished(Outcome("cache", True, 1.0, 0.1, "", 1), 1.0, lambda: scene.now)
    scene.begin(Action("cache", ALL))
    assert not scene.finish(ticket=99)
    assert scene.releases.is_busy


def test_memory_that_came_back_by_itself_is_not_asked_for() -> None:
    """The look just before the hook shows it; `all` is asked for all the same."""
    scene = Scene(hook())
    before = scene.now
    scene.window.push(before)
    back = scene.sample(0.1, 200 * MIB)
    decision = Decision("trim", 0, (Action("cache", NEEDED),), "level 3 >= 2")
    scene.releases.begin(decision, 30.0, before, 3, lambda: back)
    assert scene.runner.orders == [] and scene.names() == ["release-dropped"] and not scene.releases.is_busy
    everything = Decision("last", 1, (Action("cache", ALL),), "level 5 >= 5")
    scene.releases.begin(everything, 30.0, before, 5, lambda: back)
    assert len(scene.runner.orders) == 1


def test_what_is_foreseen_waits_until_it_is_due() -> None:
    """With room for longer than the hook takes, what is needed is not asked for; as soon as there is none, it is."""
    scene = Scene(hook())
    scene.now = scene.sample(0.0, 200 * MIB)
    scene.begin(Action("cache", NEEDED), may_wait=True)
    assert scene.runner.orders == [] and scene.names() == ["release-waits"] and not scene.releases.is_busy
    scene.see(1.0, 190 * MIB)
    assert scene.runner.orders == []
    scene.see(2.0, 90 * MIB)
    assert [each.name for each, _request in scene.runner.orders] == ["cache"]
    assert scene.releases.is_busy


def test_what_was_foreseen_and_never_due_is_forgotten() -> None:
    """Once the rule may decide anew, its last decision asks nobody any more."""
    scene = Scene(hook())
    scene.now = scene.sample(0.0, 200 * MIB)
    scene.begin(Action("cache", NEEDED), may_wait=True)
    scene.see(30.0, 200 * MIB)
    scene.see(31.0, 10 * MIB)
    assert scene.runner.orders == []


def test_everything_does_not_wait() -> None:
    """`all` is asked for at once, whatever room there is."""
    scene = Scene(hook())
    scene.now = scene.sample(0.0, 200 * MIB)
    scene.begin(Action("cache", ALL), may_wait=True)
    assert len(scene.runner.orders) == 1


@pytest.mark.parametrize("why", ["no such hook", "on hold"])
def test_nobody_to_ask_is_said(why: str) -> None:
    """A rule that reaches nobody must not look as if it had helped."""
    only = hook()
    if why == "on hold":
        only.on_hold_until_s = 1e9
    scene = Scene(only)
    scene.begin(Action("cache" if why == "on hold" else "other", ALL))
    assert scene.names() == ["nobody-to-ask"] and scene.last()["severity"] == "warning"
    assert not scene.releases.is_busy


@pytest.mark.parametrize("word", ["cache", "other"])
def test_needed_of_nothing_asks_nobody_and_alarms_nobody(word: str) -> None:
    """With room for the rise until the rule may act again no hook is asked, there or not, and the log says why."""
    scene = Scene(hook())
    scene.now = scene.sample(0.0, 100 * MIB)
    scene.begin(Action(word, NEEDED))
    assert scene.runner.orders == [] and not scene.releases.is_busy
    assert scene.names() == ["nothing-needed"] and scene.last()["severity"] == "info"


def test_where_nothing_is_needed_the_rest_of_a_decision_stands() -> None:
    """`all` beside a `needed` of nothing is asked for, and nothing else is said."""
    scene = Scene(hook("cheap"), hook("images"))
    scene.now = scene.sample(0.0, 100 * MIB)
    scene.begin(Action("cheap", NEEDED), Action("images", ALL))
    (asked, request), = scene.runner.orders
    assert asked.name == "images" and request.release_all and request.needed_bytes > 0
    assert scene.told == []


def neighbours(
    constraint: str = "machine", gives: float = float("nan"), needs: Release = NEEDED,
) -> tuple[Scene, Scene]:
    """Return two targets with a hook each, 20 MiB before the same limit: the first was asked, the second decides now.

    Args: gives: what the first one's hook is known to give when it is asked for much.
    """
    known = hook("browser")
    known.measured(LIMIT_BYTES, float("nan"), gives, 0.0)
    scenes: list[Scene] = []
    for each in (known, hook("store")):
        scenes.append(Scene(each, others=lambda: [scene.releases for scene in scenes]))
    for scene in scenes:
        scene.now = scene.sample(0.0, 20 * MIB, constraint)
    scenes[0].begin(Action("any", needs))
    return scenes[0], scenes[1]


def test_one_need_is_asked_for_once() -> None:
    """Two targets under one limit: what the first was asked for, the second is not asked for again."""
    first, second = neighbours()
    second.begin(Action("any", NEEDED))
    assert [request.needed_bytes for _hook, request in first.runner.orders] == [math.ceil(5.6 * MIB)]
    assert second.runner.orders == [] and second.names() == ["nothing-needed"]


def test_what_others_are_not_known_to_give_is_asked_for() -> None:
    """The rest of it, by the first one's measured yield."""
    first, second = neighbours(gives=2.0 * MIB)
    second.begin(Action("any", NEEDED))
    asked = first.runner.orders[0][1].needed_bytes
    assert [request.needed_bytes for _hook, request in second.runner.orders] == [asked - 2 * MIB]


@pytest.mark.parametrize("constraint", ["cgroup:/store", "profile"])
def test_another_limit_is_another_need(constraint: str) -> None:
    """A limit of its own, or an app's own, which bears the same name for all: each is asked for its need."""
    _first, second = neighbours("machine" if constraint != "profile" else constraint)
    second.now = second.sample(0.0, 20 * MIB, constraint)
    second.begin(Action("any", NEEDED))
    assert len(second.runner.orders) == 1


def test_what_came_or_failed_is_no_more_expected() -> None:
    """Once the first one's hook has failed, or what it gave was measured, the second is asked for what it needs."""
    for is_ok in (False, True):
        first, second = neighbours()
        first.finish(ok=is_ok)
        if is_ok:
            second.begin(Action("any", NEEDED))
            assert second.runner.orders == []
            first.see(5.0, 20 * MIB, constraint="machine")
        second.begin(Action("any", NEEDED))
        assert len(second.runner.orders) == 1


def test_everything_is_asked_for_whoever_else_was_asked() -> None:
    """The last resort waits for nobody."""
    _first, second = neighbours(needs=ALL)
    second.begin(Action("any", ALL))
    assert len(second.runner.orders) == 1


def test_a_failed_hook_is_told_and_the_next_one_asked() -> None:
    """Failure is no end of the list."""
    scene = Scene(hook("cheap", 1.0), hook("dear", 5.0))
    scene.begin(Action("any", ALL))
    scene.finish(ok=False)
    assert scene.names()[0] == "hook-failed"
    assert scene.told[0][1]["because"] == "raised"
    assert [each.name for each, _request in scene.runner.orders] == ["cheap", "dear"]


def test_a_lie_is_told_as_a_warning() -> None:
    """Claimed 100 MiB, seen nothing; and the honest counterpart above is a notice."""
    scene = Scene(hook())
    scene.begin(Action("cache", ALL))
    scene.finish(freed_bytes=100 * MIB)
    scene.see(2.0, 20 * MIB)
    scene.see(5.0, 20 * MIB)
    assert scene.last()["severity"] == "warning" and "claimed" in scene.last()["why"]


@pytest.mark.parametrize(("stops", "severity"), [(True, "notice"), (False, "warning")])
def test_memory_that_is_freed_inside_is_no_lie(stops: bool, severity: str) -> None:
    """A heap that stands still where it grew by 2 MiB a second keeps what was freed; one that grows on does not."""
    scene = Scene(hook())
    for t_s in range(20):
        scene.see(float(t_s), (100 - 2 * t_s) * MIB)
    scene.begin(Action("cache", ALL))
    scene.finish(freed_bytes=40 * MIB, t_s=19.5)
    for t_s in range(20, 24):
        scene.see(float(t_s), (62 if stops else 100 - 2 * t_s) * MIB)
    assert scene.last()["severity"] == severity and scene.last()["freed_bytes"] == 0.0


def test_what_grows_into_memory_freed_inside_is_demand() -> None:
    """After 40 MiB freed inside a heap that then stood still, a next release is asked for what really came in."""
    scene = Scene(hook())
    for t_s in range(20):
        scene.see(float(t_s), (100 - 2 * t_s) * MIB)
    scene.begin(Action("cache", ALL))
    scene.finish(freed_bytes=40 * MIB, t_s=19.5)
    for t_s in range(20, 40):
        scene.see(float(t_s), 62 * MIB)
    scene.now = scene.sample(40.0, 30 * MIB)
    scene.begin(Action("cache", NEEDED))
    assert scene.runner.orders[-1][1].needed_bytes >= 40 * MIB


def test_samples_of_another_constraint_do_not_measure() -> None:
    """Its headroom is another quantity: nothing is known of what was freed, and nothing is learned."""
    only = hook()
    scene = Scene(only)
    scene.begin(Action("cache", ALL))
    scene.finish(freed_bytes=100 * MIB)
    scene.see(2.0, 220 * MIB, constraint="machine")
    scene.see(5.0, 220 * MIB, constraint="machine")
    assert scene.last()["freed_bytes"] != scene.last()["freed_bytes"]
    assert not only.is_measured and scene.releases.bytes_total == 0.0


def test_the_next_costlier_hook_is_asked_when_the_last_did_not_help() -> None:
    """And after a quiet time the cheapest comes first again."""
    scene = Scene(hook("cheap", 1.0), hook("dear", 5.0))
    scene.begin(Action("any", NEEDED))
    scene.finish()
    scene.see(5.0, 20 * MIB)                # nothing came
    scene.begin(Action("any", NEEDED))
    assert scene.runner.orders[-1][0].name == "dear"
    scene.finish(t_s=6.0)
    scene.see(10.0, 20 * MIB)
    scene.see(11.0, 200 * MIB, level=0)
    scene.now = scene.sample(12.0, 20 * MIB)
    scene.begin(Action("any", NEEDED))
    assert scene.runner.orders[-1][0].name == "cheap"


def test_the_window_knows_of_the_release() -> None:
    """The features and the next run of the guard see when it was."""
    scene = Scene(hook())
    scene.now = scene.sample(42.0, 20 * MIB)
    scene.begin(Action("cache", ALL))
    assert scene.window._doubles[6] == 42.0


def test_closing_reports_what_was_being_measured() -> None:
    """A release whose samples are not all in is told with what is known."""
    scene = Scene(hook())
    scene.begin(Action("cache", ALL))
    scene.finish()
    scene.see(1.5, 60 * MIB)
    scene.releases.close()
    assert scene.names() == ["release"] and scene.last()["freed_bytes"] == 40 * MIB


def test_evictable_bytes_add_up() -> None:
    """Unknown where no hook says; those that say are added."""
    first, second, third = hook("a"), hook("b"), hook("c")
    scene = Scene(first, second, third)
    assert scene.releases.evictable_bytes() != scene.releases.evictable_bytes()
    first.evictable_bytes, second.evictable_bytes = 5.0, 7.0
    assert scene.releases.evictable_bytes() == 12.0
