"""Random windows for property tests: every kind of number, gap, cadence and change that a device may show."""

from __future__ import annotations

import random
from math import nan

from oomguard.features import statics
from oomguard.profile import Profile
from oomguard.sense.sample import Sample
from oomguard.window import Window

LIMIT_BYTES = float(256 << 20)


def plain_sample(t_s: float, headroom_bytes: float, limit_bytes: float = LIMIT_BYTES, **more: float) -> Sample:
    """Return a sample of which only the essentials are known."""
    return Sample(t_s, "cgroup:/app", limit_bytes, headroom_bytes, limit_bytes - headroom_bytes, **more)  # type: ignore[arg-type]


def random_profile(rng: random.Random) -> Profile:
    """Return a profile in which any fact may be unknown."""
    return Profile(ram_bytes=rng.choice([nan, 5e8, 2e9]), swap_bytes=rng.choice([nan, 0.0, 1e8]),
                   cores=rng.choice([nan, 1.0, 4.0]),
                   cache_capacity_bytes=rng.choice([nan, 5e7]), buffer_capacity_bytes=rng.choice([nan, 1e6]),
                   heap_limit_bytes=rng.choice([nan, 6e7]), bound_kind=rng.choice(["", "evicts", "refuses", "aborts"]))


def random_facts(rng: random.Random):
    """Return the static facts of a random profile, as the kernel reads them."""
    return statics(random_profile(rng))


def random_run(seed: int, length: int):
    """Yield (sample, segment, phase id) of a run with gaps, repeated times, unknown numbers and new constraints."""
    rng = random.Random(seed)
    cadence_s = rng.choice([0.1, 0.37, 0.5, 1.0, 1.0, 3.0, 10.0])
    limit_bytes = rng.choice([1e8, 3e8 + 1, float(1 << 28)])
    t_s, segment, phase_id = rng.choice([0.0, 0.662, 1e6]), 1, rng.choice([nan, 1.0])
    for _ in range(length):
        step_s = cadence_s * rng.choice([1, 1, 1, 1.01, 0.9, 2])
        t_s += rng.choice([40.0, 400.0, -1.0, 0.0]) if rng.random() < 0.01 else step_s
        if rng.random() < 0.01:
            segment += 1
        if rng.random() < 0.05:
            phase_id = rng.choice([nan, 1.0, 2.0])
        yield _random_sample(rng, max(t_s, 0.0), limit_bytes), segment, phase_id


def _random_sample(rng: random.Random, t_s: float, limit_bytes: float) -> Sample:
    def some(scale: float) -> float:
        return nan if rng.random() < 0.2 else rng.random() * scale

    return Sample(
        t_s,
        "cgroup:/app",
        limit_bytes,
        (rng.random() * 1.01 - 0.01) * limit_bytes,
        some(limit_bytes),
        some(limit_bytes),
        some(limit_bytes),
        some(2e9),
        some(1e8),
        some(1e8),
        some(1e8),
        some(1e6) + t_s * 1e3,
        t_s * 100,
        t_s * 7,
        float(int(t_s)),
        rng.random() * 0.1,
        some(limit_bytes),
    )


def window_of(headrooms_bytes: list[float], cadence_s: float = 1.0, limit_bytes: float = LIMIT_BYTES) -> Window:
    """Return a window in memory that has seen these headrooms, one per cadence."""
    window = Window.in_memory()
    for i, headroom in enumerate(headrooms_bytes):
        window.push(plain_sample(i * cadence_s, headroom, limit_bytes))
    return window
