"""The data card: what was read, what was left out or repaired and why, and what a model would be taught from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard.forest import HORIZONS_S
from oomguard.learn.dataset.account import DROPPED, REPAIRED
from oomguard.learn.label.labels import HORIZON_S, UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset.account import Account
    from oomguard.learn.dataset.run import Run

CLASSES = ("none", *(f"within {horizon} s" for horizon in sorted(HORIZONS_S, reverse=True)))


@dataclass(slots=True)
class Share:
    """What one program, or one device type, brings."""

    runs: int = 0
    killed_runs: int = 0
    kills: int = 0
    quiet_s: float = 0.0
    samples: int = 0
    labelled: int = 0
    within_300_s: int = 0

    def add(self, run: Run, quiet_s: float, counts: NDArray[np.int64]) -> None:
        """Take in one run, with its count of samples by class."""
        self.runs += 1
        self.killed_runs += run.ended_in_kill
        self.kills += len(run.kills_s)
        self.quiet_s += quiet_s
        self.samples += len(run.t_s)
        self.labelled += int(counts.sum())
        self.within_300_s += int(counts[1:].sum())

    def told(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"runs": self.runs, "killed_runs": self.killed_runs, "kills": self.kills,
                "quiet_hours": round(self.quiet_s / 3600.0, 4), "samples": self.samples, "labelled": self.labelled,
                "prevalence": round(self.within_300_s / self.labelled, 6) if self.labelled else None}


@dataclass(slots=True)
class Summary:
    """Everything that was kept, counted while it streams by. Simulated runs are counted apart."""

    recorded: Share = field(default_factory=Share)
    simulated: Share = field(default_factory=Share)
    programs: dict[str, Share] = field(default_factory=dict)
    device_types: dict[str, Share] = field(default_factory=dict)
    classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASSES), np.int64))

    def add(self, run: Run, labels: NDArray[np.int8]) -> None:
        """Take in one run."""
        counts, quiet_s = np.bincount(labels[labels != UNLABELLED], minlength=len(CLASSES)), quiet_s_of(run)
        for share in (self.simulated if run.is_simulated else self.recorded,
                      self.programs.setdefault(run.app, Share()),
                      self.device_types.setdefault(run.device_type, Share())):
            share.add(run, quiet_s, counts)
        self.classes += counts


@dataclass(frozen=True, slots=True)
class Card:
    """What `dataset` did. `facts` is the JSON."""

    facts: dict[str, Any]

    def to_json(self) -> bytes:
        """Return the card for programs."""
        return (json.dumps(self.facts, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode("utf-8", "replace")

    def to_markdown(self) -> bytes:
        """Return the card for people."""
        return _markdown(self.facts).encode("utf-8", "replace")


def card_of(sources: Sequence[str], account: Account, summary: Summary, *, data_sha256: str, dataset_sha256: str,
            dataset_bytes: int, made_with: dict[str, str]) -> Card:
    """Return the card of a finished dataset. Nothing in it depends on where or when it was made."""
    samples = summary.recorded.samples + summary.simulated.samples
    return Card({
        "format": 1, "sources": list(sources),
        "read": {"files": account.files, "bytes": account.bytes, "rows": account.read},
        "dropped": account.dropped(), "repaired": account.repaired(), "of": account.examples(),
        "kept": {"samples": samples, "samples_dropped": account.samples_dropped(),
                 "recorded": summary.recorded.told(), "simulated": summary.simulated.told(),
                 "classes": dict(zip(CLASSES, summary.classes.tolist(), strict=True)),
                 "programs": {name: share.told() for name, share in sorted(summary.programs.items())},
                 "device_types": {name: share.told() for name, share in sorted(summary.device_types.items())}},
        "data_sha256": data_sha256, "dataset_sha256": dataset_sha256, "dataset_bytes": dataset_bytes,
        "made_with": made_with})


def quiet_s_of(run: Run) -> float:
    """Return how many seconds of the event protocol's grid are quiet (events.tally counts the same, one by one)."""
    return max(0.0, math.ceil(max(run.end_s, float(run.t_s[-1])) - HORIZON_S) - math.ceil(run.start_s))


def _markdown(facts: dict[str, Any]) -> str:
    read, kept = facts["read"], facts["kept"]
    rows = ", ".join(f"{count:,} {table}" for table, count in read["rows"].items())
    sources = ", ".join(f"`{source}`" for source in facts["sources"])
    parts = [
        "# Data card", "",
        f"Read from {sources}: {sum(read['files'].values()):,} files, {read['bytes']:,} bytes: {rows}.",
        f"Kept {kept['samples']:,} samples, left out {kept['samples_dropped']:,}.", "",
        *_shares("", {"recorded": kept["recorded"], "simulated": kept["simulated"]}),
        "Quiet: more than 300 s before the run's end (DESIGN 5).",
        "Prevalence: of labelled samples, those within 300 s of a kill.", "",
        "## Labels", "", "| class | samples |", "|---|---:|",
        *(f"| {name} | {count:,} |" for name, count in kept["classes"].items()),
        f"| unlabelled | {kept['samples'] - sum(kept['classes'].values()):,} |", "",
        *_reasons("Left out", facts["dropped"], DROPPED, facts["of"]),
        *_reasons("Repaired", facts["repaired"], REPAIRED, facts["of"]),
        *_shares("Programs", kept["programs"]), *_shares("Device types", kept["device_types"]),
        "## Digests", "",
        f"- data (clean runs, whatever the files) sha256 `{facts['data_sha256']}`",
        f"- dataset file, {facts['dataset_bytes']:,} bytes, sha256 `{facts['dataset_sha256']}`",
        f"- made with {', '.join(f'{name} {version}' for name, version in facts['made_with'].items())}", ""]
    return "\n".join(parts)


def _shares(title: str, shares: dict[str, dict[str, Any]]) -> list[str]:
    rows = [f"| {_safe(name)} | {share['runs']:,} | {share['killed_runs']:,} | {share['kills']:,} | "
            f"{share['quiet_hours']:.2f} | {share['samples']:,} | {_percent(share['prevalence'])} |"
            for name, share in shares.items()]
    return [*([f"## {title}", ""] if title else []), "| | runs | killed | kills | quiet hours | samples | prevalence |",
            "|---|---:|---:|---:|---:|---:|---:|", *rows, ""]


def _reasons(title: str, counts: dict[str, int], why: dict[str, str], of: dict[str, dict[str, int]]) -> list[str]:
    rows = [f"| {reason} | {count:,} | {why[reason]} | "
            f"{', '.join(f'{_safe(name)} {number:,}' for name, number in of.get(reason, {}).items())} |"
            for reason, count in counts.items()]
    return [f"## {title}", "", *(["| what | count | why | most of it |", "|---|---:|---|---|", *rows] if rows else
                                 ["Nothing."]), ""]


def _safe(text: str) -> str:
    """Return a name from outside that cannot break a table."""
    return "".join(letter if letter.isprintable() and letter not in "|`<>" else "·" for letter in text)[:80]


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{100 * ratio:.1f} %"
