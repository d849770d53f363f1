"""The closed loop's arithmetic, on trials whose figures are known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from oomguard.learn.lab.loop.figure import figure_of_loop
from oomguard.learn.lab.loop.plan import Case, Setting, draw_cases, live_bytes
from oomguard.learn.lab.loop.results import (
    ENOUGH,
    NOT_ENOUGH,
    PLATEAUS,
    interval,
    outcomes_of,
    results_of,
    table_of,
    was_in_vain,
    weights_of,
)
from oomguard.learn.lab.loop.triggers import policy_of

MIB = 1 << 20
SETTING = Setting(seed=1, seeds=1, programs=("redis", "pythonapp"), latencies_s=(2.0,))
POLICY = policy_of()


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Draw two programs in every shape."""
    return draw_cases(SETTING)


def trial(case: Case, arm: str, ended: str, after_s: float, planned_s: float,
          evictions: list[list[float]] | None = None) -> tuple[str, dict[str, Any]]:
    """Return the facts of a trial by its id."""
    trial_id = f"{case.case_id}-{arm}" + ("" if arm == "none" else "-2s")
    return trial_id, {"trial_id": trial_id, "case_id": case.case_id, "program": case.program, "shape": case.shape,
                      "arm": arm, "latency_s": 0.0 if arm == "none" else 2.0, "planned_s": planned_s, "ended": ended,
                      "ended_after_s": after_s, "evictions": evictions or []}


def trials_for(cases: list[Case]) -> dict[str, dict[str, Any]]:
    """Return trials in which oomguard saves all with 10 MiB, and 80 % saves redis with 30 MiB."""
    found = []
    for case in cases:
        life_s = case.expected_s
        planned_s = life_s if case.is_plateau else 3 * life_s
        is_saved = case.program == "redis" or case.is_plateau
        found += [
            trial(case, "none", "alive" if case.is_plateau else "oom", life_s, 2 * life_s),
            trial(case, "oomguard", "alive", planned_s, planned_s, [[28.0, 10 * MIB, 30.0, 10 * MIB]]),
            trial(case, "threshold-80", "alive" if is_saved else "oom", planned_s if is_saved else 1.5 * life_s,
                  planned_s, [[38.0, 20 * MIB, 40.0, 20 * MIB], [58.0, 10 * MIB, 60.0, 10 * MIB]])]
    return dict(found)


def test_averted_share_and_lives(cases: list[Case]) -> None:
    """The share averted counts trials alive at their planned end; a killed one lived so many unguarded lives."""
    figures = results_of(trials_for(cases), cases, SETTING, POLICY, "m")[ENOUGH]["2"]
    assert figures["arms"]["oomguard"]["averted_ratio"] == 1.0
    redis = sum(case.program == "redis" and not case.is_plateau for case in cases)
    assert figures["arms"]["threshold-80"]["averted"] <= redis
    killed = [one for one in outcomes_of(trials_for(cases), cases, SETTING) if not one.is_alive]
    assert {one.lives for one in killed} == {1.5}


def test_costs_are_compared_where_both_live(cases: list[Case]) -> None:
    """Bytes of two arms are compared over the cases that both saved, in memory limits."""
    versus = results_of(trials_for(cases), cases, SETTING, POLICY, "m")[ENOUGH]["2"]["arms"]["threshold-80"][
        "against_oomguard"]
    evicted = versus["at_equal_survival"]["evicted_limits"]
    assert versus["both_avert"] > 0 and evicted["other"] == pytest.approx(3 * evicted["oomguard"])
    assert evicted["oomguard_minus_other"] < 0 and evicted["interval"][1] < 0


def test_every_eviction_on_a_plateau_is_in_vain(cases: list[Case]) -> None:
    """Where nothing kills, all that was evicted was evicted in vain."""
    for one in outcomes_of(trials_for(cases), cases, SETTING):
        if one.group == PLATEAUS:
            assert one.in_vain == one.evictions and one.evicted_in_vain_limits == one.evicted_limits


def test_eviction_before_a_kill_is_not_in_vain(cases: list[Case]) -> None:
    """The one without which the case would have been killed within 300 s was needed."""
    case = next(case for case in cases if case.shape == "steady")
    assert not was_in_vain(case, live_bytes(case, SETTING), [(30.0, 10.0 * MIB)], 0, case.expected_s)


def test_eviction_after_the_danger_is_over_is_in_vain() -> None:
    """Once live data has gone for good, an eviction averts nothing."""
    case = Case("c", "redis", "bursts", 1, 100 * MIB, 30.0 * MIB, 1.0 * MIB, 60.0)
    live = np.where(np.arange(500) < 80, 72.0, 20.0) * MIB
    assert was_in_vain(case, live, [(100.0, 10.0 * MIB)], 0, 30.0)
    assert not was_in_vain(case, live, [(20.0, 10.0 * MIB)], 0, 30.0)


def test_cache_that_misses_is_told_as_a_share(cases: list[Case]) -> None:
    """What is not evicted does not miss; an eviction misses until the cache has filled again."""
    outcomes = outcomes_of(trials_for(cases), cases, SETTING)
    assert all(0.0 < one.cache_missing_ratio < 1.0 for one in outcomes)
    case = cases[0]
    facts = dict([trial(case, "none", "oom", 60.0, 90.0), trial(case, "linear", "alive", 180.0, 180.0)])
    assert outcomes_of(facts, cases, SETTING)[0].cache_missing_ratio == 0.0


def test_cases_nothing_kills_are_left_out_and_counted(cases: list[Case]) -> None:
    """A case that lived unguarded averts nothing; it is in no table, and its number is told."""
    trials = trials_for(cases)
    spared = next(case for case in cases if case.shape == "steady")
    trials[f"{spared.case_id}-none"]["ended"] = "alive"
    results = results_of(trials, cases, SETTING, POLICY, "m")
    assert results["lethal_cases_not_killed_unguarded"] == 1
    assert all(one["case_id"] != spared.case_id for one in results["trials"])


def test_case_that_lacks_an_arm_is_not_compared(cases: list[Case]) -> None:
    """Arms are compared over cases that all of them did: an interrupted loop compares fewer, never others."""
    trials = trials_for(cases)
    whole = results_of(trials, cases, SETTING, POLICY, "m")[ENOUGH]["2"]["cases"]
    missing = next(case for case in cases if case.shape == "steady")
    del trials[f"{missing.case_id}-oomguard-2s"]
    assert results_of(trials, cases, SETTING, POLICY, "m")[ENOUGH]["2"]["cases"] == whole - 1


def test_resamples_draw_programs_then_cases() -> None:
    """Each resample has as many programs as there are, each with as many cases as it has."""
    weights = weights_of(["a", "a", "b", "b"], resamples=50)
    assert (weights.sum(axis=1) == 4).all()
    assert set(weights[:, :2].sum(axis=1)) <= {0.0, 2.0, 4.0}


def test_interval_holds_the_mean() -> None:
    """The interval of a mixed column lies around its mean; one value alone has no spread."""
    weights = weights_of(["a", "b"] * 8)
    low, high = interval(np.array([0.0, 0.0, 1.0, 1.0] * 4), np.ones(16), weights)
    assert 0.0 < low < 0.5 < high < 1.0
    assert interval(np.full(16, 2.0), np.ones(16), weights) == [2.0, 2.0]


def test_results_can_be_read_by_programs_and_people(cases: list[Case]) -> None:
    """Results are strict JSON, the table names every arm, the figure has a panel per latency and one for plateaus."""
    results = results_of(trials_for(cases), cases, SETTING, POLICY, "m")
    assert json.loads(json.dumps(results, allow_nan=False)) == json.loads(json.dumps(results))
    assert "threshold-80" in table_of(results) and "oomguard" in table_of(results)
    assert len(figure_of_loop(results).axes) == 2


def test_nothing_done_yet_is_told_too(cases: list[Case]) -> None:
    """Without any trial there are empty tables and a figure that says so."""
    results = results_of({}, cases, SETTING, POLICY, "m")
    assert results[ENOUGH] == {} == results[NOT_ENOUGH] and "limits" in table_of(results)
    assert figure_of_loop(results).axes[0].texts[0].get_text() == "no case whose cache holds enough"
