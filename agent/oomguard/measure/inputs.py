"""What the stages are fed: 512 different windows, seeded, so that neither branches nor caches are flattered."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator
from itertools import pairwise

from oomguard import features, forest
from oomguard.errors import BundleError
from oomguard.profile import Profile
from oomguard.scorer import Model
from oomguard.sense.sample import NAN, Sample
from oomguard.trust.bundle import load_shipped
from oomguard.window import Window

SEED = 20251122
WINDOWS = 512
CADENCES_S = (0.1, 0.5, 1.0, 1.0, 1.0, 5.0, 10.0)
SHAPES = ("flat", "leak", "sawtooth", "steps", "walk", "burst")
MADE_TREES, MADE_DEPTH = 240, 5         # what stands in where no model is shipped
NEVER_REACHED = (2.0,) * 5              # thresholds of a quiet tick


def random_run(rng: random.Random, samples: int, start_s: float = 0.0, cadence_s: float = 0.0) -> Iterator[Sample]:
    """Yield one run's samples: a shape, a limit, a cadence and noise, each by chance; a fifth with swap and caches."""
    limit_bytes = float(rng.choice((64, 256, 512, 1024, 4096)) << 20)
    cadence_s = cadence_s or rng.choice(CADENCES_S)
    shape, speed = rng.choice(SHAPES), 10 ** rng.uniform(-5, -2.3)
    used, level, noise = rng.uniform(0.1, 0.7), 0.0, 10 ** rng.uniform(-5, -2)
    has_more, faults = rng.random() < 0.2, 0.0
    for i in range(samples):
        level = _next_level(rng, shape, level, speed * cadence_s, i)
        share = min(0.999, max(0.01, used + level + rng.gauss(0, noise)))
        headroom_bytes = (1 - share) * limit_bytes
        faults += rng.random() * share
        more = limit_bytes * 0.1 if has_more else NAN
        yield Sample(start_s + i * cadence_s, "cgroup:/app", limit_bytes, headroom_bytes, limit_bytes - headroom_bytes,
                     limit_bytes * min(1.0, share + 0.1), limit_bytes * 0.01, 8e9 * (1 - share / 2), 0.0, more, more,
                     faults * 1e4, faults * 1e3, faults * 50, faults, abs(rng.gauss(0, 1e-3)), more)


def _next_level(rng: random.Random, shape: str, level: float, step: float, i: int) -> float:
    if shape == "leak":
        return level + step
    if shape == "sawtooth":
        return (level + step) % 0.2
    if shape == "steps":
        return level + (step * 30 if i % 30 == 0 else 0.0)
    if shape == "walk":
        return level + rng.gauss(0, math.sqrt(step) / 10)
    return rng.uniform(0, 0.3) if shape == "burst" and rng.random() < 0.05 else level if shape == "burst" else 0.0


def windows(count: int = WINDOWS) -> list[Window]:
    """Return different windows: full ones, half-full ones, and ones whose limit changed on the way."""
    rng = random.Random(SEED)  # noqa: S311  no secret
    made: list[Window] = []
    while len(made) < count:
        window = Window.in_memory()
        cadence_s = rng.choice(CADENCES_S)
        seconds = rng.choice((45, 120, 300, 300, 300, 300, 600))
        for sample in random_run(rng, int(seconds / cadence_s) + 1, cadence_s=cadence_s):
            window.push(sample)
        if rng.random() < 0.1:
            for sample in random_run(rng, 60, window.last_t_s + 1, 1.0):
                window.push(sample)
        made.append(window)
    return made


def facts() -> list[array[float]]:
    """Return a few devices' static facts, some of them unknown."""
    return [features.statics(profile) for profile in (
        Profile(), Profile(ram_bytes=2e9, swap_bytes=0.0, cores=4),
        Profile(ram_bytes=5e8, swap_bytes=1e8, cores=1, heap_limit_bytes=6e7, bound_kind="aborts"))]


def model() -> tuple[Model, str]:
    """Return the shipped model, or a made one of common size, and in words which it is.

    Its ranges are opened so that it never abstains, and its thresholds are out of reach: every score walks all
    trees, every tick is a quiet one.
    """
    try:
        bundle = load_shipped()
        data, calibration, name = bundle.forest, bundle.calibration, bundle.model_id
        said = f"{name} (shipped)"
    except BundleError:
        data, calibration, name = made_forest(), ((),) * len(forest.HORIZONS_S), "made"
        said = f"made for the measurement, {MADE_TREES} trees of depth {MADE_DEPTH}: no model is shipped"
    open_forest = forest.Forest(data, [-math.inf] * features.COUNT, [math.inf] * features.COUNT, calibration)
    return Model(name, "", open_forest, NEVER_REACHED, 0.9, {}), said


def made_forest(trees: int = MADE_TREES, depth: int = MADE_DEPTH, most_features: int = features.COUNT) -> bytes:
    """Return a forest of random splits, each at a value that the made windows really take.

    Args: trees, depth: its shape. most_features: how many different features its splits may use.
    """
    rng = random.Random(SEED)  # noqa: S311  no secret
    rows = [features.of(window.buffer, facts()[1]) for window in windows(64)]
    known = [sorted({row[at] for row in rows if row[at] == row[at]}) for at in range(features.COUNT)]
    telling = [at for at, values in enumerate(known) if len(values) > 8][:most_features]
    thresholds: list[float] = []
    splits: list[int] = []
    for _ in range(trees * ((1 << depth) - 1)):
        at = rng.choice(telling)
        thresholds.append(rng.choice(known[at]))
        splits.append(2 * at + rng.randrange(2))
    leaves = [rng.gauss(0, 0.1) for _ in range(trees << depth)]
    return forest.pack(forest.Trees(depth, 1, "softmax", 1.0, [0.0] * forest.CLASSES,
                                    [i % forest.CLASSES for i in range(trees)], thresholds, splits, leaves))


def series_rows(samples: list[Sample]) -> array[float]:
    """Return a run as the kernel's `series` reads it: float64[19][n], see oomguard.series."""
    numbers = [name for name in Sample._fields if name not in ("constraint", "phase")]
    rows = array("d")
    for name in numbers:
        rows.extend(getattr(sample, name) for sample in samples)
    segments = [1.0]
    for before, after in pairwise(samples):
        segments.append(segments[-1] + (before.limit_bytes != after.limit_bytes))
    for row in ([NAN] * len(samples), segments, [NAN] * len(samples)):
        rows.extend(row)
    return rows
