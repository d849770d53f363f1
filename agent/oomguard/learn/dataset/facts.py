"""Static facts: what the rows of devices and runs say of a device and of one run, settled and joined on their key."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from oomguard.learn.dataset.account import Account
from oomguard.learn.dataset.columns import DEVICE_FACTS
from oomguard.profile import BOUND_KINDS, Profile
from oomguard.record.runs import profile_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Row = Mapping[str, Any]
    Facts = dict[str, float]

IDENTITY = ("boot_id", "device_id", "device_type", "sdk_version", "app", "app_version", "started_at")
ENDS = ("oom", "exit", "crash", "stopped", "unknown")
FACT_MOST = 1e18                # no memory is larger
SIMULATED = "simulated"         # begins the app or the device type of what learn/simulate/fleet.py made


def device_key(row: Row) -> tuple[str, str]:
    """Return what devices and runs are joined on."""
    return row.get("device_type") or "generic", row.get("sdk_version") or ""


def clean_devices(rows: Iterable[Row], account: Account | None = None) -> dict[tuple[str, str], Facts]:
    """Settle conflicting or missing device facts by majority vote within (device_type, sdk_version).

    A tie goes to the larger value, so that the order of the rows does not matter; a fact that nobody states is NaN.
    """
    account = account or Account()
    votes: dict[tuple[str, str], dict[str, Counter[float]]] = {}
    for row in rows:
        facts = votes.setdefault(device_key(row), {name: Counter() for name in DEVICE_FACTS})
        for name in DEVICE_FACTS:
            value = fact(row, name, account)
            if value == value:
                facts[name][value] += 1
    for key, facts in votes.items():
        account.note("facts_conflicting", sum(len(counts) > 1 for counts in facts.values()), " ".join(key).strip())
    return {key: {name: max(counts, key=lambda value: (counts[value], value)) if counts else math.nan
                  for name, counts in facts.items()} for key, facts in votes.items()}


def fact(row: Row, name: str, account: Account) -> float:
    """Return one fact, NaN where it is unknown or absurd. Only swap may be nothing."""
    value = row.get(name)
    if value is None:
        return math.nan
    number = float(value)
    if not (0.0 < number < FACT_MOST or (number == 0.0 and name == "swap_bytes")):
        account.note("facts_not_positive", of=name)
        return math.nan
    return number


def profile_of(row: Row, devices: Mapping[tuple[str, str], Facts], account: Account) -> Profile:
    """Return the profile of one run: its own figure where it has one, else the device's."""
    key = device_key(row)
    account.note("runs_device_unknown", int(key not in devices), " ".join(key).strip())
    facts = devices.get(key, {})

    def own(name: str) -> float:
        value = fact(row, name, account)
        return facts.get(name, math.nan) if value != value else value

    kind = row.get("bound_kind") or ""
    account.note("runs_bound_kind_unknown", int(bool(kind) and kind not in BOUND_KINDS), kind[:40])
    profile = Profile(
        *key, facts.get("ram_bytes", math.nan), facts.get("swap_bytes", math.nan), facts.get("cores", math.nan),
        own("cache_capacity_bytes"), own("buffer_capacity_bytes"), fact(row, "heap_limit_bytes", account),
        kind if kind in BOUND_KINDS else "", fact(row, "limit_bytes", account))
    without_limit = profile._replace(limit_bytes=math.nan)
    # The table tells a limit also where the profile had none (record/tables.py); replay does the same.
    return without_limit if row.get("profile_digest") == profile_digest(without_limit) else profile


def ended_of(row: Row, account: Account) -> str:
    """Return how a run ended, one of ENDS."""
    ended = row.get("ended") or "unknown"
    account.note("runs_end_unknown", int(ended not in ENDS), ended[:40])
    return ended if ended in ENDS else "unknown"


def end_s_of(row: Row, account: Account) -> float:
    """Return when a run ended, NaN where unknown."""
    value = row.get("ended_after_s")
    if value is None:
        return math.nan
    account.note("facts_not_positive", int(not 0.0 <= value < math.inf), "ended_after_s")
    return float(value) if 0.0 <= value < math.inf else math.nan


def app_of(row: Row, account: Account) -> str:
    """Return the run's program."""
    account.note("runs_app_unknown", int(not row.get("app")))
    return row.get("app") or "unknown"


def is_simulated(row: Row) -> bool:
    """Return whether a run was simulated: its device or its program says so."""
    return any(str(row.get(name) or "").startswith(SIMULATED) for name in ("device_type", "app"))


def settle_runs(rows: list[dict[str, Any]], account: Account) -> list[dict[str, Any]]:
    """Return one row per run_id from rows sorted by it: the fullest; none where they tell of different runs.

    A recording exported twice, once in mid-run, tells a run twice: of rows that agree on app, device, boot and start,
    the one that knows the end, then the longest, is kept.
    """
    kept: list[dict[str, Any]] = []
    for row in rows:
        if row["run_id"] is None:
            account.note("runs_without_id")
        elif kept and kept[-1]["run_id"] == row["run_id"]:
            kept[-1] = _fuller(kept[-1], row, account)
        else:
            kept.append(row)
    return kept


def _fuller(row: dict[str, Any], other: dict[str, Any], account: Account) -> dict[str, Any]:
    if row.get("is_conflicting") or any(row[name] != other[name] for name in IDENTITY):
        account.note("runs_conflicting", 1 if row.get("is_conflicting") else 2, row["run_id"])
        return {**row, "is_conflicting": True}
    account.note("runs_retold", of=row["run_id"])
    return max(row, other, key=_fullness)


def _fullness(row: Row) -> tuple[bool, float, str]:
    after_s = row["ended_after_s"]
    return row["ended"] in ENDS[:-1], after_s if after_s is not None and after_s == after_s else -math.inf, repr(row)
