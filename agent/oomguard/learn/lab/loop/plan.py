"""Which closed-loop experiments are done: programs with a cache, drawn from a seed, the same ones in every arm.

A case is one program with its live data's curve, its cache and its limit. Left alone, live data and cache together
reach the limit after about a minute: the unguarded life. Guarded, it is to last three such lives, which its live data
alone would survive where the cache *holds enough*; in one case of five it would not, and they are reported apart.
Besides, each program has plateaus: full, but harmless, so that every eviction there is in vain.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from oomguard.errors import UsageError
from oomguard.learn.lab.drive import Cache
from oomguard.learn.lab.program import driver_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    Reals = NDArray[np.float64]

MIB = 1 << 20
CURVE_STEP_S = 1.0
PROGRAMS = ("pythonapp", "redis", "node", "jvm")
LATENCIES_S = (0.05, 2.0, 20.0)
PLATEAU_LATENCIES_S = (2.0,)            # nothing is to be averted there: one latency tells what an eviction costs
PLATEAU = "plateau"
LIVES = 3.0                             # DESIGN 5: alive after three times the unguarded life
AFTER_S = 300.0                         # the curve goes on behind the planned end, to see which evictions were in vain
NOT_ENOUGH_EVERY = 5                    # one lethal case in so many has a cache too small to save it
TRIES = 20_000
# Of the limit. What a program is charged differs from its wish by some percent (base_bytes, charge_ratio of drivers).
FULL_RATIO, ROOM_RATIO = 1.0, 0.95
NEARLY_FULL_RATIO, NEARLY_FROM_LIVES = 0.94, 0.75   # charged more, it is not killed much earlier
SURELY_FULL_RATIO, SURELY_IN_LIVES = 1.06, 1.5      # charged less, it is killed all the same, and not much later
PLATEAU_RATIO = (0.78, 0.91)
CACHE_RATIO = (0.30, 0.60)
TURN_MARGIN_S = 2.0                     # debounce and a tick, beside latency or cooldown


class Setting(NamedTuple):
    """What the experiments are drawn from."""

    seed: int = 1
    seeds: int = 2                              # cases per program and shape
    programs: tuple[str, ...] = PROGRAMS
    latencies_s: tuple[float, ...] = LATENCIES_S
    life_s: tuple[float, float] = (60.0, 80.0)  # unguarded
    limit_mib: tuple[int, int] = (96, 160)
    lives: float = LIVES
    cooldown_s: float = 15.0                    # the shipped pack's; between two releases


class Case(NamedTuple):
    """One program's life to be; plain JSON but for the curve, which follows from it."""

    case_id: str
    program: str
    shape: str
    seed: int
    limit_bytes: int
    cache_bytes: float
    refill_bytes_per_s: float
    expected_s: float               # the unguarded life by the curve; a plateau's is how long it would be

    @property
    def is_plateau(self) -> bool:
        """Whether nothing is to be averted."""
        return self.shape == PLATEAU


class Trial(NamedTuple):
    """One case in one arm with one hook."""

    case: Case
    arm: str
    latency_s: float

    @property
    def trial_id(self) -> str:
        """Names it, in files too; the unguarded life has no hook and is shared by all latencies."""
        return f"{self.case.case_id}-{self.arm}" + (f"-{self.latency_s:g}s" if self.arm != "none" else "")


def draw_cases(setting: Setting) -> list[Case]:
    """Return every case, seed by seed, so that the first ones are a whole small experiment. Raises UsageError."""
    cases, number = [], 0
    for seed in range(setting.seeds):
        for shape in SHAPES:
            for program in setting.programs:
                number += shape != PLATEAU
                wants_enough = shape == PLATEAU or number % NOT_ENOUGH_EVERY != 0
                cases.append(_draw(setting, program, shape, seed, wants_enough=wants_enough))
    return cases


def trials_of(cases: Sequence[Case], setting: Setting, arms: Sequence[str]) -> list[Trial]:
    """Return every trial: the unguarded ones first, for the others last three times as long as those do."""
    guarded = [arm for arm in arms if arm != "none"]
    return [Trial(case, "none", 0.0) for case in cases] + [
        Trial(case, arm, latency_s) for case in cases
        for latency_s in (PLATEAU_LATENCIES_S if case.is_plateau else setting.latencies_s) for arm in guarded]


def live_bytes(case: Case, setting: Setting) -> Reals:
    """Return what the program is charged without its cache, every CURVE_STEP_S, 300 s past the longest planned end."""
    return _live_of(case.shape, case.seed, setting) * case.limit_bytes


def unguarded_s(case: Case) -> float:
    """Return for how long the unguarded arm is watched: past the expected life, for curves are met by some percent."""
    return case.expected_s if case.is_plateau else (SURELY_IN_LIVES + 0.1) * case.expected_s + 10.0


def demand_bytes(case: Case, live: Reals) -> Reals:
    """Return live data and cache together, where nothing is ever evicted."""
    return live + np.minimum(case.cache_bytes, case.refill_bytes_per_s * _times(len(live)))


def holds_enough(case: Case, live: Reals, latency_s: float, planned_s: float, cooldown_s: float) -> bool:
    """Whether emptying the cache as often as hook and cooldown allow would keep it below 95 % of its limit.

    Args:
        live: of `live_bytes`.
        latency_s: of the hook: meanwhile, and until the next release may be asked for, the cache fills again.
        planned_s: for so long.
    """
    turn_s = max(latency_s, cooldown_s) + TURN_MARGIN_S
    peak = live[:math.ceil(planned_s / CURVE_STEP_S) + 1].max() + min(case.cache_bytes,
                                                                     case.refill_bytes_per_s * turn_s)
    return bool(peak <= ROOM_RATIO * case.limit_bytes)


def cache_of(case: Case, evictions: Sequence[tuple[float, float]], until_s: float) -> Reals:
    """Return how full the cache is at each step up to `until_s`: as its driver keeps it, so many bytes dropped when.

    Args: evictions: (t_s, bytes), in the order of time.
    """
    cache, at_s, left = Cache(case.cache_bytes, case.refill_bytes_per_s), 0.0, list(evictions)
    sizes = np.zeros(math.floor(until_s / CURVE_STEP_S) + 1)
    for step in range(len(sizes)):
        while left and left[0][0] <= step * CURVE_STEP_S:
            t_s, dropped_bytes = left.pop(0)
            cache.fill(max(t_s - at_s, 0.0))
            cache.evict(dropped_bytes)
            at_s = max(t_s, at_s)
        cache.fill(step * CURVE_STEP_S - at_s)
        at_s = step * CURVE_STEP_S
        sizes[step] = cache.size_bytes
    return sizes


def _draw(setting: Setting, program: str, shape: str, seed: int, *, wants_enough: bool) -> Case:
    case_id = f"loop-{program}-{shape}-{seed}"
    rng = np.random.default_rng([setting.seed, *case_id.encode()])
    low, high = (math.log(mib * MIB) for mib in setting.limit_mib)
    limit_bytes = int(math.exp(rng.uniform(low, high))) // 4096 * 4096
    least_ratio = driver_of(program).base_bytes / limit_bytes + 0.05
    for _try in range(TRIES):
        case = _wish(setting, case_id, program, shape, limit_bytes, rng)
        live = live_bytes(case, setting)
        if live[0] < least_ratio * limit_bytes:
            continue
        fitting = _plateau_if_fit(case, live, setting) if case.is_plateau else \
            _lethal_if_fit(case, live, setting, wants_enough=wants_enough)
        if fitting is not None:
            return fitting
    raise UsageError(f"{case_id}: no curve fits lives of {setting.life_s[0]:g} to {setting.life_s[1]:g} s with hooks "
                     f"of {max(setting.latencies_s):g} s: make lives longer or hooks faster")


def _wish(setting: Setting, case_id: str, program: str, shape: str, limit_bytes: int, rng: Generator) -> Case:
    fill_lives = {"regrowth": (0.4, 1.1), PLATEAU: (0.3, 0.9)}.get(shape, (0.5, 2.5))
    cache_bytes = float(rng.uniform(*CACHE_RATIO) * limit_bytes)
    fill_s = float(rng.uniform(*fill_lives) * np.mean(setting.life_s))
    return Case(case_id, program, shape, int(rng.integers(2**31)), limit_bytes, cache_bytes, cache_bytes / fill_s, 0.0)


def _lethal_if_fit(case: Case, live: Reals, setting: Setting, *, wants_enough: bool) -> Case | None:
    demand = demand_bytes(case, live)
    life_s = _crosses_s(demand, FULL_RATIO * case.limit_bytes)
    surely_s = _crosses_s(demand, SURELY_FULL_RATIO * case.limit_bytes)
    nearly_s = _crosses_s(demand, NEARLY_FULL_RATIO * case.limit_bytes)
    if not (setting.life_s[0] <= life_s <= setting.life_s[1] and nearly_s >= NEARLY_FROM_LIVES * life_s
            and surely_s <= SURELY_IN_LIVES * life_s):
        return None
    planned_s = setting.lives * life_s
    if wants_enough:
        # For the slowest hook, and 10 % longer, for nobody knows the life to the second before it was lived.
        is_fit = holds_enough(case, live, max(setting.latencies_s), 1.1 * planned_s, setting.cooldown_s)
    else:
        is_fit = 1.3 * life_s <= _crosses_s(live, case.limit_bytes) <= 0.85 * planned_s
    return case._replace(expected_s=life_s) if is_fit else None


def _plateau_if_fit(case: Case, live: Reals, setting: Setting) -> Case | None:
    """Take it where it is full, by its limit, for more than half of the time, and never fuller than it may be."""
    planned_s = setting.lives * float(np.mean(setting.life_s))
    demand = demand_bytes(case, live) / case.limit_bytes
    half_s = 0.5 * planned_s
    is_fit = demand.max() <= PLATEAU_RATIO[1] and demand[int(half_s / CURVE_STEP_S):].min() >= PLATEAU_RATIO[0]
    return case._replace(expected_s=planned_s) if is_fit else None


def _crosses_s(curve: Reals, bytes_: float) -> float:
    above = np.flatnonzero(curve >= bytes_)
    return float(above[0]) * CURVE_STEP_S if len(above) else math.inf


def _times(count: int) -> Reals:
    return np.asarray(np.arange(count) * CURVE_STEP_S, np.float64)


def _live_of(shape: str, seed: int, setting: Setting) -> Reals:
    """Return live data over the limit; it depends on the shape, the seed and the length of a life, and nothing else."""
    longest_s = 1.3 * setting.lives * setting.life_s[1] + AFTER_S
    times = _times(math.ceil(longest_s) + 1)
    return SHAPES[shape](times, float(np.mean(setting.life_s)), np.random.default_rng(seed))


def _steady(t: Reals, life_s: float, rng: Generator) -> Reals:
    """Leak at a rate that changes a little every few seconds."""
    rate_per_s = rng.uniform(0.02, 0.5) / life_s
    piece = np.minimum(t / rng.uniform(5.0, 20.0), 1e6).astype(int)
    leaked = rate_per_s * CURVE_STEP_S * np.cumsum(rng.uniform(0.6, 1.4, piece[-1] + 1)[piece])
    return np.asarray(rng.uniform(0.15, 0.65) + leaked, np.float64)


def _bursts(t: Reals, life_s: float, rng: Generator) -> Reals:
    """Work that comes and goes: up within seconds, held for a while, gone again."""
    rise_s, hold_s, fall_s = (rng.uniform(0.04, 0.25) * life_s for _part in range(3))
    period_s = rise_s + hold_s + fall_s + rng.uniform(0.1, 0.6) * life_s
    first_s = rng.uniform(0.1, 0.5) * life_s
    since_s = np.where(t >= first_s, (t - first_s) % period_s, period_s)
    stage = np.clip(np.minimum(since_s / rise_s, 1 - (since_s - rise_s - hold_s) / fall_s), 0.0, 1.0)
    return np.asarray(rng.uniform(0.15, 0.6) + rng.uniform(0.0, 0.1) / life_s * t + rng.uniform(0.12, 0.4) * stage,
                      np.float64)


def _regrowth(t: Reals, life_s: float, rng: Generator) -> Reals:
    """Live data that stands nearly still: it is the cache that is too large, and comes back after each eviction."""
    drift = np.exp(rng.uniform(np.log(0.002), np.log(0.2))) / life_s
    warm_s = rng.uniform(0.05, 0.3) * life_s
    return np.asarray(rng.uniform(0.2, 0.5) + rng.uniform(0.0, 0.2) * (1 - np.exp(-t / warm_s)) + drift * t, np.float64)


def _plateau(t: Reals, life_s: float, rng: Generator) -> Reals:
    """Load, then stop for good."""
    until_s = rng.uniform(0.3, 1.0) * life_s
    return np.asarray(rng.uniform(0.15, 0.4) + rng.uniform(0.05, 0.3) * np.minimum(t / until_s, 1.0), np.float64)


SHAPES: dict[str, Callable[[Reals, float, Generator], Reals]] = {
    "steady": _steady, "bursts": _bursts, "regrowth": _regrowth, PLATEAU: _plateau}
