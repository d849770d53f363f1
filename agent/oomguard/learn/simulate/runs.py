"""Turn shapes into simulated runs: what a sensor would have read, and when the kernel would have struck."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from oomguard.learn.dataset import NUMBERS, Run
from oomguard.learn.simulate import shapes
from oomguard.profile import NAN, Profile

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from oomguard.learn.simulate.shapes import Shape

MIB = 1 << 20
LIMIT_BYTES = (56 * MIB, 4800 * MIB)      # evenly on a logarithmic scale
CADENCES_S = (0.1, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0, 5.0, 10.0)
# Bursts and late leaks begin from a low level that stands still, and most low levels in the field are no such
# beginning: without these runs 5 % of a limit was an alarm.
IDLE_SHARE = 0.25
FASTEST_LONG_CADENCE_S = 0.5              # below it, runs are kept short: a file of 0.1 s samples is all the same


def simulate(count: int, seed: int) -> list[Run]:
    """Return `count` simulated runs: a quarter idle, else as many leaks as quiet ones. The same seed gives the same."""
    rngs = np.random.default_rng(seed).spawn(count)
    return [simulate_one(at, rng) for at, rng in enumerate(rngs)]


def simulate_one(number: int, rng: Generator) -> Run:
    """Return one run: draw a device, a cadence, a shape, and read it as a sensor would."""
    cadence_s = float(rng.choice(CADENCES_S))
    longest_s = 400.0 if cadence_s < FASTEST_LONG_CADENCE_S else 1800.0
    t_s = np.arange(0.0, math.exp(rng.uniform(math.log(60.0), math.log(longest_s))), cadence_s)
    if rng.random() < 0.5:
        t_s = t_s + rng.uniform(0.0, 0.05 * cadence_s, len(t_s))
    makers = (shapes.idle,) if rng.random() < IDLE_SHARE else shapes.LEAKS if rng.random() < 0.5 else shapes.QUIET
    shape = makers[int(rng.integers(len(makers)))](t_s, rng)
    need = _textured(_with_start_up(shape.curve, t_s, rng), rng)
    return _observe(f"simulated-{number:05d}", shape, t_s, need, rng)


def _with_start_up(curve: NDArray[np.float64], t_s: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    """Let most runs begin small and climb to their curve, as programs do; the others are met in mid-life."""
    if rng.random() < 0.3:
        return curve
    return np.asarray(curve * (1 - rng.uniform(0.3, 1.0) * np.exp(-t_s / rng.uniform(0.3, 12.0))), np.float64)


def _textured(need: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    """Add noise and the grain of an allocator, or neither."""
    if rng.random() < 0.5:
        need = need + rng.normal(0.0, math.exp(rng.uniform(math.log(1e-4), math.log(8e-3))), len(need))
    if rng.random() < 0.4:
        grain = math.exp(rng.uniform(math.log(2e-4), math.log(1.5e-2)))
        need = np.floor(need / grain) * grain
    return np.maximum(need, 3e-4)


def _observe(run_id: str, shape: Shape, t_s: NDArray[np.float64], need: NDArray[np.float64], rng: Generator) -> Run:
    limit = math.exp(rng.uniform(math.log(LIMIT_BYTES[0]), math.log(LIMIT_BYTES[1])))
    profile, abort_ratio = _profile(shape, limit, rng)
    swap_ratio = rng.uniform(0.1, 1.0) if rng.random() < 0.15 else 0.0
    kernel = rng.uniform(0.0, 0.03) + rng.uniform(0.0, 0.02) * need
    last, kill_s = _end(t_s, need + kernel, min(1.0 + swap_ratio, abort_ratio + kernel[0]))
    kept = slice(0, max(last, 2))
    t_s, need, kernel = t_s[kept], need[kept], kernel[kept]
    columns = _columns(t_s, need, kernel, limit, swap_ratio, profile.ram_bytes, rng)
    keep = _not_lost(t_s, rng)
    phases = _phases(shape, t_s, need, rng)
    return Run(
        run_id=run_id, app=f"simulated {shape.kind}", device_type="simulated", profile=profile,
        columns={name: values[keep] for name, values in columns.items()},
        constraint=["simulated"] * len(keep), phase=[phases[at] for at in keep],
        kills_s=np.array([kill_s] if math.isfinite(kill_s) else []),
        releases_s=t_s[[at for at in shape.releases if at < len(t_s)]],
        ended="oom" if math.isfinite(kill_s) else "stopped",
        end_s=kill_s if math.isfinite(kill_s) else float(t_s[-1]), is_simulated=True)


def _end(t_s: NDArray[np.float64], taken: NDArray[np.float64], full: float) -> tuple[int, float]:
    """Return (samples before the end, time of the kill or inf)."""
    over = np.flatnonzero(taken >= full)
    over = over[over >= 2]
    return (int(over[0]), float(t_s[over[0]])) if len(over) else (len(t_s), math.inf)


def _profile(shape: Shape, limit: float, rng: Generator) -> tuple[Profile, float]:
    """Return the static facts, and the ratio at which an aborting bound kills (inf: there is none)."""
    ram = limit * math.exp(rng.uniform(0.0, math.log(256.0)))
    facts = {"ram_bytes": ram, "cores": float(rng.integers(1, 9)), "swap_bytes": rng.choice([0.0, 0.5, 1.0]) * ram,
             "limit_bytes": limit}
    facts = {name: value for name, value in facts.items() if rng.random() < 0.8}
    own, kind, abort_ratio = math.nan, "", math.inf
    if shape.bound_ratio == shape.bound_ratio:
        own, kind = shape.bound_ratio, shape.bound_kind
    elif rng.random() < 0.2:                  # the heap's own cap is reached before the limit
        own, kind = rng.uniform(0.3, 0.95), "aborts"
        abort_ratio = own
    elif rng.random() < 0.4:                  # a bound that has nothing to do with it: far above, or on another part
        own = rng.uniform(1.0, 3.0) if rng.random() < 0.75 else rng.uniform(0.05, 0.9)
        own, kind = own * rng.choice([1.0, 1.0, 12.0]), str(rng.choice(["evicts", "refuses", "aborts"]))
        kind = "evicts" if kind == "aborts" and own < 1.0 else kind
    if own == own and rng.random() < 0.6:     # known to the guard
        name = "heap_limit_bytes" if kind == "aborts" or rng.random() < 0.3 else "cache_capacity_bytes"
        facts[name] = own * limit
        facts["buffer_capacity_bytes"] = rng.uniform(0.01, 0.5) * limit if rng.random() < 0.2 else NAN
        return Profile(device_type="simulated", bound_kind=kind, **facts), abort_ratio
    return Profile(device_type="simulated", **facts), abort_ratio


def _columns(t_s: NDArray[np.float64], need: NDArray[np.float64], kernel: NDArray[np.float64], limit: float,
             swap_ratio: float, ram: float, rng: Generator) -> dict[str, NDArray[np.float64]]:
    """Return what a sensor reads, in bytes and counts, each group unknown in some runs."""
    n = len(t_s)
    full = rng.uniform(0.93, 1.0) - kernel                   # memory gives way to swap from here on
    used = np.minimum(need, full) if swap_ratio else need
    swapped = np.clip(need - used, 0.0, swap_ratio)
    cache = np.minimum(_page_cache(t_s, rng), np.maximum(1.0 - used - kernel, 0.0))
    charged = used + kernel + cache
    squeeze = np.where(charged > 0.985, np.maximum(charged - 0.5, 0.0) * rng.choice([0.0, 0.02, 0.2, 1.0]), 0.0)
    stall = squeeze * np.clip((need - 0.6) / 0.4, 0.02, 1.0) * rng.uniform(0.0, rng.choice([0.1, 0.4, 2.0]), n)
    stall = np.minimum(stall, 1.0)
    step_s = np.diff(t_s, prepend=t_s[0])
    known = {
        "limit_bytes": np.full(n, limit), "headroom_bytes": (1.0 - used + swap_ratio - swapped) * limit,
        "used_bytes": used * limit, "charged_bytes": charged * limit, "kernel_bytes": kernel * limit,
        "swap_used_bytes": swapped * limit, "swap_free_bytes": (swap_ratio - swapped) * limit,
        "swap_limit_bytes": np.full(n, swap_ratio * limit),
        "psi_some_us": np.cumsum(stall * step_s) * 1e6,
        "psi_full_us": np.cumsum(stall * step_s) * 1e6 * rng.uniform(0.3, 1.0),
        "refaults": np.floor(np.cumsum(squeeze * step_s) * math.exp(rng.uniform(-4.0, 1.5)) * limit / 4096),
        "major_faults": np.floor(np.cumsum(squeeze * step_s) * math.exp(rng.uniform(0.0, 9.0))),
        "late_s": np.where(rng.random(n) < 0.02, rng.exponential(0.1, n), 0.0) + stall * rng.exponential(1.0, n),
    }
    if ram == ram:
        others = rng.uniform(0.05, 0.7)
        known["available_bytes"] = np.maximum(ram * (1 - others) - used * limit, 0.02 * ram)
    if rng.random() < 0.3:
        known["evictable_bytes"] = rng.uniform(0.0, 0.6) * used * limit
    for group in (("psi_some_us", "psi_full_us"), ("refaults", "major_faults"), ("kernel_bytes",), ("charged_bytes",),
                  ("available_bytes",)):
        if rng.random() < 0.2:
            for name in group:
                known.pop(name, None)
    nothing = np.full(n, np.nan)
    return {"t_s": t_s, **{name: known.get(name, nothing) for name in NUMBERS}}


def _phases(shape: Shape, t_s: NDArray[np.float64], need: NDArray[np.float64], rng: Generator) -> list[str | None]:
    """Return what the app says of itself: that it loads, until it holds what it is meant to; in half of the runs."""
    loaded_s = rng.uniform(3.0, 20.0)
    if shape.kind in shapes.LOADING:
        loaded_s = max(loaded_s, float(t_s[np.flatnonzero(need >= 0.98 * need.max())[0]]))
    is_told = rng.random() < 0.5
    return [("loading" if t < loaded_s else "steady") if is_told else None for t in t_s.tolist()]


def _page_cache(t_s: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    """Files read: little, a steady stream that fills whatever is free, or all at once."""
    kind = rng.choice(["little", "stream", "all"], p=[0.5, 0.3, 0.2])
    if kind == "little":
        return np.full(len(t_s), rng.uniform(0.0, 0.05))
    return t_s * rng.uniform(0.001, 0.05) if kind == "stream" else np.full(len(t_s), 1.0)


def _not_lost(t_s: NDArray[np.float64], rng: Generator) -> NDArray[np.intp]:
    """Return which samples arrived: in a few runs the guard itself was held up for seconds."""
    keep = np.ones(len(t_s), bool)
    if rng.random() < 0.1:
        begin_s = rng.uniform(0.0, t_s[-1])
        keep[(t_s > begin_s) & (t_s < begin_s + rng.uniform(2.0, 25.0))] = False
    keep[:2] = True
    return np.flatnonzero(keep)
