"""Call an in-process hook, and turn whatever happens into a result."""

from __future__ import annotations

import math

from oomguard.act.hooks import Call, Request
from oomguard.clock import now_s
from oomguard.typed import NamedTuple


class Job(NamedTuple):
    """A call to be made."""

    ticket: int
    call: Call
    request: Request
    deadline_s: float
    is_dry_run: bool


class Result(NamedTuple):
    """What came of a call. `is_hooks_fault` is False where the hook was never entered."""

    ticket: int
    ok: bool
    freed_bytes: float
    duration_s: float
    why: str
    is_hooks_fault: bool = True


def carry_out(job: Job) -> Result:
    """Call the hook and return what came of it, whatever that was."""
    if job.is_dry_run:
        return Result(job.ticket, True, math.nan, 0.0, "dry run")
    started_s = now_s()
    try:
        freed_bytes = _bytes(job.call(job.request))
    except BaseException as error:  # noqa: BLE001 - the hook is the user's code; the outcome says what it raised
        why = f"raised {type(error).__name__}: {_words(error)}"[:500]
        return Result(job.ticket, False, math.nan, now_s() - started_s, why)
    return Result(job.ticket, True, freed_bytes, now_s() - started_s, "")


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as worse:  # noqa: BLE001 - even an error's own text is the user's code
        return f"(its text raised {type(worse).__name__})"


def _bytes(told: object) -> float:
    if told is None:
        return math.nan
    if isinstance(told, (str, bytes, bool)):
        raise TypeError(f"returned {told!r:.60}, not bytes or None")
    freed_bytes = float(told)  # type: ignore[arg-type]  # any number will do, numpy's too; TypeError says what not
    if not 0 <= freed_bytes < math.inf:
        raise ValueError(f"returned {freed_bytes} bytes")
    return freed_bytes
