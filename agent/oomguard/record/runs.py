"""The runs that a journal tells of, and the account of what it could not tell."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.profile import Profile
from oomguard.record.layout import NUMBERS

if TYPE_CHECKING:           # numpy is for those who read samples; a list of runs does without
    import numpy as np
    from numpy.typing import NDArray

COLUMNS = ("t_s", "late_s", *NUMBERS)
FACT_MOST = 1e18            # no memory is larger
ROW = struct.Struct(f"={len(COLUMNS)}d")


class Acted(NamedTuple):
    """One hook that was asked. Unknown numbers are NaN: a crash came before its outcome was known."""

    t_s: float
    rule: str
    hook: str
    level: int
    requested_bytes: float
    freed_bytes: float = nan
    duration_s: float = nan


class Kill(NamedTuple):
    """One kill in the run; pid -1 where it is not known."""

    t_s: float
    pid: int
    killer: str
    whole_target: bool


class Spell(NamedTuple):
    """From which sample on the constraint and phase have these names."""

    first: int
    constraint: str
    phase: str | None


@dataclass(slots=True)
class JournalRun:
    """One run. `facts` is the JSON of record/facts.py as it was written last."""

    run_id: str
    facts: dict[str, Any] = field(default_factory=dict)
    mixed: set[str] = field(default_factory=set)    # facts that changed within the run
    started_at_us: int | None = None                # UTC; None: nobody knew what time it was
    rows: bytearray = field(default_factory=bytearray)
    spells: list[Spell] = field(default_factory=list)
    actions: list[Acted] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    ended: str = "unknown"
    ended_after_s: float = nan
    bytes: int = 0
    lost_samples: int = 0                           # the disk refused them when they were recorded
    written_s: float = 0.0                          # when its last segment was last written to, wall clock

    @property
    def numbers(self) -> NDArray[np.float64]:
        """float64[n, 16], the columns of COLUMNS; NaN where unknown. A copy."""
        import numpy as np

        return np.frombuffer(bytes(self.rows), np.float64).reshape(-1, len(COLUMNS))

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one of COLUMNS, float64[n]."""
        values: NDArray[np.float64] = self.numbers[:, COLUMNS.index(name)]
        return values

    def __len__(self) -> int:
        return len(self.rows) // ROW.size

    @property
    def last_t_s(self) -> float:
        """Time of the last sample, NaN where there is none."""
        return float(ROW.unpack_from(self.rows, len(self.rows) - ROW.size)[0]) if self.rows else nan

    def names(self) -> tuple[list[str], list[str | None]]:
        """Return the constraint and the phase at each sample."""
        constraints: list[str] = []
        phases: list[str | None] = []
        edges = [*(spell.first for spell in self.spells), len(self)]
        for spell, end in zip(self.spells, edges[1:], strict=True):
            constraints += [spell.constraint] * (end - spell.first)
            phases += [spell.phase] * (end - spell.first)
        return constraints, phases

    def killed(self, kill: Kill) -> None:
        """Take in the kill that ended it: it may have been seen already, as a kill inside, at the last tick."""
        seen = self.kills[-1] if self.kills else None
        if seen is not None and not seen.whole_target and seen.killer == kill.killer \
                and (seen.pid in (-1, kill.pid) or kill.pid == -1) and seen.t_s >= min(kill.t_s, self.last_t_s):
            self.kills.pop()
            kill = kill._replace(t_s=seen.t_s, pid=max(seen.pid, kill.pid))
        if isfinite(kill.t_s) and not any(each.whole_target for each in self.kills):
            self.kills.append(kill)
            self.ended_after_s = kill.t_s

    @property
    def whole_kill_s(self) -> float:
        """When the whole target was killed, NaN if it was not."""
        return min((kill.t_s for kill in self.kills if kill.whole_target), default=nan)


@dataclass(slots=True)
class Losses:
    """What could not be read, or had not been written. Nothing is dropped without being counted here."""

    refused: list[str] = field(default_factory=list)    # files, and why
    torn_tails: int = 0             # segments that end within a frame: a crash; one tick each at most
    damaged_places: int = 0
    damaged_bytes: int = 0
    keyless_samples: int = 0        # sound, but what they count from was damaged
    strange_frames: int = 0         # their checksum is right and their content is not
    orphaned_events: int = 0        # of a run, or an action, whose beginning is gone
    unwritten_samples: int = 0      # the disk refused them at the time

    def lines(self) -> list[str]:
        """Return what is worth telling, one line each; nothing if all is well."""
        told = [
            (self.torn_tails, f"{self.torn_tails} segments end within a frame: a crash, at most one tick each"),
            (self.damaged_places, f"{self.damaged_places} damaged places, {self.damaged_bytes} bytes"),
            (self.keyless_samples, f"{self.keyless_samples} samples after damage could not be restored"),
            (self.strange_frames, f"{self.strange_frames} frames make no sense"),
            (self.orphaned_events, f"{self.orphaned_events} events belong to runs or actions that are gone"),
            (self.unwritten_samples, f"{self.unwritten_samples} samples had not been written: the disk refused them"),
        ]
        return [f"refused: {why}" for why in self.refused] + [line for count, line in told if count]


def profile_told(run: JournalRun) -> Profile | None:
    """Return the profile that a run's facts tell, numbers as floats; None where they tell none."""
    told = run.facts.get("profile")
    if not isinstance(told, dict):
        return None
    facts: dict[str, Any] = {
        name: _real(told.get(name)) if isinstance(unknown, float) else _word(told.get(name)) or unknown
        for name, unknown in Profile._field_defaults.items()}
    return Profile(**facts)


def profile_digest(profile: Profile) -> str:
    """Return the sha256 of a profile's facts as JSON: names sorted, numbers as floats, unknown ones null."""
    facts = {name: value if isinstance(value, str) else _known(float(value))
             for name, value in profile._asdict().items()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _known(number: float) -> float | None:
    return number if isfinite(number) else None


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return nan
    return float(value) if abs(value) < FACT_MOST else nan


def _word(value: object) -> str:
    return sound(value) if isinstance(value, str) else ""


def sound(text: str) -> str:
    """Return a text that any table can hold: JSON may hold halves of characters."""
    return text.encode("utf-8", "replace").decode()
