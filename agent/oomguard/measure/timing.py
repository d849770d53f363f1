"""How long a call takes: single calls by the clock, or small groups where the clock itself would be the figure."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import NamedTuple

GROUP = 16              # calls between two looks at the clock, where one call takes less than about two microseconds
WARM_UP_RATIO = 0.1     # so many calls, of those that count, are made before and not counted


class Figures(NamedTuple):
    """One stage's cost. Quantiles are of single calls, or of the means of groups; the clock's own cost is in them."""

    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float
    n: int              # calls timed

    @classmethod
    def of(cls, took_ns: Sequence[float], calls_each: int = 1) -> Figures:
        """Return the figures of some timings, each of so many calls."""
        ordered = sorted(took_ns)
        last = len(ordered) - 1
        p50, p90, p99, p999, most = (round(ordered[min(last, int(share * len(ordered)))] / calls_each / 1000, 4)
                                     for share in (0.5, 0.9, 0.99, 0.999, 1))
        return cls(p50, p90, p99, p999, most, len(ordered) * calls_each)


def clock_us() -> float:
    """Return what two looks at the clock cost by themselves: the median that every single-call figure contains."""
    took = sorted(-(perf_counter_ns() - perf_counter_ns()) for _ in range(10_000))
    return took[len(took) // 2] / 1000


def time_each(
    function: Callable[..., object], arguments: Sequence[tuple[object, ...]], n: int, calls_each: int = 1,
) -> Figures:
    """Time single calls over the arguments in turn.

    Args:
        function: what is timed.
        arguments: of each call.
        n: calls that count; a tenth more are made before.
        calls_each: what one call does so often (a batch); the figures are of one of these.
    """
    warm_up, many = _warm_up(n), len(arguments)
    took_ns = array("q", bytes(8 * (warm_up + n)))
    with _Undisturbed():
        for i in range(warm_up + n):
            given = arguments[i % many]
            start_ns = perf_counter_ns()
            function(*given)
            took_ns[i] = perf_counter_ns() - start_ns
    return Figures.of(took_ns[warm_up:], calls_each)


def time_groups(function: Callable[..., object], arguments: Sequence[tuple[object, ...]], n: int) -> Figures:
    """Time `n` calls in groups of GROUP over the arguments in turn; the loop around them (some 20 ns a call) counts.

    With 1.1 n arguments none is used twice: so a push, which only goes forward, can be timed.
    """
    groups = [arguments[at:at + GROUP] for at in range(0, len(arguments) - GROUP + 1, GROUP)]
    warm_up = _warm_up(n // GROUP)
    took_ns = array("q", bytes(8 * (warm_up + n // GROUP)))
    with _Undisturbed():
        for i in range(len(took_ns)):
            group = groups[i % len(groups)]
            start_ns = perf_counter_ns()
            for given in group:
                function(*given)
            took_ns[i] = perf_counter_ns() - start_ns
    return Figures.of(took_ns[warm_up:], GROUP)


def _warm_up(n: int) -> int:
    return int(n * WARM_UP_RATIO)


class _Undisturbed:
    """Keep the objects of the measurement itself out of the garbage collector's rounds; those of the calls stay in."""

    def __enter__(self) -> None:
        gc.collect()
        gc.freeze()

    def __exit__(self, *_: object) -> None:
        gc.unfreeze()
