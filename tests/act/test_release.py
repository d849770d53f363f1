"""How much is needed, and of whom it is asked."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.act.hooks import Hook, Outcome
from oomguard.act.release import (
    LastRelease,
    choose,
    helped,
    horizon_s,
    left_to_ask_bytes,
    look_again,
    needed_bytes,
    rise_bytes,
    spared_bytes,
)
from oomguard.decide.plan import Release

MIB = 1 << 20
NEEDED = Release("needed")


def make(name: str, cost: float = 1.0, gives: float = math.nan, asked: float = math.inf) -> Hook:
    """Return a hook; `gives` is its measured yield when asked for `asked`."""
    hook = Hook.from_call(name, lambda request: None, cost=cost)
    if gives == gives:
        hook.measured(asked, math.nan, gives, 0)
    return hook


def names(asked: list[tuple[Hook, int]]) -> list[str]:
    return [hook.name for hook, _bytes in asked]


def leak(rate: float, seconds: int, start: float = 1e9) -> list[tuple[float, float]]:
    return [(float(t), start - rate * t) for t in range(seconds)]


# needed_bytes

def test_a_steady_leak_needs_its_rise_over_the_horizon() -> None:
    """1 MB/s over 30 s, with headroom just at the critical threshold: 30 MB."""
    assert needed_bytes(leak(1e6, 120), 100e6, 1e9, 30, 1) == 30_000_000


def test_spare_headroom_is_subtracted_and_a_lack_of_it_added() -> None:
    """Headroom above 10 % of the limit lowers the need, below raises it."""
    assert needed_bytes(leak(1e6, 120), 110e6, 1e9, 30, 1) == 20_000_000
    assert needed_bytes(leak(1e6, 120), 90e6, 1e9, 30, 1) == 40_000_000


def test_what_there_is_room_for_is_not_needed() -> None:
    """Not the minimum either, which holds only where something is needed: here 1 MB over 30 s, but for a byte."""
    assert needed_bytes(leak(1e6, 120), 500e6, 1e9, 30, MIB) == 0
    assert needed_bytes(leak(1e6, 120), 130e6, 1e9, 30, MIB) == 0
    assert needed_bytes(leak(1e6, 120), 130e6 - 1, 1e9, 30, MIB) == MIB


def test_critical_ratio_moves_the_threshold() -> None:
    """A learned threshold of 0.8 wants 20 % of the limit spared."""
    assert needed_bytes([], 100e6, 1e9, 30, 1, critical_ratio=0.8) == 100_000_000


def test_releases_do_not_hide_the_growth() -> None:
    """What releases gave back is added: otherwise a leak held in check every 10 s looks like none."""
    held = [(float(t), 1e9 - 1e6 * (t % 10)) for t in range(121)]
    given_back = [(float(t), 10e6) for t in range(10, 121, 10)]
    assert rise_bytes(held, 10) == 0
    assert rise_bytes(held, 10, given_back) == pytest.approx(10e6)


def test_a_short_history_is_extended_in_a_straight_line() -> None:
    """Five seconds of a leak stand for the horizon; one sample stands for nothing."""
    assert rise_bytes(leak(1e6, 6), 30) == pytest.approx(30e6)
    assert rise_bytes(leak(1e6, 1), 30) == 0
    assert rise_bytes([], 30) == 0


def test_a_standby_is_no_rise() -> None:
    """Samples on both sides of a gap far longer than the horizon are not compared."""
    history = [*leak(0, 60, 1e9), *((t + 10_000, h) for t, h in leak(0, 60, 1e8))]
    assert rise_bytes(history, 10) == 0


def test_shrinking_use_is_no_rise() -> None:
    """A target that gives memory back by itself has a rise of 0, never less."""
    assert rise_bytes(leak(-1e6, 120), 30) == 0


def test_unknown_numbers_give_the_minimum() -> None:
    """Without a known headroom or limit the smallest release is asked for, not none."""
    assert needed_bytes(leak(1e6, 120), math.nan, 1e9, 30, MIB) == MIB
    assert needed_bytes(leak(1e6, 120), 1e6, math.nan, 30, MIB) == MIB
    assert needed_bytes([(0, math.nan), (1, math.nan)], 100e6 - 1, 1e9, 30, MIB) == MIB


def test_horizon_is_latency_and_cooldown() -> None:
    """A hook not yet timed is expected to need its deadline."""
    hook = make("cache")
    assert horizon_s(hook, 30) == 35
    hook.record(Outcome("cache", True, math.nan, 0.5), 1)
    assert horizon_s(hook, 30) == 30.5


def test_horizon_of_a_slow_hook_is_two_of_its_latencies() -> None:
    """A hook slower than the cooldown: a next release begins when this one is over, and gives a latency later."""
    hook = make("cache")
    hook.record(Outcome("cache", True, math.nan, 20.0), 1)
    assert horizon_s(hook, 15) == 40.0


anything = st.floats(allow_nan=True, allow_infinity=True)
times = st.lists(st.floats(0, 1e6), max_size=40).map(sorted)


@given(st.data(), times, anything, anything, st.floats(-1, 1e4), st.integers(-5, 1 << 40))
def test_needed_is_a_number_of_bytes_whatever_comes(
    data: st.DataObject, at: list[float], headroom: float, limit: float, horizon: float, minimum: int,
) -> None:
    """Neither gaps, NaN, infinities nor negative headroom make the need less than its minimum, but for nothing."""
    history = [(t, data.draw(anything)) for t in at]
    needed = needed_bytes(history, headroom, limit, horizon, minimum, released=history[:3])
    assert isinstance(needed, int)
    assert needed == 0 or needed >= max(minimum, 1)
    assert needed <= max(minimum, 1, math.ceil(limit) if math.isfinite(limit) else 0)


def test_what_others_were_asked_for_is_not_asked_for_again() -> None:
    """The rest is; but less than the minimum is left, unless nobody else was asked and it is the whole need."""
    assert left_to_ask_bytes(20 * MIB, 12 * MIB, MIB) == 8 * MIB
    assert left_to_ask_bytes(20 * MIB, 19 * MIB + 1, MIB) == 0
    assert left_to_ask_bytes(20 * MIB, 1e12, MIB) == 0
    assert left_to_ask_bytes(20 * MIB, 0.0, 64 * MIB) == 20 * MIB


# choose

def test_the_cheapest_is_asked_first_and_alone_while_unknown() -> None:
    """What a hook gives has to be seen before the next one is asked as well."""
    hooks = [make("dear", 5), make("cheap", 1), make("fair", 2)]
    assert choose(hooks, NEEDED, 10 * MIB, 0) == [(hooks[1], 10 * MIB)]


def test_known_yields_are_added_up_to_the_need() -> None:
    """A hook known to give 4 of 10 MiB is followed by the next costlier one, for the rest."""
    hooks = [make("dear", 5, 50 * MIB), make("cheap", 1, 4 * MIB), make("fair", 2, 9 * MIB)]
    assert choose(hooks, NEEDED, 10 * MIB, 0) == [(hooks[1], 10 * MIB), (hooks[2], 6 * MIB)]


def test_a_hook_that_gave_what_was_asked_is_asked_alone() -> None:
    """Costlier hooks rest while the cheapest gives whatever it is asked for."""
    hooks = [make("dear", 5, 50 * MIB), make("cheap", 1, 4 * MIB, asked=4 * MIB)]
    assert names(choose(hooks, NEEDED, 10 * MIB, 0)) == ["cheap"]


def test_measured_cost_beats_declared_cost() -> None:
    """A hook whose claims do not show is asked after one that was dearer by declaration."""
    liar, honest = make("liar", 1), make("honest", 2)
    liar.measured(100 * MIB, 100 * MIB, 20 * MIB, 0)
    assert names(choose([liar, honest], NEEDED, 10 * MIB, 0)) == ["honest"]


def test_after_a_release_that_did_not_help_the_next_costlier_is_asked() -> None:
    """Escalation goes one hook up, and begins anew after the costliest."""
    hooks = [make("a", 1), make("b", 2), make("c", 3)]
    assert names(choose(hooks, NEEDED, MIB, 0, LastRelease("a", helped=False))) == ["b"]
    assert names(choose(hooks, NEEDED, MIB, 0, LastRelease("a", helped=True))) == ["a"]
    assert names(choose(hooks, NEEDED, MIB, 0, LastRelease("c", helped=False))) == ["a"]
    assert names(choose(hooks, NEEDED, MIB, 0, LastRelease("gone", helped=False))) == ["a"]


def test_all_asks_everyone_and_a_ratio_its_share() -> None:
    """`all` and `25%` go to each hook, measured by what it holds, or by the need where that is unknown."""
    known, unknown = make("known", 2), make("unknown", 1)
    known.evictable_bytes = 40 * MIB
    assert choose([known, unknown], Release("all"), 3 * MIB, 0) == [(unknown, 3 * MIB), (known, 40 * MIB)]
    assert choose([known], Release("ratio", 0.25), 3 * MIB, 0) == [(known, 10 * MIB)]
    assert choose([unknown], Release("bytes", 7 * MIB), 3 * MIB, 0) == [(unknown, 7 * MIB)]


def test_where_nothing_is_needed_only_fixed_amounts_are_asked_for() -> None:
    """`needed` of nothing is asked of nobody; `all`, `25%` and `64MiB` are what they say, of all at least a minimum."""
    known, unknown = make("known", 2), make("unknown", 1)
    known.evictable_bytes = 40 * MIB
    assert choose([known, unknown], NEEDED, 0, 0) == []
    assert choose([known, unknown], Release("all"), 0, 0) == [(unknown, MIB), (known, 40 * MIB)]
    assert choose([unknown], Release("ratio", 0.25), 0, 0) == [(unknown, MIB)]
    assert choose([unknown], Release("bytes", 7 * MIB), 0, 0) == [(unknown, 7 * MIB)]


def test_an_empty_hook_is_passed_over() -> None:
    """A hook that says it has nothing left does not stand in the way of the next one."""
    empty, full = make("empty", 1), make("full", 2)
    empty.evictable_bytes = 0
    assert names(choose([empty, full], NEEDED, MIB, 0)) == ["full"]


def test_minimum_is_asked_at_least() -> None:
    """Asking for less than a hook's minimum is not worth its trouble."""
    assert choose([make("a")], NEEDED, 5, 0)[0][1] == MIB


@st.composite
def some_hooks(draw: st.DrawFn) -> list[Hook]:
    hooks = []
    for number in range(draw(st.integers(0, 6))):
        hook = make(str(number), draw(st.floats(0, 10)))
        if draw(st.booleans()):
            hook.measured(draw(st.floats(0, 1e9)), draw(st.floats(0, 1e9)), draw(st.floats(0, 1e9)), 0)
        if draw(st.booleans()):
            hook.evictable_bytes = draw(st.floats(0, 1e9))
        for _ in range(draw(st.integers(0, 4))):
            hook.record(Outcome(hook.name, False, math.nan, 1.0), 0)
        hooks.append(hook)
    return hooks


releases = st.one_of(
    st.just(NEEDED), st.just(Release("all")), st.floats(0, 1).map(lambda ratio: Release("ratio", ratio)),
    st.floats(1, 1e9).map(lambda amount: Release("bytes", amount)),
)


@given(some_hooks(), releases, st.integers(0, 1 << 30), st.sampled_from([0.0, 59.0, 61.0, 200.0]),
       st.one_of(st.none(), st.builds(LastRelease, st.sampled_from("0123"), st.booleans())))
def test_planning_properties(
    hooks: list[Hook], release: Release, needed: int, now: float, last: LastRelease | None,
) -> None:
    """Nobody on hold is asked, nobody twice or for nothing, and no dearer hook before a cheaper one."""
    asked = choose(hooks, release, needed, now, last)
    assert not any(hook.is_on_hold(now) for hook, _ in asked)
    assert len(set(names(asked))) == len(asked)
    assert all(type(bytes_) is int and bytes_ > 0 for _, bytes_ in asked)
    costs = [hook.cost_now for hook, _ in asked]
    assert costs == sorted(costs)
    if release.kind == "needed":
        assert all(hook.is_measured for hook, _ in asked[:-1]), "at most one unknown hook, and that last"
        assert needed or not asked


@given(some_hooks(), st.integers(1, 1 << 30))
def test_known_yields_that_suffice_are_used(hooks: list[Hook], needed: int) -> None:
    """Where the ready hooks' measured yields suffice, those asked are expected to give enough."""
    ready = [hook for hook in hooks if hook.is_measured and not hook.is_on_hold(1)]
    if sum(hook.expected_bytes(needed) for hook in ready) < needed:
        return
    asked = choose(ready, NEEDED, needed, 1)
    assert sum(bytes_ for _, bytes_ in asked) >= needed
    assert sum(hook.expected_bytes(bytes_) for hook, bytes_ in asked) >= needed * (1 - 1e-9)


# look again, helped

def test_growth_that_stops_is_spared() -> None:
    """A leak of 1 MB a second that stands still for 5 s after a release: no headroom came, but 5 MB were spared."""
    assert spared_bytes([*leak(1e6, 60), *((59.0 + s, leak(1e6, 60)[-1][1]) for s in range(1, 6))], 59.0) == 5e6


@pytest.mark.parametrize("history", [leak(1e6, 65), [(float(s), 80e6) for s in range(65)], [(0.0, 1.0)], []])
def test_growth_that_goes_on_or_never_was_spares_nothing(history: list[tuple[float, float]]) -> None:
    """A leak that goes on as before, no leak at all, and too little to tell: nothing was spared."""
    assert spared_bytes(history, 59.0) == 0.0


def test_look_again_cancels_only_what_came_back_by_itself() -> None:
    """Memory that returned covers the request or it does not; unknown counts as not."""
    assert look_again(10, 19, 10)
    assert not look_again(10, 20, 10)
    assert look_again(math.nan, 20, 10)
    assert look_again(10, math.nan, 10)


def test_helped_is_what_was_measured() -> None:
    """A tenth of what was asked helps; less, an unknown measurement or a failure does not."""
    assert helped(100, 10, is_ok=True)
    assert not helped(100, 9, is_ok=True)
    assert not helped(100, math.nan, is_ok=True)
    assert not helped(100, 50, is_ok=False)
    assert not helped(0, 0, is_ok=True)
