"""What the closed loop came to: who lived by which trigger, and what it cost, compared at equal survival.

Averted counts over cases whose cache holds enough (plan.holds_enough, at the life that was measured); those whose
cache does not are apart, and so are plateaus. Costs of two arms are compared over the cases that both brought alive to
their planned end. Intervals: 95 %, bootstrap over programs and, within each, over its cases; every arm is resampled
alike, so that differences are paired.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.learn.lab.loop.life import ALIVE
from oomguard.learn.lab.loop.loop import life_of
from oomguard.learn.lab.loop.plan import AFTER_S, CURVE_STEP_S, cache_of, demand_bytes, holds_enough, live_bytes
from oomguard.learn.lab.loop.triggers import ARMS, LINE_SPAN_S, LINE_WITHIN_S, NONE, OOMGUARD, condition_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.lab.loop.plan import Case, Setting
    from oomguard.learn.lab.loop.triggers import Policy

    Reals = NDArray[np.float64]

RESAMPLES = 2000
SEED = 7
ENOUGH, NOT_ENOUGH, PLATEAUS = "cache_holds_enough", "cache_does_not_hold_enough", "plateaus"
COSTS = ("evicted_limits", "evictions", "in_vain", "evicted_in_vain_limits", "cache_missing_ratio")


HEAD = (f"{'arm':14s} {'alive (95 %)':>18s} {'lives':>6s} {'evicted*':>9s} {'evictions':>9s} {'in vain':>8s} "
        f"{'cache missing':>13s}   against oomguard, where both live")


class Outcome(NamedTuple):
    """One trial in numbers."""

    case_id: str
    program: str
    shape: str
    group: str                      # ENOUGH, NOT_ENOUGH or PLATEAUS
    arm: str
    latency_s: float
    is_alive: bool                  # at its planned end
    lives: float                    # how long it lived, in unguarded lives; a plateau's: over its planned time
    evicted_limits: float           # bytes evicted over the memory limit
    evictions: int
    in_vain: int                    # those after which nothing more need have been evicted for 300 s
    evicted_in_vain_limits: float
    cache_missing_ratio: float      # of the cache that it would have had unguarded, over its life: what misses


def outcomes_of(trials: Mapping[str, dict[str, Any]], cases: Sequence[Case], setting: Setting) -> list[Outcome]:
    """Return the guarded trials in numbers; those of lethal cases that lived unguarded are left out.

    Args: trials: facts of finished trials by id (Life.facts).
    """
    found = []
    for case in cases:
        unguarded = trials.get(f"{case.case_id}-{NONE}")
        life_s = life_of(case, unguarded)
        if life_s is None and not case.is_plateau:
            continue
        live = live_bytes(case, setting)
        found += [_outcome(facts, case, live, life_s, setting) for facts in trials.values()
                  if facts["case_id"] == case.case_id and facts["arm"] != NONE]
    return found


def _outcome(facts: dict[str, Any], case: Case, live: Reals, life_s: float | None, setting: Setting) -> Outcome:
    planned_s, latency_s = facts["planned_s"], facts["latency_s"]
    is_enough = holds_enough(case, live, latency_s, planned_s, setting.cooldown_s)
    group = PLATEAUS if case.is_plateau else ENOUGH if is_enough else NOT_ENOUGH
    lived_s = min(facts["ended_after_s"], planned_s)
    done = [(done_s, dropped_bytes) for _asked_s, _asked, done_s, dropped_bytes in facts["evictions"]
            if dropped_bytes > 0]
    vain = [dropped_bytes for at, (_done_s, dropped_bytes) in enumerate(done)
            if was_in_vain(case, live, done, at, life_s)]
    full = cache_of(case, (), lived_s)
    missing = full - cache_of(case, done, lived_s)
    return Outcome(
        case.case_id, case.program, case.shape, group, facts["arm"], latency_s, facts["ended"] == ALIVE,
        lived_s / (life_s or planned_s), sum(dropped for _done_s, dropped in done) / case.limit_bytes, len(done),
        len(vain), sum(vain) / case.limit_bytes, float(missing.sum() / max(full.sum(), 1.0)))


def was_in_vain(case: Case, live: Reals, evictions: Sequence[tuple[float, float]], at: int,
                life_s: float | None) -> bool:
    """Whether no kill would have followed within 300 s, had nothing been evicted from the `at`-th eviction on.

    A kill follows where live data and the cache, filling on, come to what killed the case unguarded.

    Args:
        evictions: (t_s, bytes), in the order of time.
        life_s: unguarded; None: nothing kills it.
    """
    if life_s is None:
        return True
    demand = demand_bytes(case, live)
    killing_bytes = demand[:int(life_s / CURVE_STEP_S) + 1].max()
    first = int(evictions[at][0] / CURVE_STEP_S)
    until = min(first + int(AFTER_S / CURVE_STEP_S), len(live) - 1)
    cache = cache_of(case, evictions[:at], until * CURVE_STEP_S)
    return bool((live[first:until + 1] + cache[first:until + 1]).max() < killing_bytes)


def results_of(trials: Mapping[str, dict[str, Any]], cases: Sequence[Case], setting: Setting, policy: Policy,
               model_id: str) -> dict[str, Any]:
    """Return everything as plain JSON: protocol, one part per group and latency, cases, trials in numbers."""
    outcomes = outcomes_of(trials, cases, setting)
    lives = {case.case_id: life_of(case, trials.get(f"{case.case_id}-{NONE}")) for case in cases}
    return {
        "protocol": _protocol(policy, setting, model_id),
        "lethal_cases_not_killed_unguarded": sum(
            f"{case.case_id}-{NONE}" in trials and lives[case.case_id] is None for case in cases
            if not case.is_plateau),
        "cases": [{"case_id": case.case_id, "program": case.program, "shape": case.shape,
                   "limit_bytes": case.limit_bytes, "cache_bytes": case.cache_bytes,
                   "refill_bytes_per_s": case.refill_bytes_per_s, "unguarded_life_s": lives[case.case_id]}
                  for case in cases],
        **{group: {f"{latency_s:g}": _compared([one for one in outcomes
                                                if one.group == group and one.latency_s == latency_s])
                   for latency_s in sorted({one.latency_s for one in outcomes if one.group == group})}
           for group in (ENOUGH, NOT_ENOUGH, PLATEAUS)},
        "trials": [one._asdict() for one in outcomes]}


def _protocol(policy: Policy, setting: Setting, model_id: str) -> dict[str, Any]:
    return {
        "averted": f"alive at {setting.lives:g} times the unguarded life of the same case",
        "release": f"needed, critical ratio 0.9, cooldown {policy.rule.cooldown_s:g} s, one in flight, the same in all "
                   "arms; what was foreseen, by the line or by a forecast, waits until it is due",
        "debounce_s": policy.debounce_s, "oomguard": condition_in_words(policy), "model": model_id,
        "linear": f"least squares over {LINE_SPAN_S:g} s, releases taken out, reaches the limit within "
                  f"{LINE_WITHIN_S:g} s",
        "in_vain": f"no kill would have followed within {AFTER_S:g} s, had nothing been evicted from then on",
        "intervals": "95 %, bootstrap over programs and over cases within them, paired",
        "seed": setting.seed, "seeds": setting.seeds}


def _compared(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the figures of each arm, and of each against oomguard."""
    arms = [arm for arm in ARMS if any(one.arm == arm for one in outcomes)]
    by_arm = {arm: {one.case_id: one for one in outcomes if one.arm == arm} for arm in arms}
    common = sorted(set.intersection(*(set(of_arm) for of_arm in by_arm.values())))
    if not common:
        return {"cases": 0, "arms": {}}
    weights = weights_of([by_arm[arms[0]][case_id].program for case_id in common])
    rows = {arm: [by_arm[arm][case_id] for case_id in common] for arm in arms}
    ours = rows.get(OOMGUARD)
    return {"cases": len(common), "programs": len({one.program for one in rows[arms[0]]}),
            "arms": {arm: _figures(rows[arm], weights)
                     | ({"against_oomguard": against(rows[arm], ours, weights)} if ours and arm != OOMGUARD else {})
                     for arm in arms}}


def _figures(rows: list[Outcome], weights: Reals) -> dict[str, Any]:
    alive = np.array([one.is_alive for one in rows], np.float64)
    low, high = interval(alive, np.ones(len(rows)), weights)
    if alive.all():         # no resample of ones is anything but one: the rule of three
        low = max(0.0, 1 - 3 / len(rows))
    if not alive.any():
        high = min(1.0, 3 / len(rows))
    return {"averted": int(alive.sum()), "averted_ratio": float(alive.mean()), "averted_interval": [low, high],
            "median_lives": float(np.median([one.lives for one in rows])),
            "where_alive": {cost: _mean(_column(rows, cost), alive) for cost in COSTS},
            "everywhere": {cost: _mean(_column(rows, cost), np.ones(len(rows))) for cost in COSTS}}


def against(rows: list[Outcome], ours: list[Outcome], weights: Reals) -> dict[str, Any]:
    """Return oomguard minus another arm: averted over all cases, costs over those that both brought to their end."""
    theirs_alive, ours_alive = (np.array([one.is_alive for one in side], np.float64) for side in (rows, ours))
    both = theirs_alive * ours_alive
    everywhere = np.ones(len(rows))
    costs = {}
    for cost in COSTS:
        theirs, own = _column(rows, cost), _column(ours, cost)
        costs[cost] = {"oomguard": _mean(own, both), "other": _mean(theirs, both),
                       "oomguard_minus_other": _mean(own - theirs, both),
                       "interval": interval(own - theirs, both, weights) if both.any() else None}
    return {"averted_ratio": _mean(ours_alive - theirs_alive, everywhere),
            "averted_interval": interval(ours_alive - theirs_alive, everywhere, weights),
            "only_oomguard_averts": int((ours_alive * (1 - theirs_alive)).sum()),
            "only_other_averts": int((theirs_alive * (1 - ours_alive)).sum()),
            "both_avert": int(both.sum()), "at_equal_survival": costs}


def weights_of(programs: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> Reals:
    """Return float[resamples, cases]: how often each case is in each resample, programs drawn first, then cases."""
    rng = np.random.default_rng(seed)
    names = sorted(set(programs))
    places = [np.flatnonzero(np.array(programs) == name) for name in names]
    weights = np.zeros((resamples, len(programs)))
    for row in weights:
        for drawn in rng.integers(0, len(names), len(names)):
            np.add.at(row, rng.choice(places[drawn], len(places[drawn])), 1.0)
    return weights


def interval(values: Reals, counts: Reals, weights: Reals) -> list[float]:
    """Return the 95 % interval of the mean of `values` where `counts` is 1, over the resamples that have any."""
    total = weights @ counts
    means = (weights @ (values * counts))[total > 0] / total[total > 0]
    return [float(edge) for edge in np.percentile(means, [2.5, 97.5])]


def _mean(values: Reals, counts: Reals) -> float | None:
    return float((values * counts).sum() / counts.sum()) if counts.any() else None


def _column(rows: list[Outcome], cost: str) -> Reals:
    return np.array([getattr(one, cost) for one in rows], np.float64)


def table_of(results: dict[str, Any]) -> str:
    """Return the tables for people."""
    titles = {ENOUGH: "the cache holds enough", NOT_ENOUGH: "the cache does not hold enough",
              PLATEAUS: "nothing to avert (plateaus)"}
    lines = []
    for group, title in titles.items():
        for latency, part in results[group].items():
            lines += ["", f"{title}, hooks of {latency} s: {part['cases']} cases", HEAD]
            lines += [_row(arm, figures) for arm, figures in part["arms"].items()]
    left_out = results["lethal_cases_not_killed_unguarded"]
    lines += ["", "* in memory limits; costs are means over the trials alive at their planned end",
              *([f"left out: {left_out} cases that nothing killed unguarded"] if left_out else [])]
    return "\n".join(lines[1:])


def _row(arm: str, figures: dict[str, Any]) -> str:
    low, high = figures["averted_interval"]
    cost: Callable[[str, str], str] = lambda name, form: _shown(figures["where_alive"][name], form)     # noqa: E731
    versus = figures.get("against_oomguard")
    said = ""
    if versus is not None and versus["both_avert"]:
        evicted = versus["at_equal_survival"]["evicted_limits"]
        said = f"   {evicted['other']:.2f} evicted, oomguard {evicted['oomguard']:.2f} ({versus['both_avert']} cases)"
    return (f"{arm:14s} {100 * figures['averted_ratio']:4.0f} % ({100 * low:3.0f}–{100 * high:3.0f} %) "
            f"{figures['median_lives']:6.1f} {cost('evicted_limits', '9.2f')} {cost('evictions', '9.1f')} "
            f"{cost('in_vain', '8.1f')} {cost('cache_missing_ratio', '13.2f')}{said}")


def _shown(value: float | None, form: str) -> str:
    return "–".rjust(int(form.split(".")[0])) if value is None else format(value, form)
