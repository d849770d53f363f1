"""The closed loop's cases: the same from the same seed, lethal unguarded, to be saved where they say so."""

from __future__ import annotations

import numpy as np
import pytest

from oomguard.errors import UsageError
from oomguard.learn.lab.loop.plan import (
    LIVES,
    PLATEAU,
    SHAPES,
    Case,
    Setting,
    cache_of,
    demand_bytes,
    draw_cases,
    holds_enough,
    live_bytes,
    trials_of,
)
from oomguard.learn.lab.loop.triggers import ARMS, policy_of

MIB = 1 << 20
SETTING = Setting(seed=5, seeds=2, programs=("pythonapp", "redis", "jvm"))
CASE = Case("c", "redis", "steady", 1, 100 * MIB, 40.0 * MIB, 1.0 * MIB, 60.0)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Draw them once."""
    return draw_cases(SETTING)


def test_same_seed_same_cases(cases: list[Case]) -> None:
    """The same seed draws the same cases and curves; another draws others."""
    one = SETTING._replace(programs=("redis",), seeds=1)
    assert draw_cases(one) == draw_cases(one) != draw_cases(one._replace(seed=6))
    first, second = (live_bytes(cases[0], SETTING) for _time in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, live_bytes(cases[0]._replace(seed=cases[0].seed + 1), SETTING))


def test_every_arm_of_a_case_has_the_same_case(cases: list[Case]) -> None:
    """A case has one unguarded trial and, for each latency, one trial in each arm, all of the very same case."""
    trials = trials_of(cases[:1], SETTING, ARMS)
    assert len(trials) == 1 + len(SETTING.latencies_s) * (len(ARMS) - 1)
    assert {trial.case for trial in trials} == {cases[0]} and len({trial.trial_id for trial in trials}) == len(trials)


def test_lethal_cases_come_to_their_limit_and_plateaus_do_not(cases: list[Case]) -> None:
    """Live data and cache reach the limit within the wished life; a plateau stays below it, but not far."""
    for case in cases:
        demand = demand_bytes(case, live_bytes(case, SETTING)) / case.limit_bytes
        if case.is_plateau:
            assert 0.75 < demand.max() < 0.95
        else:
            above = np.flatnonzero(demand >= 1.0)
            assert SETTING.life_s[0] <= above[0] <= SETTING.life_s[1]


def test_live_data_alone_lives_on_where_the_cache_holds_enough(cases: list[Case]) -> None:
    """Without its cache such a case lives more than three lives; the others would not, and there are some of them."""
    enough = []
    for case in cases:
        if not case.is_plateau:
            live = live_bytes(case, SETTING)[:int(LIVES * case.expected_s)]
            enough.append(holds_enough(case, live_bytes(case, SETTING), 20.0, LIVES * case.expected_s, 15.0))
            assert bool(live.max() < case.limit_bytes) == enough[-1]
    assert 0.5 < np.mean(enough) < 1.0


def test_each_shape_for_each_program(cases: list[Case]) -> None:
    """Every program is there in every shape, as often as there are seeds."""
    assert len(cases) == len(SETTING.programs) * len(SHAPES) * SETTING.seeds
    assert sum(case.shape == PLATEAU for case in cases) == len(SETTING.programs) * SETTING.seeds


def test_slower_hooks_need_more_room() -> None:
    """What is enough for a fast hook is not for one that takes so long that the cache is full again meanwhile."""
    live = np.full(400, 70.0 * MIB)
    assert holds_enough(CASE, live, 2.0, 200.0, 15.0)
    assert not holds_enough(CASE, live, 30.0, 200.0, 15.0)


def test_cache_fills_and_is_evicted_as_its_driver_has_it() -> None:
    """The account of the cache: it fills to its most, loses what was dropped, fills again."""
    sizes = cache_of(CASE, [(10.5, 4.0 * MIB)], 100.0) / MIB
    assert sizes[10] == 10.0 and sizes[11] == pytest.approx(7.0) and sizes[-1] == 40.0


def test_cache_cannot_lose_what_it_has_not() -> None:
    """An eviction of more than there is leaves nothing, not less."""
    assert cache_of(CASE, [(3.0, 90.0 * MIB)], 3.0)[-1] == 0.0


def test_lives_too_short_for_the_hooks_are_refused() -> None:
    """Where no curve can be saved with hooks so slow, the error says what to change."""
    with pytest.raises(UsageError, match="make lives longer or hooks faster"):
        draw_cases(Setting(seeds=1, programs=("redis",), life_s=(5.0, 6.0)))


def test_cooldown_is_the_shipped_packs() -> None:
    """The cooldown that cases are drawn for is the one that releases have."""
    assert Setting().cooldown_s == policy_of().rule.cooldown_s
