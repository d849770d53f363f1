"""The decision: which rule acts, when it rests, what nothing exceeds, and that the state is all there is."""

from __future__ import annotations

import struct
from array import array
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.decide.decide import Decider, Deciders, decider_for
from oomguard.decide.plan import STATE_SLOTS, Action, Bounds, Condition, Plan, Release, Rule, TargetPlan
from oomguard.decide.view import View
from oomguard.profile import Profile

NAN = float("nan")
ALL, NEEDED = Action("any", Release("all")), Action("cache", Release("needed"))
LOOSE = Bounds(actions_per_minute=60, minimum_gap_s=0.0)


def level(at_least, **settings_):
    return Condition("level_at_least", at_least, **settings_)


def rule(name, when, cooldown_s=0.0, actions=1, targets=()):
    return Rule(name, when, (NEEDED,) * actions, cooldown_s, targets)


def fresh():
    return array("d", bytes(8 * STATE_SLOTS))


def acted(decider, state, levels, start_s=1000.0, step_s=1.0):
    """Return the rule that acted at each tick, or an empty text."""
    decisions = (decider.decide(View(start_s + i * step_s, one), state) for i, one in enumerate(levels))
    return [decision.rule if decision else "" for decision in decisions]


def test_the_first_rule_in_file_order_acts_and_only_one_a_tick():
    """Two rules hold; the first acts, the second not."""
    decider = Decider((rule("a", level(2)), rule("b", level(1))), LOOSE)
    assert acted(decider, fresh(), [0, 1, 2, 3]) == ["", "b", "a", "a"]


def test_a_rule_that_rests_gives_way_to_the_next():
    """During the cooldown of the first, the second acts; then the first again."""
    decider = Decider((rule("a", level(1), cooldown_s=3.0), rule("b", level(1), cooldown_s=1.5)), LOOSE)
    assert acted(decider, fresh(), [1, 1, 1, 1]) == ["a", "b", "", "a"]


def test_a_decision_says_what_and_why():
    """Rule, its place in the plan, its actions, and the condition in words."""
    when = Condition("any", parts=(level(5), Condition("used_above", 0.97), Condition("phase", word="menu")))
    rules = (rule("other", level(5), targets=("x",)), Rule("last resort", when, (ALL, NEEDED)))
    view = View(5.0, 3, limit_bytes=1000, used_bytes=973)
    decision = Decider(rules, Bounds(), target="app").decide(view, fresh())
    assert decision is not None
    assert decision == ("last resort", 1, (ALL, NEEDED), "used 97.3% > 97%")


@pytest.mark.parametrize(("when", "text"), [
    (level(2), "level 3 >= 2"),
    (level(2, until=0), "level 3 >= 2 until 0"),
    (Condition("all", parts=(level(2), level(1))), "level 3 >= 2 and level 3 >= 1"),
    (Condition("not", parts=(level(5),)), "not (level 3 >= 5)"),
    (Condition("phase", word="menu"), "phase menu is menu"),
    (Condition("available_below", 64 << 20), "available 1.0 MiB < 64.0 MiB"),
    (Condition("available_below", 0.5, word="ram"), "available RAM 25% < 50%"),
    (Condition("time_to_limit_below", 120), "time to limit 48 s < 2.0 min"),
    (Condition("pressure_above", 0.2, word="some"), "some pressure 50% > 20%"),
])
def test_every_condition_has_words(when, text):
    """The reason names the reading and the value it was compared with."""
    view = View(5.0, 3, limit_bytes=10, used_bytes=9, available_bytes=1 << 20, time_to_limit_s=48.0,
                psi_some_ratio=0.5, phase="menu")
    decision = Decider((rule("r", when),), Bounds(), ram_bytes=float(4 << 20)).decide(view, fresh())
    assert decision is not None and decision.because == text


def test_the_reason_of_a_hold_names_its_time():
    """`for` comes back in the words."""
    decider, state = Decider((rule("r", level(2, for_s=3.0)),), LOOSE), fresh()
    decisions = [decider.decide(View(100.0 + i, 3), state) for i in range(4)]
    reasons = [decision.because for decision in decisions if decision]
    assert reasons == ["level 3 >= 2 for 3.0 s"]


def test_rules_of_other_targets_are_left_out_and_keep_their_place():
    """A rule for another target never acts here."""
    plan = Plan((TargetPlan("app", "self"), TargetPlan("db", "system")),
                (rule("for db", level(1), targets=("db",)), rule("for all", level(1))))
    assert acted(decider_for(plan, "app"), fresh(), [1]) == ["for all"]
    assert acted(decider_for(plan, "db"), fresh(), [1]) == ["for db"]


def test_targets_with_the_same_rules_share_a_decider():
    """Two of three targets have the same rules: one Decider serves both, and each keeps holds in a state of its own."""
    names = "app", "db", "web"
    plan = Plan(tuple(TargetPlan(name, "self") for name in names),
                (rule("for db", level(1), targets=("db",)), rule("for all", level(2, for_s=2.0))))
    deciders = Deciders(plan)
    app, db, web = (deciders.of(name) for name in names)
    assert app is web and app is not db
    assert acted(db, fresh(), [1]) == ["for db"]
    mine, theirs = fresh(), fresh()
    for t_s in (100.0, 101.0):
        assert app.decide(View(t_s, 2), mine) is None
    assert web.decide(View(102.0, 2), theirs) is None
    assert app.decide(View(102.0, 2), mine).rule == "for all"


def test_the_share_of_ram_comes_from_the_profile_first():
    """A profile's RAM counts before the detected one; without either the condition is unknown."""
    plan = Plan((TargetPlan("app", "self"),), (rule("r", Condition("available_below", 0.5, word="ram")),))
    view = View(9.0, 0, available_bytes=40.0)
    assert decider_for(plan, "app").decide(view, fresh()) is None
    assert decider_for(plan, "app", ram_bytes=100.0).decide(view, fresh()) is not None
    known = plan._replace(profile=Profile(ram_bytes=10.0))
    assert decider_for(known, "app", ram_bytes=100.0).decide(view, fresh()) is None


def test_the_minimum_gap_stands_between_decisions_of_different_rules():
    """No rule acts sooner than the gap after any other."""
    decider = Decider((rule("a", level(1), cooldown_s=3.0), rule("b", level(1))), Bounds(60, 2.0))
    assert acted(decider, fresh(), [1] * 6) == ["a", "", "b", "", "a", ""]


def test_every_action_of_a_decision_counts():
    """Two actions at once use up two of three; the third place is too little for the next two."""
    decider = Decider((rule("a", level(1), actions=2),), Bounds(3, 0.0))
    found = acted(decider, fresh(), [1] * 62)
    assert [i for i, name in enumerate(found) if name] == [0, 60]


def test_while_an_action_is_in_flight_holds_go_on_and_nothing_is_decided():
    """Busy ticks neither act nor count as acted, and the hold is ready at the first free tick."""
    decider, state = Decider((rule("a", level(1, for_s=2.0), cooldown_s=30.0),), LOOSE), fresh()
    busy = [decider.decide(View(10.0 + i, 1), state, is_busy=True) for i in range(5)]
    assert busy == [None] * 5
    assert decider.decide(View(15.0, 1), state) is not None


RULES = (
    rule("last", Condition("any", parts=(level(5, for_s=1.0), level(4, until=2, for_s=2.0))), 7.0, actions=2),
    rule("trim", level(2, until=0, for_s=3.0), 5.0),
    rule("quiet", Condition("not", parts=(level(1, for_s=2.0),)), 20.0),
)
LEVELS = st.lists(st.integers(0, 5), min_size=2, max_size=120)


@given(levels=LEVELS, cut=st.integers(0, 119))
@settings(deadline=None)
def test_another_decider_with_the_same_state_goes_on_identically(levels, cut):
    """A restart at any tick, with the state's bytes kept, changes no decision and no bit of state."""
    cut = min(cut, len(levels))
    whole, state = Decider(RULES, Bounds(5, 1.0)), fresh()
    expected = acted(whole, state, levels)
    first, second = Decider(RULES, Bounds(5, 1.0)), Decider(RULES, Bounds(5, 1.0))
    early = fresh()
    before = acted(first, early, levels[:cut])
    late = memoryview(bytearray(early.tobytes())).cast("d")
    assert before + acted(second, late, levels[cut:], start_s=1000.0 + cut) == expected
    assert late.tobytes() == state.tobytes()


@given(levels=LEVELS)
@settings(deadline=None)
def test_the_same_views_give_the_same_decisions(levels):
    """Nothing but view and state goes in: one Decider may serve many targets in turn."""
    decider, one, other = Decider(RULES, Bounds()), fresh(), fresh()
    assert acted(decider, one, levels) == acted(decider, other, levels)
    assert one.tobytes() == other.tobytes()


STEPS = st.lists(st.tuples(st.floats(0.01, 12.0), st.integers(0, 5), st.booleans()), min_size=1, max_size=250)


@given(steps=STEPS, most=st.integers(2, 12), gap_s=st.floats(0, 5))
@settings(deadline=None, max_examples=150)
def test_no_history_exceeds_the_bounds_or_a_cooldown(steps, most, gap_s):
    """In any 60 s at most N actions; between decisions the gap; between two of one rule its cooldown."""
    rules = (rule("a", level(4), 3.0, actions=2), rule("b", level(2, for_s=1.0), 1.0), rule("c", level(1)))
    decider, state, t_s = Decider(rules, Bounds(most, gap_s)), fresh(), 5.0
    done = []
    for step_s, at, is_new in steps:
        t_s += step_s
        if is_new:
            decider = Decider(rules, Bounds(most, gap_s))
        decision = decider.decide(View(t_s, at), state)
        if decision:
            done.append((t_s, decision))
    times = [at_s for at_s, decision in done for _action in decision.actions]
    assert all(sum(1 for other in times if 0 <= at_s - other < 60) <= most for at_s in times)
    assert all(later - sooner >= gap_s for (sooner, _), (later, _) in pairwise(done))
    for one in rules:
        own = [at_s for at_s, decision in done if decision.rule == one.name]
        assert all(later - sooner >= one.cooldown_s for sooner, later in pairwise(own))


def test_a_gap_between_ticks_restarts_holds():
    """After standby nobody knows what happened: the hold begins anew. A late tick alone does not do that."""
    rules = (rule("a", level(1, for_s=3.0)),)
    for gap_s, expected in ((4.9, "a"), (5.1, "")):
        decider, state = Decider(rules, LOOSE), fresh()
        acted(decider, state, [1, 1])
        assert acted(decider, state, [1], start_s=1001.0 + gap_s) == [expected]


def test_cooldowns_and_latches_go_on_over_a_gap():
    """A gap is time that passed: cooldowns run, and hysteresis keeps what it saw last."""
    decider, state = Decider((rule("a", level(3, until=1), 30.0),), LOOSE), fresh()
    assert acted(decider, state, [3]) == ["a"]
    assert acted(decider, state, [2], start_s=1020.0) == [""]
    assert acted(decider, state, [2], start_s=1040.0) == ["a"]


def test_when_the_clock_goes_back_the_guard_acts_later_but_not_never():
    """What lies in the future counts as just done: cooldown and bounds begin again, and then it acts."""
    decider, state = Decider((rule("a", level(1, for_s=2.0), 10.0),), Bounds(1, 5.0)), fresh()
    assert acted(decider, state, [1] * 3) == ["", "", "a"]
    again = acted(decider, state, [1] * 80, start_s=10.0)
    assert [i for i, name in enumerate(again) if name] == [60]


def test_a_reading_without_a_time_decides_nothing_and_forgets_nothing():
    """A NaN clock neither acts nor touches the state."""
    decider, state = Decider((rule("a", level(1), 10.0),), LOOSE), fresh()
    acted(decider, state, [1])
    before = state.tobytes()
    assert decider.decide(View(NAN, 5), state) is None
    assert state.tobytes() == before


def test_other_rules_drop_holds_and_cooldowns_but_not_the_bounds():
    """A reload cannot be used to act more often than the bounds allow."""
    state = fresh()
    old = Decider((rule("a", level(1), 60.0),), Bounds(2, 0.0))
    new = Decider((rule("b", level(1), 1.0),), Bounds(2, 0.0))
    assert acted(old, state, [1]) == ["a"]
    assert acted(new, state, [1, 1, 1], start_s=1001.0) == ["b", "", ""]


@given(st.binary(min_size=8 * STATE_SLOTS, max_size=8 * STATE_SLOTS))
@settings(deadline=None)
def test_a_state_of_garbage_never_raises_and_never_silences_the_guard(data):
    """Whatever bits the file holds, the guard acts within the bounds' minute."""
    decider, state = Decider(RULES, Bounds()), array("d", data)
    assert any(acted(decider, state, [5] * 70))


@given(st.lists(st.floats(width=64), min_size=STATE_SLOTS, max_size=STATE_SLOTS))
@settings(deadline=None, max_examples=40)
def test_a_state_that_is_ours_with_wrong_numbers_in_it_is_borne_too(numbers):
    """With layout and fingerprint right, wild stamps (infinite, in the future, NaN) do not silence it."""
    decider, ours = Decider(RULES, Bounds()), fresh()
    acted(decider, ours, [0])
    state = array("d", [*ours[:3], *numbers[3:]])
    # Sixty stamps spread over the near future hold the bounds for some minutes, not for ever.
    assert any(acted(decider, state, [5] * 500, start_s=1001.0))


def test_standings_tell_how_every_rule_stands_and_change_nothing():
    """Status and explain ask without deciding: truth, reason, cooldown left, bounds."""
    rules = (rule("a", level(1), 10.0), rule("b", Condition("used_above", 0.5)), rule("c", level(5)))
    decider, state = Decider(rules, Bounds(60, 2.0)), fresh()
    assert acted(decider, state, [1]) == ["a"]
    before = state.tobytes()
    standings = decider.standings(View(1001.0, 1), state)
    assert state.tobytes() == before
    assert [(s.rule, s.truth, s.cooling_s, s.is_bounded) for s in standings] == [
        ("a", True, 9.0, True), ("b", None, 0.0, True), ("c", False, 0.0, True)]
    assert standings[1].because == "used ? > 50%"


def test_the_state_fits_the_layout_that_windows_keep():
    """One slot per rule, one per hold and latch, and nothing beyond `state_size` is touched."""
    decider = Decider(RULES, Bounds())
    assert decider.state_size == Decider((), Bounds()).state_size + 3 + 3 + 1 + 1 + 1
    state = array("d", struct.pack("d", 7.0) * STATE_SLOTS)
    acted(decider, state, [5] * 20)
    assert set(state[decider.state_size:]) == {7.0}
