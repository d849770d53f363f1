"""Recordings as the guard wrote them: journals (record/), read where they lie."""

from __future__ import annotations

import math

import numpy as np

from oomguard.profile import Profile
from oomguard.record.reader import read_journals
from oomguard.record.runs import JournalRun, profile_digest, profile_told
from oomguard.replay.recording import Acted, Killed, RecordedRun, RecordedWith
from oomguard.series import NUMBERS

DIGESTED = ("rules_digest", "bundle_digest", "profile", "agent_version", "scorer")


def from_journals(path: str, run_id: str = "") -> list[RecordedRun]:
    """Return the runs in the journals of a folder, or the one of that name. Raises UsageError, NotPermittedError."""
    return [_recorded(run) for run in read_journals(path).runs if len(run) and run_id in ("", run.run_id)]


def _recorded(run: JournalRun) -> RecordedRun:
    facts, told = run.facts, profile_told(run)
    constraints, phases = run.names()
    times, kill_s = run.column("t_s"), run.whole_kill_s
    keep = np.flatnonzero(np.isfinite(times) & ~(times >= kill_s))      # as the tables: no row at or after the kill

    def fact(name: str) -> str:     # one that changed within the run is not what the whole of it was made with
        return "" if name in run.mixed else str(facts.get(name) or "")

    digest = "" if told is None or "profile" in run.mixed else profile_digest(told)
    return RecordedRun(
        run.run_id, str(facts.get("app") or ""), Profile() if told is None else told,
        {name: run.column(name)[keep] for name in NUMBERS}, [constraints[at] for at in keep.tolist()],
        [phases[at] for at in keep.tolist()],
        tuple(sorted((Acted(*action) for action in run.actions if math.isfinite(action.t_s)), key=_time)),
        tuple(sorted((Killed(kill.t_s, max(kill.pid, 0), kill.killer, kill.whole_target)
                      for kill in run.kills if math.isfinite(kill.t_s)), key=_time)),
        run.ended, run.ended_after_s, math.nan if run.started_at_us is None else run.started_at_us / 1e6,
        RecordedWith(fact("bundle_digest"), fact("rules_digest"), digest, fact("agent_version"), fact("scorer"),
                     is_mixed=not run.mixed.isdisjoint(DIGESTED)))


def _time(event: Acted | Killed) -> float:
    return event.t_s
