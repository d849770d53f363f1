"""A recording as the five tables of DESIGN 4.9: the same columns, in the same order and types, NULL where unknown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from oomguard.profile import BOUND_KINDS, Profile
from oomguard.record.runs import COLUMNS, JournalRun, profile_digest, profile_told

_TEXT, _INT, _REAL = pa.string(), pa.int64(), pa.float64()


def _schema(text: str = "", **others: pa.DataType) -> pa.Schema:
    names = [name.partition(":") for name in text.split()]
    kinds = {"": _TEXT, "i": _INT, "d": _REAL, **others}
    return pa.schema([(name, kinds[kind]) for name, _colon, kind in names])


SCHEMAS = {
    "devices": _schema("device_type sdk_version ram_bytes:i swap_bytes:i cores:i cache_capacity_bytes:i"
                       " buffer_capacity_bytes:i ui_resolution chipset brand"),
    "runs": _schema("run_id boot_id device_id device_type sdk_version app app_version limit_bytes:i"
                    " cache_capacity_bytes:i heap_limit_bytes:i bound_kind started_at:us ended ended_after_s:d"
                    " bundle_digest rules_digest profile_digest agent_version scorer", us=pa.timestamp("us", tz="UTC")),
    "samples": _schema("run_id t_s:d constraint limit_bytes:i headroom_bytes:i used_bytes:i charged_bytes:i"
                       " kernel_bytes:i available_bytes:i swap_used_bytes:i swap_free_bytes:i swap_limit_bytes:i"
                       " psi_some_us:i psi_full_us:i refaults:i major_faults:i late_s:f evictable_bytes:i phase",
                       f=pa.float32()),
    "kills": _schema("run_id t_s:d pid:i killer whole_target:b", b=pa.bool_()),
    "actions": _schema("run_id t_s:d rule hook level:b requested_bytes:i freed_bytes:i duration_s:d", b=pa.int8()),
}
DEVICE_FACTS = ("ram_bytes", "swap_bytes", "cores", "buffer_capacity_bytes")


class Account(NamedTuple):
    """What the tables do not show as it was recorded."""

    after_kill: int         # samples at or after a kill of the whole target: left out
    not_whole: int          # fractions in a column of integers: rounded down, so a replay may differ
    not_finite: int         # numbers beyond int64: NULL
    mixed_digests: int      # runs whose rules, model or profile changed within: NULL, for there is not one

    def lines(self) -> list[str]:
        """Return what is worth telling, one line each."""
        told = [
            (self.after_kill, f"{self.after_kill} samples at or after a kill left out"),
            (self.not_whole, f"{self.not_whole} fractions rounded down to integers"),
            (self.not_finite, f"{self.not_finite} numbers beyond 64 bits are NULL"),
            (self.mixed_digests, f"{self.mixed_digests} runs changed rules, model or profile: their digest is NULL"),
        ]
        return [line for count, line in told if count]


class Tables:
    """Makes the tables of some runs, and keeps the account."""

    def __init__(self, runs: list[JournalRun]) -> None:
        self._runs = runs
        self._after_kill = self._not_whole = self._not_finite = self._mixed = 0

    @property
    def account(self) -> Account:
        """What the tables made so far do not show."""
        return Account(self._after_kill, self._not_whole, self._not_finite, self._mixed)

    def devices(self) -> pa.Table:
        """Return one row per device type and SDK version; where runs disagree, what most of them say."""
        votes: dict[tuple[str, str], dict[str, Counter[int]]] = {}
        for run in self._runs:
            profile = profile_told(run) or Profile()
            facts = votes.setdefault(_device(run), {name: Counter() for name in DEVICE_FACTS})
            for name in DEVICE_FACTS:
                value = _whole(getattr(profile, name))
                if value is not None:
                    facts[name][value] += 1
        rows = [{"device_type": device, "sdk_version": sdk or None,
                 **{name: max(counts, key=lambda value: (counts[value], value)) if counts else None
                    for name, counts in facts.items()}}
                for (device, sdk), facts in sorted(votes.items())]
        return _table("devices", rows)

    def runs(self) -> pa.Table:
        """Return one row per run."""
        return _table("runs", [self._run_row(run) for run in self._runs])

    def _run_row(self, run: JournalRun) -> dict[str, Any]:
        told, facts = profile_told(run), run.facts
        profile = told or Profile()
        digests = {"bundle_digest": _text(facts.get("bundle_digest")), "rules_digest": _text(facts.get("rules_digest")),
                   "profile_digest": profile_digest(told) if told is not None else None,
                   "agent_version": _text(facts.get("agent_version")), "scorer": _text(facts.get("scorer"))}
        mixed = {name for name in digests if name.removesuffix("_digest") in run.mixed or name in run.mixed}
        self._mixed += bool(mixed)
        device_type, sdk_version = _device(run)
        return {
            "run_id": run.run_id, "boot_id": _text(facts.get("boot_id")), "device_id": _text(facts.get("device_id")),
            "device_type": device_type, "sdk_version": sdk_version or None, "app": _text(facts.get("app")),
            "app_version": _text(facts.get("app_version")), "limit_bytes": _limit(run, profile),
            "cache_capacity_bytes": _whole(profile.cache_capacity_bytes),
            "heap_limit_bytes": _whole(profile.heap_limit_bytes),
            "bound_kind": profile.bound_kind if profile.bound_kind in BOUND_KINDS else None,
            "started_at": run.started_at_us, "ended": run.ended,
            "ended_after_s": _real(run.ended_after_s), **digests, **dict.fromkeys(mixed)}

    def samples(self) -> Iterator[pa.Table]:
        """Yield the samples, one table per run."""
        for run in self._runs:
            yield self._samples_of(run)

    def _samples_of(self, run: JournalRun) -> pa.Table:
        times, kill_s = run.column("t_s"), run.whole_kill_s
        is_kept = np.isfinite(times) if math.isnan(kill_s) else times < kill_s
        self._after_kill += int(np.count_nonzero(times >= kill_s))
        self._not_finite += int(np.count_nonzero(~np.isfinite(times)))
        columns: dict[str, Any] = {}
        for name in SCHEMAS["samples"].names:
            if name in COLUMNS:
                values = run.column(name)[is_kept]
                columns[name] = self._integers(values) if SCHEMAS["samples"].field(name).type == _INT else \
                    pa.array(values, mask=np.isnan(values)).cast(SCHEMAS["samples"].field(name).type, safe=False)
        constraints, phases = run.names()
        kept = np.flatnonzero(is_kept).tolist()
        columns["constraint"] = pa.array([constraints[at] for at in kept], _TEXT)
        columns["phase"] = pa.array([phases[at] for at in kept], _TEXT)
        columns["run_id"] = pa.array([run.run_id] * len(kept), _TEXT)
        return pa.table([columns[name] for name in SCHEMAS["samples"].names], schema=SCHEMAS["samples"])

    def _integers(self, values: NDArray[np.float64]) -> pa.Array:
        """Return int64, NULL where unknown."""
        unknown = np.isnan(values)
        beyond = ~unknown & ~(np.abs(values) < 2.0**63)
        whole = np.floor(np.where(unknown | beyond, 0.0, values))
        self._not_finite += int(np.count_nonzero(beyond))
        self._not_whole += int(np.count_nonzero(~unknown & ~beyond & (whole != values)))
        return pa.array(whole.astype(np.int64), mask=unknown | beyond)

    def kills(self) -> pa.Table:
        """Return one row per kill."""
        return _table("kills", [
            {"run_id": run.run_id, "t_s": _real(kill.t_s), "pid": kill.pid if kill.pid >= 0 else None,
             "killer": kill.killer, "whole_target": kill.whole_target}
            for run in self._runs for kill in sorted(run.kills, key=_time)])

    def actions(self) -> pa.Table:
        """Return one row per hook that was asked."""
        return _table("actions", [
            {"run_id": run.run_id, "t_s": _real(action.t_s), "rule": action.rule, "hook": action.hook,
             "level": action.level, "requested_bytes": _whole(action.requested_bytes),
             "freed_bytes": _whole(action.freed_bytes), "duration_s": _real(action.duration_s)}
            for run in self._runs for action in sorted(run.actions, key=_time)])


def _table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMAS[name])


def _time(event: Any) -> float:
    return event.t_s if math.isfinite(event.t_s) else math.inf


def _device(run: JournalRun) -> tuple[str, str]:
    profile = profile_told(run) or Profile()
    return profile.device_type, profile.sdk_version


def _limit(run: JournalRun, profile: Profile) -> int | None:
    """Return the limit that the run began under: the profile's own, else that of the first binding constraint."""
    told = _whole(profile.limit_bytes)
    limits = run.column("limit_bytes")
    known = limits[limits > 0]
    return told if told is not None or not len(known) else _whole(float(known[0]))


def _text(value: object) -> str | None:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and value else None


def _whole(value: float) -> int | None:
    return math.floor(value) if abs(value) < 2**63 else None


def _real(value: float) -> float | None:
    return value if math.isfinite(value) else None
