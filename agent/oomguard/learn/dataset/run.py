"""One life of a target as learning sees it, and the digest of many."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oomguard.profile import Profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBERS = (
    "limit_bytes", "headroom_bytes", "used_bytes", "charged_bytes", "kernel_bytes", "available_bytes",
    "swap_used_bytes", "swap_free_bytes", "swap_limit_bytes", "psi_some_us", "psi_full_us", "refaults",
    "major_faults", "late_s", "evictable_bytes")


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a target.

    `columns` holds `t_s` and every name of NUMBERS as float64[n], NaN where unknown; `constraint` and `phase`
    are parallel to it. `kills_s` and `releases_s` are sorted times in the run; a release has
    two where its duration is known, when memory was asked for and when the hook was done.
    """

    run_id: str
    app: str
    device_type: str
    profile: Profile
    columns: dict[str, NDArray[np.float64]]
    constraint: list[str]
    phase: list[str | None]
    kills_s: NDArray[np.float64]
    releases_s: NDArray[np.float64]
    ended: str
    end_s: float
    is_simulated: bool = False

    @property
    def t_s(self) -> NDArray[np.float64]:
        """Times of the samples, strictly increasing."""
        return self.columns["t_s"]

    @property
    def start_s(self) -> float:
        """When the run was first seen: its age counts from here."""
        return float(self.t_s[0])

    @property
    def cadence_s(self) -> float:
        """The median distance of two samples; 1 s where there is only one."""
        return float(np.median(np.diff(self.t_s))) if len(self.t_s) > 1 else 1.0

    @property
    def ended_in_kill(self) -> bool:
        """Whether the last thing that happened in the run was a kill of it."""
        return self.ended == "oom" and len(self.kills_s) > 0


class Digest:
    """A sha256 over runs in a canonical form: the same data, the same digest, whatever the files."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def update(self, run: Run) -> None:
        """Take in the next run, in the order of run_id."""
        facts = (run.run_id, run.app, run.device_type, repr(run.profile), run.ended, repr(run.end_s))
        self._state.update("\x1f".join(facts).encode())
        for name in ("t_s", *NUMBERS):
            self._state.update(np.ascontiguousarray(run.columns[name], "<f8").tobytes())
        self._state.update("\x1f".join(run.constraint).encode())
        n = len(run.phase)      # most runs have no phases, and their join is known
        phases = "\x1f" * max(0, n - 1) if run.phase.count(None) == n else "\x1f".join(map(_word, run.phase))
        self._state.update(phases.encode())
        self._state.update(np.ascontiguousarray(run.kills_s, "<f8").tobytes())
        self._state.update(np.ascontiguousarray(run.releases_s, "<f8").tobytes())

    def hex(self) -> str:
        """Return what has been taken in so far."""
        return self._state.hexdigest()


def _word(text: str | None) -> str:
    return text or ""


def digest_of(runs: list[Run]) -> str:
    """Return the digest of all runs, whatever their order."""
    digest = Digest()
    for run in sorted(runs, key=lambda run: run.run_id):
        digest.update(run)
    return digest.hex()
