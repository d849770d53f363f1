"""Hooks: what is learned of them, and when they are put on hold."""

from __future__ import annotations

import math

import pytest

from oomguard.act.hooks import Hook, Outcome
from oomguard.decide.plan import HookPlan

MIB = 1 << 20


def make(**facts: object) -> Hook:
    return Hook.from_call("cache", lambda request: None, **facts)  # type: ignore[arg-type]


def good(freed_bytes: float = math.nan, duration_s: float = 0.1) -> Outcome:
    return Outcome("cache", True, freed_bytes, duration_s)


def bad() -> Outcome:
    return Outcome("cache", False, math.nan, 1.0, "raised")


def test_three_failures_put_on_hold_for_a_minute() -> None:
    """The third failure in a row keeps a hook from being asked for 60 s; two do not."""
    hook = make()
    hook.record(bad(), 10)
    hook.record(bad(), 11)
    assert not hook.is_on_hold(11)
    hook.record(bad(), 12)
    assert hook.is_on_hold(71.9)
    assert not hook.is_on_hold(72)


def test_a_success_between_failures_keeps_it_in_use() -> None:
    """Failures that are not in a row never put a hook on hold."""
    hook = make()
    for outcome in (bad(), bad(), good(), bad(), bad()):
        hook.record(outcome, 10)
    assert not hook.is_on_hold(10)
    assert hook.failures == 4
    assert hook.calls == 5


def test_hold_doubles_up_to_a_quarter_of_an_hour() -> None:
    """Each failure after a hold doubles it, and 15 min is the longest; a success starts over."""
    hook, now, holds = make(), 0.0, []
    for _ in range(2):
        hook.record(bad(), now)
    for _ in range(6):
        hook.record(bad(), now)
        holds.append(hook.on_hold_until_s - now)
        now = hook.on_hold_until_s
    assert holds == [60, 120, 240, 480, 900, 900]
    hook.record(good(), now)
    assert hook.failures_in_a_row == 0
    for _ in range(3):
        hook.record(bad(), now)
    assert hook.on_hold_until_s == now + 60


def test_three_lies_put_on_hold() -> None:
    """Claiming 10 MiB where the samples show less than a tenth is a failure; the claim resets nothing."""
    hook = make()
    for number in range(3):
        hook.record(good(10 * MIB), number)
        assert "claimed" in hook.measured(10 * MIB, 10 * MIB, 0.9 * MIB, number)
    assert hook.is_on_hold(3)


def test_a_small_or_fair_claim_is_no_lie() -> None:
    """A claim of at most 1 MiB, or one of which a tenth shows, is not held against a hook."""
    hook = make()
    for _ in range(5):
        assert hook.measured(10 * MIB, MIB, 0, 1) == ""
        assert hook.measured(10 * MIB, 10 * MIB, MIB, 1) == ""
    assert hook.failures == 0


def test_an_honest_claim_resets_failures_once_it_is_measured() -> None:
    """A large claim counts as success only when the samples bear it out."""
    hook = make()
    hook.record(bad(), 1)
    hook.record(good(10 * MIB), 2)
    assert hook.failures_in_a_row == 1
    hook.measured(10 * MIB, 10 * MIB, 9 * MIB, 3)
    assert hook.failures_in_a_row == 0


def test_unknown_measurement_changes_nothing() -> None:
    """Without samples after a release there is no verdict."""
    hook = make()
    assert hook.measured(MIB, 10 * MIB, math.nan, 1) == ""
    assert not hook.is_measured


def test_yield_and_latency_are_moving_averages() -> None:
    """The first value is taken as it is, later ones weigh 0.3."""
    hook = make()
    for freed_bytes, latency_s in ((100.0, 1.0), (200.0, 2.0)):
        hook.record(good(duration_s=latency_s), 1)
        hook.measured(1000, math.nan, freed_bytes, 1)
    assert hook.yield_bytes == pytest.approx(130)
    assert hook.latency_s == pytest.approx(1.3)
    assert hook.last_latency_s == 2.0


def test_measured_cost_grows_with_what_was_claimed_and_not_seen() -> None:
    """Half of what was claimed costs twice as much; giving more than that costs what was declared."""
    hook = make(cost=3.0)
    assert hook.measured_cost != hook.measured_cost
    assert hook.cost_now == 3.0
    hook.measured(8 * MIB, 8 * MIB, 4 * MIB, 1)
    assert hook.cost_now == pytest.approx(6.0)
    generous, idle = make(cost=3.0), make(cost=3.0)
    generous.measured(8 * MIB, MIB, 8 * MIB, 1)
    idle.measured(8 * MIB, 8 * MIB, 0, 1)
    assert generous.cost_now == 3.0
    assert idle.cost_now == 300.0


def test_expected_bytes_follow_what_it_gave() -> None:
    """A hook that fell short is expected to give its average; one that satisfied, whatever is asked of it."""
    hook = make()
    assert hook.expected_bytes(5) != hook.expected_bytes(5)
    hook.measured(100, math.nan, 40, 1)
    assert hook.expected_bytes(100) == 40
    hook.measured(40, math.nan, 40, 1)
    assert hook.expected_bytes(100) == 100
    hook.evictable_bytes = 60
    assert hook.expected_bytes(100) == 60


def test_a_declared_hook_goes_to_the_helper() -> None:
    """The facts of a rule file's hook arrive, and it serves the targets it names and no other."""
    plan = HookPlan("drop", "command", ("true",), cost=2.0, deadline_s=7.0, minimum_bytes=9,
                    targets=("player",))
    hook = Hook.from_plan(plan)
    assert (hook.executor, hook.cost, hook.deadline_s, hook.minimum_bytes) == ("helper", 2.0, 7.0, 9)
    assert hook.serves("player")
    assert not hook.serves("browser")
    assert make().serves("browser")


@pytest.mark.parametrize("facts", [
    {"cost": -1.0}, {"cost": math.nan}, {"deadline_s": 0.0}, {"deadline_s": math.inf}, {"minimum_bytes": -1},
])
def test_nonsense_facts_are_refused(facts: dict[str, float]) -> None:
    """A cost, deadline or minimum that means nothing is an error at once."""
    with pytest.raises(ValueError, match="cache"):
        make(**facts)
