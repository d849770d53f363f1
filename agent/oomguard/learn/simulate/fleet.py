"""Simulate a fleet of TV-like devices: types with facts of their own, an app with phases, kills that differ by type.

Everything here is invented, and marked so (`is_simulated`): it proves that cleaning, labels and thresholds find what
was put in, and never counts in a reported figure. What is invented:

- *Device types* follow ARCHETYPES in turn, RAM, limit, cores and capacities drawn around theirs, 2 or 3 SDK versions
  each, rarer from type to type (the popularity of the k-th is 1/k), so that the last ones have few kills or none.
- *Facts are dirty* as Netflix found them: each (type, SDK version) is reported by several devices, of which some
  state another RAM or capacity, some nothing; the majority is right, and `simulated.json` holds what is right.
- *The app* goes round three phases. browse fills the image cache up to its capacity; detail holds some more for
  seconds; playback fills the buffer and gives back half of the cache. Under all of it lies a leak in about half of the
  runs, the whole limit in 20 minutes to 2 hours; the others never pass the level their phases need.
- *Kills*: at rate `stray_per_h` below the type's own critical ratio, once in `holds_s` seconds at and beyond it, and at
  once at the limit. A premature type kills far below its stated limit, a sharp one just before it, and one
  without a sharp peak hardly kills faster beyond its threshold than it fills: all three of Netflix's shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.learn.thresholds.histograms import FLAT, NEAR, PREMATURE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.random import Generator
    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

    Reals = NDArray[np.float64]

MIB = 1 << 20
MARK = "simulated-"                 # begins run_id, app, device_type and brand of every simulated row
PHASES = ("browse", "detail", "playback")
CADENCES_S = (1.0, 2.0, 5.0)


class Archetype(NamedTuple):
    """What device types of one kind have in common."""

    name: str
    shape: str                      # histograms.PREMATURE, FLAT or NEAR: what is to be found
    ram_mib: int
    limit_mib: int
    cores: int
    critical_ratio: float           # give or take 0.03 for each type
    holds_s: float                  # mean life at and beyond the critical ratio
    stray_per_h: float              # kills per hour below it


class DeviceType(NamedTuple):
    """One device type, its planted truth included."""

    name: str
    shape: str
    critical_ratio: float
    holds_s: float
    stray_per_h: float
    sdk_versions: tuple[str, ...]
    ram_bytes: int
    limit_bytes: int
    cores: int
    cache_capacity_bytes: int
    buffer_capacity_bytes: int
    popularity: float


class SimulatedRun(NamedTuple):
    """One run: its row of `runs`, its columns of `samples`, and when it was killed (NaN: it was not)."""

    row: dict[str, Any]
    columns: dict[str, Reals]
    phases: list[str]
    kill_s: float


ARCHETYPES = (
    Archetype("stb", NEAR, 1024, 320, 2, 0.93, 20.0, 0.01),
    Archetype("stick", PREMATURE, 1536, 420, 4, 0.60, 20.0, 0.01),
    Archetype("tv", FLAT, 2048, 512, 4, 0.42, 1200.0, 0.2),
    Archetype("console", NEAR, 8192, 1536, 8, 0.95, 8.0, 0.01),
    Archetype("projector", PREMATURE, 1024, 256, 2, 0.72, 30.0, 0.01),
    Archetype("frame", FLAT, 768, 192, 1, 0.47, 1200.0, 0.2),
)


def is_simulated(run_row: Mapping[str, Any]) -> bool:
    """Return whether a row of `runs` was made here: any of run_id, app and device_type begins with MARK."""
    return any(str(run_row.get(name) or "").startswith(MARK) for name in ("run_id", "app", "device_type"))


def run_is_simulated(run: Run) -> bool:
    """Return whether a run that was read was made here, or by runs.py."""
    return run.is_simulated or is_simulated({"run_id": run.run_id, "app": run.app, "device_type": run.device_type})


def device_types(count: int, seed: int) -> list[DeviceType]:
    """Return the types of a fleet, the most popular first. The same seed gives the same types."""
    return [_device_type(at, rng) for at, rng in enumerate(np.random.default_rng([seed, 1]).spawn(count))]


def runs_of(types: list[DeviceType], count: int, seed: int) -> Iterator[SimulatedRun]:
    """Yield `count` runs of the fleet, each from a generator of its own: a longer fleet begins like a shorter one."""
    popularity = np.array([kind.popularity for kind in types])
    rngs = np.random.default_rng([seed, 2]).spawn(count)
    for number, rng in enumerate(rngs):
        kind = types[int(rng.choice(len(types), p=popularity / popularity.sum()))]
        yield _run(number, kind, seed, rng)


def device_rows(types: list[DeviceType], seed: int) -> list[dict[str, Any]]:
    """Return the dirty rows of `devices`: 5 to 9 reports for each type and SDK version, the majority right."""
    rng = np.random.default_rng([seed, 3])
    return [_reported(kind, sdk, at, reports, rng) for kind in types for sdk in kind.sdk_versions
            for reports in [int(rng.integers(5, 10))] for at in range(reports)]


def facts_of(kind: DeviceType) -> dict[str, int]:
    """Return the facts of a type as they are: what cleaning has to find."""
    return {"ram_bytes": kind.ram_bytes, "swap_bytes": 0, "cores": kind.cores,
            "cache_capacity_bytes": kind.cache_capacity_bytes, "buffer_capacity_bytes": kind.buffer_capacity_bytes}


def _device_type(at: int, rng: Generator) -> DeviceType:
    model = ARCHETYPES[at % len(ARCHETYPES)]
    limit = int(model.limit_mib * rng.uniform(0.85, 1.15)) * MIB
    return DeviceType(
        f"{MARK}{model.name}-{2015 + at // len(ARCHETYPES)}", model.shape,
        round(float(model.critical_ratio + rng.uniform(-0.03, 0.03)), 3), model.holds_s, model.stray_per_h,
        tuple(f"{major}.{int(rng.integers(0, 5))}" for major in range(3, 5 + int(rng.integers(0, 2)))),
        model.ram_mib * MIB, limit, model.cores, int(rng.uniform(0.12, 0.2) * limit),
        int(rng.uniform(0.08, 0.15) * limit), 1.0 / (1 + at))


def _reported(kind: DeviceType, sdk: str, at: int, reports: int, rng: Generator) -> dict[str, Any]:
    """Return one device's report: the first few lie or are silent, never so many that the truth is outvoted."""
    facts: dict[str, Any] = dict(facts_of(kind))
    if at < (reports - 1) // 2:
        for name in facts:
            strange = rng.random()
            facts[name] = None if strange < 0.4 else facts[name] // 2 if strange < 0.6 else facts[name]
    return {"device_type": kind.name, "sdk_version": sdk, **facts,
            "ui_resolution": "1080p" if rng.random() < 0.8 else None,
            "chipset": f"{MARK}soc-{kind.cores}", "brand": f"{MARK}brand"}


def _run(number: int, kind: DeviceType, seed: int, rng: Generator) -> SimulatedRun:
    cadence_s = float(rng.choice(CADENCES_S))
    t_s = np.arange(0.0, rng.uniform(900.0, 5400.0), cadence_s)
    phase, since_s = _phases(t_s, rng)
    cache, parts = _parts(phase, since_s, kind, rng)
    leak = t_s / np.exp(rng.uniform(np.log(1200.0), np.log(7200.0))) if rng.random() < 0.5 else 0.0
    used = np.maximum(rng.uniform(0.12, 0.3) + cache + parts + leak + rng.normal(0.0, 0.003, len(t_s)), 0.01)
    last, kill_s = _kill(t_s, used, cadence_s, kind, rng)
    kept = slice(0, last)
    columns = _columns(t_s[kept], np.minimum(used[kept], 1.0), cache[kept], kind, rng)
    ended = "oom" if kill_s == kill_s else "exit"
    run_id = f"{MARK}{seed}-{number:06d}"
    row = {"run_id": run_id, "boot_id": f"{run_id}-boot", "device_id": f"{run_id}-device", "device_type": kind.name,
           "sdk_version": str(rng.choice(kind.sdk_versions)), "app": f"{MARK}player", "app_version": "0",
           "limit_bytes": kind.limit_bytes, "cache_capacity_bytes": kind.cache_capacity_bytes, "bound_kind": "evicts",
           "ended": ended, "ended_after_s": kill_s if ended == "oom" else float(columns["t_s"][-1])}
    return SimulatedRun(row, columns, [PHASES[at] for at in phase[kept]], kill_s)


def _phases(t_s: Reals, rng: Generator) -> tuple[NDArray[np.int64], Reals]:
    """Return, for each moment, the phase (index of PHASES) and how long it has lasted."""
    spans: list[float] = []
    kinds: list[int] = []
    while sum(spans) <= t_s[-1]:
        spans += [rng.uniform(30.0, 240.0), rng.uniform(5.0, 40.0), rng.uniform(120.0, 1500.0)]
        kinds += [0, 1, 2]
    ends = np.cumsum(spans)
    piece = np.searchsorted(ends, t_s, side="right")
    return np.array(kinds)[piece], t_s - np.concatenate([[0.0], ends])[piece]


def _parts(phase: NDArray[np.int64], since_s: Reals, kind: DeviceType, rng: Generator) -> tuple[Reals, Reals]:
    """Return the image cache and what the phase itself holds, over the limit."""
    cache_full = kind.cache_capacity_bytes / kind.limit_bytes
    buffer_full = kind.buffer_capacity_bytes / kind.limit_bytes
    browsing, playing = phase == 0, phase == 2
    level, at = cache_full / 2, np.flatnonzero(np.diff(phase, prepend=-1))
    cache = np.zeros(len(phase))
    for begin, end in zip(at, [*at[1:], len(phase)], strict=True):       # each phase goes on from what the last left
        own = since_s[begin:end]
        cache[begin:end] = level if phase[begin] == 1 else (
            cache_full - (cache_full - level) * np.exp(-own / 60.0) if browsing[begin]
            else np.maximum(level * np.exp(-own / 20.0), cache_full / 2))
        level = float(cache[end - 1])
    own_parts = np.where(playing, buffer_full * np.minimum(since_s / 15.0, 1.0), np.where(phase == 1, 0.04, 0.0))
    return cache, own_parts + 0.02 * rng.random() * np.sin(since_s / 7.0) ** 2


def _kill(t_s: Reals, used: Reals, cadence_s: float, kind: DeviceType, rng: Generator) -> tuple[int, float]:
    """Return (samples before the kill, when it came or NaN): the hazard adds up until it passes a drawn life."""
    per_s = np.where(used >= kind.critical_ratio, 1.0 / kind.holds_s, kind.stray_per_h / 3600.0)
    lived = np.cumsum(per_s * cadence_s)
    over = np.flatnonzero((lived >= rng.exponential()) | (used >= 1.0))
    over = over[over >= 2]
    if not len(over):
        return len(t_s), float("nan")
    last = int(over[0])
    is_full = used[last] >= 1.0             # killed on its way there, the others while this reading stood
    return (last, float(t_s[last])) if is_full else (last + 1, float(t_s[last] + cadence_s * rng.uniform(0.05, 0.95)))


def _columns(t_s: Reals, used: Reals, cache: Reals, kind: DeviceType, rng: Generator) -> dict[str, Reals]:
    """Return what a sensor reads, in bytes and counts; NaN is unknown."""
    n, limit = len(t_s), kind.limit_bytes
    stall = np.clip((used - kind.critical_ratio) * 2.0, 0.0, 1.0) * rng.uniform(0.0, 0.3)
    step_s = np.diff(t_s, prepend=t_s[0])
    charged = np.minimum(used + rng.uniform(0.0, 0.1), 1.0)
    return {
        "t_s": t_s, "limit_bytes": np.full(n, float(limit)), "headroom_bytes": (1.0 - used) * limit,
        "used_bytes": used * limit, "charged_bytes": charged * limit,
        "available_bytes": kind.ram_bytes - used * limit - 0.25 * kind.ram_bytes,
        "psi_some_us": np.cumsum(stall * step_s) * 1e6, "psi_full_us": np.cumsum(stall * step_s) * 3e5,
        "major_faults": np.floor(np.cumsum(stall * step_s) * 40.0),
        "late_s": np.where(rng.random(n) < 0.02, rng.exponential(0.05, n), 0.0),
        "evictable_bytes": cache * limit if rng.random() < 0.7 else np.full(n, np.nan),
    }
