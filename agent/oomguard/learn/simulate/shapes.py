"""The shapes a program's memory can take over time, as curves of what it needs over its limit.

Simulated runs widen what the model has seen: limits, cadences, rates and bounds that no recording covers yet.
They train, and never count in a reported figure. A curve is float64[n] on a regular time axis; whether and when it
ends in a kill follows from the curve alone (runs.py), so leaks and quiet shapes share their beginnings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator
    from numpy.typing import NDArray

    Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """A curve and what the program's own bound has to do with it (`bound_ratio` NaN: nothing)."""

    kind: str
    curve: NDArray[np.float64]
    bound_ratio: float = float("nan")
    bound_kind: str = ""
    releases: tuple[int, ...] = ()      # indices at which a release was done


def straight(t: Curve, rng: Generator) -> Shape:
    """Grow at one rate to the limit."""
    return Shape("straight", _base(rng) + _rate_per_s(rng) * t)


def bends(t: Curve, rng: Generator) -> Shape:
    """Grow at a rate that changes every few seconds or minutes, standing still at times."""
    rate = _rate_per_s(rng) * _by_piece(t, rng, lambda n: rng.lognormal(0.0, 0.7, n) * (rng.random(n) > 0.15))
    return Shape("bends", _base(rng) + _integral(t, rate))


def steps(t: Curve, rng: Generator) -> Shape:
    """Grow in jumps of up to 8 % of the limit."""
    quantum = np.exp(rng.uniform(np.log(0.003), np.log(0.08)))
    count = rng.poisson(_rate_per_s(rng) * _steps_s(t) / quantum)
    return Shape("steps", _base(rng) + quantum * np.cumsum(count))


def curved(t: Curve, rng: Generator) -> Shape:
    """Grow ever faster, or ever slower, and reach the limit all the same."""
    fill_s = (1.0 / _rate_per_s(rng)) + 1.0
    return Shape("curved", _base(rng) + (t / fill_s) ** rng.uniform(0.6, 2.5))


def late(t: Curve, rng: Generator) -> Shape:
    """Stand still for minutes, then leak."""
    begin_s = rng.uniform(40.0, max(60.0, 0.7 * t[-1]))
    return Shape("late", _base(rng) + _rate_per_s(rng) * np.maximum(t - begin_s, 0.0))


def burst(t: Curve, rng: Generator) -> Shape:
    """Stand still, then be gone within seconds: what nobody can see coming."""
    begin_s = rng.uniform(30.0, max(60.0, 0.9 * t[-1]))
    return Shape("burst", _base(rng) + np.maximum(t - begin_s, 0.0) / rng.uniform(3.0, 40.0))


def saw_on_a_leak(t: Curve, rng: Generator) -> Shape:
    """Collect garbage again and again, a little less each time."""
    amplitude = rng.uniform(0.02, 0.25)
    return Shape("saw on a leak", _base(rng) + _rate_per_s(rng) * t + amplitude * _saw(t, rng))


def plateau(t: Curve, rng: Generator) -> Shape:
    """Grow like a leak, then stop: at a bound of its own, or because all is loaded."""
    top = rng.uniform(0.2, 0.97)
    base = min(_base(rng), top)
    kind = str(rng.choice(["evicts", "refuses"]))
    # What is charged lies a little above what the program counts (redis over maxmemory: 1.00-1.12, recordings/sample).
    return Shape("plateau", np.minimum(base + _rate_per_s(rng) * t, top), top / rng.uniform(1.0, 1.12), kind)


def saturating(t: Curve, rng: Generator) -> Shape:
    """Fill up ever more slowly."""
    base = _base(rng)
    top = rng.uniform(min(base, 0.9), 0.96)
    return Shape("saturating", base + (top - base) * (1 - np.exp(-t / np.exp(rng.uniform(2.5, 5.5)))), top, "evicts")


def bends_to_a_stop(t: Curve, rng: Generator) -> Shape:
    """Grow unevenly up to a level and stay."""
    grown = bends(t, rng)
    top = rng.uniform(0.2, 0.97)
    return Shape("bends to a stop", np.minimum(grown.curve, top), top / rng.uniform(1.0, 1.12), "evicts")


def flat(t: Curve, rng: Generator) -> Shape:
    """Stand still, or creep so slowly that hours lie ahead."""
    drift = rng.choice([0.0, 1.0]) * np.exp(rng.uniform(np.log(1e-7), np.log(3e-5)))
    return Shape("flat", _level(rng) + drift * t)


def idle(t: Curve, rng: Generator) -> Shape:
    """Stand still where leaks begin."""
    return Shape("idle", np.full(len(t), _base(rng)))


def saw(t: Curve, rng: Generator) -> Shape:
    """Rise and collect, always below the limit."""
    peak = rng.uniform(0.2, 0.985)
    return Shape("saw", peak * (1 - rng.uniform(0.03, 0.7) * (1 - _saw(t, rng))))


def walk(t: Curve, rng: Generator) -> Shape:
    """Wander around a level."""
    pull = 1.0 / np.exp(rng.uniform(2.0, 6.0))
    step_s = _steps_s(t)
    noise = rng.normal(0.0, 1.0, len(t)) * np.sqrt(step_s)
    wander = np.zeros(len(t))
    for at in range(1, len(t)):
        wander[at] = wander[at - 1] * (1 - min(pull * step_s[at], 1.0)) + noise[at]
    level, reach = rng.uniform(0.1, 0.85), rng.uniform(0.01, 0.12)
    return Shape("walk", np.clip(level + reach * wander / max(float(np.abs(wander).max()), 1e-9), 0.01, 0.98))


def waves(t: Curve, rng: Generator) -> Shape:
    """Swell and ebb with the work."""
    reach = rng.uniform(0.02, 0.3)
    level = rng.uniform(0.05 + reach, 0.97 - reach) if reach < 0.45 else 0.5
    period_s = np.exp(rng.uniform(np.log(20.0), np.log(900.0)))
    return Shape("waves", level + reach * np.sin(2 * np.pi * (t / period_s + rng.random())))


def levels(t: Curve, rng: Generator) -> Shape:
    """Jump from one level to another, as a player does between films."""
    return Shape("levels", _by_piece(t, rng, lambda n: rng.uniform(0.1, rng.uniform(0.4, 0.97), n), 20.0, 200.0))


def leak_with_releases(t: Curve, rng: Generator) -> Shape:
    """Leak, give memory back when asked, and leak on, or stop."""
    curve = _base(rng) + _rate_per_s(rng) * t
    is_over_after = rng.random() < 0.3
    releases: list[int] = []
    for _ in range(int(rng.integers(1, 4))):
        above = np.flatnonzero(curve >= rng.uniform(0.6, 0.96))
        above = above[above > (releases[-1] + 2 if releases else 2)]
        if not len(above) or above[0] >= len(curve) - 2:
            break
        at = int(above[0])
        curve[at:] -= rng.uniform(0.03, 0.8) * curve[at]
        releases.append(at)
    if is_over_after and releases:
        curve[releases[-1]:] = np.minimum(curve[releases[-1]:], curve[releases[-1]] + 0.02)
    return Shape("leak with releases", curve, releases=tuple(releases))


LEAKS: tuple[Callable[[Curve, Generator], Shape], ...] = (
    straight, straight, straight, bends, bends, steps, curved, late, saw_on_a_leak, burst, leak_with_releases)
QUIET: tuple[Callable[[Curve, Generator], Shape], ...] = (
    plateau, plateau, saturating, bends_to_a_stop, flat, flat, saw, saw, walk, waves, levels)

LOADING = ("plateau", "saturating", "bends to a stop")      # grow by design, then stop


def _base(rng: Generator) -> float:
    """Where the curve starts: most programs small, some met when they are nearly full."""
    return float(rng.uniform(0.02, 0.25) if rng.random() < 0.65 else rng.uniform(0.02, 0.95))


def _level(rng: Generator) -> float:
    """A level to stand at: anywhere, at times next to nothing (a reader of files uses 0.1 % of its limit)."""
    return float(rng.uniform(0.02, 0.95) if rng.random() < 0.7 else np.exp(rng.uniform(np.log(5e-4), np.log(0.1))))


def _rate_per_s(rng: Generator) -> float:
    """The whole limit in 40 s to 2 h, evenly on a logarithmic scale."""
    return float(1.0 / np.exp(rng.uniform(np.log(40.0), np.log(7200.0))))


def _steps_s(t: Curve) -> Curve:
    return np.diff(t, prepend=t[0])


def _integral(t: Curve, rate: Curve) -> Curve:
    return np.cumsum(rate * _steps_s(t))


def _by_piece(t: Curve, rng: Generator, draw: Callable[[int], Curve], least_s: float = 3.0,
              most_s: float = 90.0) -> Curve:
    """Return a value per moment that changes after random spans."""
    spans = rng.uniform(least_s, rng.uniform(2 * least_s, most_s), int(t[-1] / least_s) + 2)
    piece = np.searchsorted(np.cumsum(spans), t)
    return draw(len(spans) + 1)[piece]


def _saw(t: Curve, rng: Generator) -> Curve:
    """Return teeth from 0 to 1 whose lengths and heights vary a little, or a lot."""
    period_s = np.exp(rng.uniform(np.log(4.0), np.log(400.0)))
    vary = rng.uniform(0.0, 0.4)
    lengths = period_s * rng.uniform(1 - vary, 1 + vary, int(t[-1] / (period_s * (1 - vary))) + 3)
    ends = np.cumsum(lengths) - rng.random() * lengths[0]
    tooth = np.searchsorted(ends, t, side="right")
    begun = np.concatenate([[ends[0] - lengths[0]], ends])
    height = rng.uniform(1 - vary, 1.0, len(lengths) + 1)
    return np.asarray((t - begun[tooth]) / lengths[tooth] * height[tooth], np.float64)
