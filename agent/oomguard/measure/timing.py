"""How long a call takes: single calls by the clock, hot or cold, or groups where the clock would be the figure."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Sequence
from time import perf_counter_ns, sleep
from typing import NamedTuple

GROUP = 16              # calls between two looks at the clock, where one call takes less than about two microseconds
WARM_UP_RATIO = 0.1     # so many calls, of those that count, are made before and not counted
COLD_BYTES = 32 << 20   # copied through the caches before a cold call: 16 times the second-level cache of a big core
COLD_SLEEP_S = 0.002    # and asleep, as the daemon is between two ticks: the core idles or runs others
SHARES = (0.5, 0.9, 0.99, 0.999, 1.0)
CURVE = (*(i / 200 for i in range(200)), 0.997, 0.999, 0.9995, 0.9999, 1.0)     # where a distribution is kept


class Figures(NamedTuple):
    """One stage's cost. Quantiles are of single calls, or of the means of groups; the clock's own cost is in them."""

    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float
    n: int              # calls timed
    curve_us: tuple[float, ...] = ()        # the quantiles at CURVE, to draw; not in `bench --json`

    @classmethod
    def of(cls, took_ns: Sequence[float], calls_each: int = 1) -> Figures:
        """Return the figures of some timings, each of so many calls."""
        ordered = sorted(took_ns)
        last = len(ordered) - 1

        def at(share: float) -> float:
            return round(ordered[min(last, int(share * len(ordered)))] / calls_each / 1000, 4)
        p50, p90, p99, p999, most = map(at, SHARES)
        return cls(p50, p90, p99, p999, most, len(ordered) * calls_each, tuple(map(at, CURVE)))

    def plain(self) -> dict[str, float]:
        """Return the quantiles and the count by name, without the curve."""
        return dict(zip(self._fields[:6], self[:6], strict=True))


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


def time_cold(function: Callable[..., object], arguments: Sequence[tuple[object, ...]], n: int) -> Figures:
    """Time `n` single calls over the arguments in turn, each after a sleep and with the caches full of something else.

    It is how a guard finds its caches once a second. A last-level cache larger than COLD_BYTES keeps its part.
    """
    copied = memoryview(bytearray(COLD_BYTES))
    half, took_ns = COLD_BYTES // 2, array("q", bytes(8 * n))
    for given in arguments[:3]:
        function(*given)
    with _Undisturbed():
        for i in range(n):
            given = arguments[(i + 3) % len(arguments)]
            copied[:half] = copied[half:]
            sleep(COLD_SLEEP_S)
            start_ns = perf_counter_ns()
            function(*given)
            took_ns[i] = perf_counter_ns() - start_ns
    return Figures.of(took_ns)


def _warm_up(n: int) -> int:
    return int(n * WARM_UP_RATIO)


class _Undisturbed:
    """Keep the objects of the measurement itself out of the garbage collector's rounds; those of the calls stay in."""

    def __enter__(self) -> None:
        gc.collect()
        gc.freeze()

    def __exit__(self, *_: object) -> None:
        gc.unfreeze()
