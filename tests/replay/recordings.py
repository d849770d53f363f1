"""Recordings for tests: random ones, the project's real ones, and the way into the table format."""

from __future__ import annotations

import random
from math import isnan, nan
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oomguard import forest
from oomguard.decide.plan import Action, Bounds, Condition, Plan, Release, Rule, TargetPlan
from oomguard.features import COUNT
from oomguard.profile import Profile
from oomguard.replay.recording import RecordedRun
from oomguard.sense.sample import Sample
from oomguard.series import NUMBERS
from oomguard.trust.bundle import Bundle, Thresholds

SAMPLE = Path(__file__).parents[2] / "models" / "recordings" / "sample"
WHOLE = [name for name in NUMBERS if name not in ("t_s", "late_s")]
PHASES = ("menu", "playback", "unheard-of")


def run_of(samples: list[Sample], **more) -> RecordedRun:
    """Return a recorded run of these samples."""
    columns = {name: np.array([getattr(sample, name) for sample in samples], np.float64) for name in NUMBERS}
    return RecordedRun(more.pop("run_id", "run"), more.pop("app", "app"),
                       more.pop("profile", Profile(ram_bytes=2e9, cores=2.0)), columns,
                       [sample.constraint for sample in samples], [sample.phase for sample in samples], **more)


def random_samples(seed: int, length: int, cadence_s: float = 1.0) -> list[Sample]:
    """Return a run as a sensor gives it: rising memory, pauses, gaps, new limits, phases, whole bytes."""
    rng = random.Random(seed)
    t_s, limit, used, constraint, phase, some, full = rng.random(), 1 << 28, 1 << 26, "cgroup:/app", None, 0, 0
    slope = 0.0
    samples = []
    for number in range(length):
        t_s += (30.0 if rng.random() < 0.004 else 0.0) + cadence_s * (1 + rng.random() * 1e-4)
        if rng.random() < 0.03:
            slope = rng.choice([0.0, 1e5, 1e6, 3e6, -2e6])
        used = int(min(max(used + slope * cadence_s + rng.gauss(0, 3e4), 1e6), limit * 0.995))
        if rng.random() < 0.005:
            limit, constraint = rng.choice([1 << 28, (1 << 28) + 4096, 1 << 29]), rng.choice(["cgroup:/app", "machine"])
            used = min(used, int(limit * 0.9))
        if rng.random() < 0.02:
            phase = rng.choice([None, *PHASES])
        some += int(cadence_s * rng.choice([0, 0, 1e4, 6e5]))
        full += int(cadence_s * rng.choice([0, 0, 0, 3e5]))
        late_s = float(np.float32(rng.random() * 0.01))
        available = nan if number % 97 == 0 else float(rng.randrange(1 << 20, 1 << 31))
        samples.append(Sample(
            t_s, constraint, float(limit), float(limit - used), float(used), float(used + 4096), 4096.0, available, 0.0,
            0.0, 0.0, float(some), float(full), float(number * 3), float(number), late_s, nan, phase))
    return samples


def random_bundle(seed: int, leaf_size: int = 1, depth: int = 4, count: int = 24) -> Bundle:
    """Return a bundle whose forest splits at random but within what features are, so that forecasts move."""
    rng, inner = random.Random(seed), (1 << depth) - 1
    trees = forest.Trees(
        depth, leaf_size, "average" if leaf_size > 1 and seed % 2 else "softmax",
        1.0 if leaf_size == 1 else 1.0 / count, [0.0] * 6, [rng.randrange(6) for _ in range(count)],
        [np.float32(rng.choice([rng.random(), rng.gauss(0, 1e-2), rng.random() * 600])).item()
         for _ in range(count * inner)],
        [2 * rng.choice([rng.randrange(COUNT), 0, 1, 7, 12, 17]) + rng.randrange(2) for _ in range(count * inner)],
        [np.float32(rng.random() if leaf_size > 1 else rng.gauss(0, 0.5)).item()
         for _ in range(count * (inner + 1) * leaf_size)])
    if trees.transform == "average":        # leaves are probabilities that sum to one
        leaves = np.array(trees.leaves).reshape(-1, 6)
        trees = trees._replace(leaves=(leaves / leaves.sum(axis=1, keepdims=True)).astype(np.float32).ravel().tolist())
    return Bundle("", f"random-{seed}", 1, f"{seed:064x}", forest.pack(trees), (float("-inf"),) * COUNT,
                  (float("inf"),) * COUNT, ((),) * 5,
                  {"default": Thresholds(0.25, 0.35, 0.45, 0.55, 0.65), "other": Thresholds(0.1, 0.2, 0.3, 0.4, 0.5)},
                  {"menu": 0, "playback": 1})


def random_plan(seed: int, cadence_s: float = 1.0) -> Plan:
    """Return rules of every kind of condition, nested, held and latched, also with `until` on the wrong side."""
    rng = random.Random(seed)
    rules = tuple(Rule(f"rule {i}", _condition(rng, 0), (Action("any", Release("needed")),) * rng.randrange(1, 3),
                       rng.choice([0.0, 2.0, 30.0])) for i in range(rng.randrange(1, 5)))
    return Plan((TargetPlan("app", "self"),), rules,
                bounds=Bounds(rng.choice([1, 3, 12, 60]), rng.choice([0.0, 1.0, 7.0])), cadence_s=cadence_s)


def _condition(rng: random.Random, depth: int) -> Condition:
    for_s = rng.choice([0.0, 0.0, 1.0, 3.0, 20.0])
    if depth < 3 and rng.random() < 0.4:
        test = rng.choice(["any", "all", "not"])
        parts = tuple(_condition(rng, depth + 1) for _ in range(1 if test == "not" else rng.randrange(1, 4)))
        return Condition(test, for_s=for_s, parts=parts)
    test, value, word, within_s = rng.choice([
        ("level_at_least", float(rng.randrange(1, 6)), "", 0.0), ("probability_above", rng.random(), "", 60.0),
        ("probability_above", rng.random(), "", 300.0), ("used_above", rng.random(), "", 0.0),
        ("charged_above", rng.random(), "", 0.0), ("headroom_below", rng.random(), "", 0.0),
        ("available_below", rng.random(), "ram", 0.0),
        ("available_below", 1e9, "", 0.0), ("time_to_limit_below", rng.random() * 300, "", 0.0),
        ("pressure_above", rng.random() * 0.5, rng.choice(["some", "full"]), 0.0),
        ("phase", 0.0, rng.choice(PHASES), 0.0)])
    until = None
    if test != "phase" and rng.random() < 0.4:
        until = value * rng.choice([0.5, 0.9, 1.0, 1.1, 2.0])
    return Condition(test, value, within_s, word, for_s, until)


def write_tables(folder: Path, runs: list[RecordedRun], **columns) -> str:
    """Write runs in the table format, numbers as whole ones where the format says so; `columns` go to `runs`."""
    rows = {name: [] for name in ("run_id", *NUMBERS, "constraint", "phase")}
    for run in runs:
        rows["run_id"] += [run.run_id] * len(run.t_s)
        for name in NUMBERS:
            values = run.columns[name].tolist()
            rows[name] += [None if isnan(x) else int(x) if name in WHOLE else x for x in values]
        rows["constraint"] += run.constraints
        rows["phase"] += run.phases
    types = {name: pa.int64() for name in WHOLE} | {"late_s": pa.float32(), "phase": pa.string()}
    pq.write_table(pa.table({name: pa.array(values, types.get(name)) for name, values in rows.items()}),
                   folder / "samples.parquet")
    told = [{"run_id": run.run_id, "app": run.app, "device_type": run.profile.device_type, "sdk_version": "1",
             "heap_limit_bytes": None, "ended": run.ended, "ended_after_s": run.ended_after_s,
             "bundle_digest": run.recorded_with.bundle or None, "rules_digest": run.recorded_with.rules or None,
             "profile_digest": run.recorded_with.profile or None, "agent_version": run.recorded_with.version or None,
             "scorer": run.recorded_with.scorer or None, **columns} for run in runs]
    pq.write_table(pa.Table.from_pylist(told), folder / "runs.parquet")
    pq.write_table(pa.Table.from_pylist([
        {"device_type": run.profile.device_type, "sdk_version": "1", "ram_bytes": int(run.profile.ram_bytes),
         "cores": int(run.profile.cores)} for run in runs]), folder / "devices.parquet")
    actions = [{"run_id": run.run_id, "t_s": each.t_s, "rule": each.rule, "hook": each.hook, "level": each.level,
                "requested_bytes": int(each.requested_bytes), "freed_bytes": None if isnan(each.freed_bytes)
                else int(each.freed_bytes), "duration_s": each.duration_s} for run in runs for each in run.actions]
    if actions:
        pq.write_table(pa.Table.from_pylist(actions), folder / "actions.parquet")
    kills = [{"run_id": run.run_id, "t_s": each.t_s, "pid": each.pid, "killer": each.killer, "whole_target": True}
             for run in runs for each in run.kills]
    if kills:
        pq.write_table(pa.Table.from_pylist(kills), folder / "kills.parquet")
    return str(folder)
