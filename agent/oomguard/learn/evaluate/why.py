"""Why a kill was missed or an alarm false: one reason each, the first that fits, by a rule anyone can apply again.

The rules read the run's own samples and, where the lab recorded it, what its catalogue had planned for it; never what
another system said. Memory *stands still* where, at its fastest pace of the last two minutes, the limit is more than
ten minutes away. A minute before 139 real kills (2026-11-22) that pace was 0 to 0.5 % a minute of what was free at 22,
3 % at one, and 10.7 % and more at all others: where exactly the line is drawn decides next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from oomguard.learn.evaluate.account import UNTOLD, bound_of, ratio_each_second
from oomguard.learn.label.labels import HORIZON_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oomguard.learn.dataset import Run

STILL_S = 600.0             # at no pace of the last two minutes is the limit nearer: it stands still
SPANS_S = (10, 30, 60, 120)
START_S = 60.0              # of a run's life, or after its loading
SAME_RATIO = 0.03           # of the limit: no higher than before
LOADING_PHASE = "loading"

PHYSICAL, WORD, LONGER = "nothing in the memory", "the app's word", "a longer look"
BETTER, RIGHT = "a better model", "a longer horizon"


class Planned(NamedTuple):
    """What the lab had planned for a run, whatever became of it."""

    kind: str                   # leak | bounded | quiet | still
    shape: str                  # of simulate/shapes.py
    limit_bytes: float          # a recording with another limit was not made from this plan
    has_bound: bool
    loading_until_s: float      # of the run: until then it grows by design
    is_phase_told: bool
    crosses_s: float            # of the run: when its curve, had nothing stopped it, passes the limit; inf: never


class Reason(NamedTuple):
    """A reason in a word, in a sentence, and what it would take."""

    key: str
    says: str
    needs: str
    remedy: str


FALSE_ALARMS = (
    Reason("no forecast", "The model gave no forecast (too young, a gap, readings it had never met): the plain level "
           "spoke, at 30 % headroom.", "Such readings among what it learns from.", BETTER),
    Reason("stood still", "Memory stood still, or crept: at no pace of the last two minutes was the limit within ten.",
           "Nothing in the memory can: kills out of stillness begin just so. The app's word could.", PHYSICAL),
    Reason("leaked", "It was leaking: the kill came after more than five minutes, or the recording ended first.",
           "A horizon beyond 300 s. The alarm was right, but early.", RIGHT),
    Reason("told", "It had told its cap, or was telling that it loads, and was taken for a leak all the same.",
           "A model that makes more of the fact: it was there. A line cannot read it.", BETTER),
    Reason("hidden cap", "It grew as a leak does, towards a cap of its own that it had not told.",
           "The app telling its cap. Until it is reached, memory alone cannot know.", WORD),
    Reason("hidden phase", "It was loading, did not say so, and stopped by itself.",
           "The app telling its phase.", WORD),
    Reason("start-up", "It had started or loaded less than a minute ago, and stopped by itself.",
           "A model surer of the first minute. Merely waiting would cost the kills of young runs.", BETTER),
    Reason("turned again", "It went up and came down, or stopped, no higher than it had been before.",
           "A longer look than the window's 300 s: how high the run has been before.", LONGER),
    Reason("turned", "It went higher than ever before, and turned or stopped by itself.",
           "The app telling its phase, or a hook's gauge of what it can give back.", WORD),
)
MISSES = (
    Reason("stood still", "Memory stood still until less than a minute before the kill.",
           "Nothing in the memory can: it came too fast. A quick hook, or more headroom kept free.", PHYSICAL),
    Reason("own cap", "It ended at a cap of its own, below the limit.", "The app telling its cap.", WORD),
    Reason("no forecast", "The model gave no forecast (too young, a gap, readings it had never met).",
           "Such readings among what it learns from.", BETTER),
    Reason("went away", "An alarm had stood in the last five minutes, and was gone when it counted.",
           "An alarm that holds on while headroom does not come back.", BETTER),
    Reason("late", "Memory rose and the alarm came, but later than the lead.",
           "A model that is surer sooner, or a lower threshold.", BETTER),
    Reason("unseen", "Memory rose and no alarm came until the kill.", "A better model, or a lower threshold.", BETTER),
)


def why_false(run: Run, at_s: float, next_kill_s: float, planned: Planned | None, *, is_silent: bool = False) -> str:
    """Return the key of the first of FALSE_ALARMS that fits.

    Args:
        run: the run.
        at_s: when the alarm was counted.
        next_kill_s: seconds from then to the next kill; inf: none came.
        planned: what the lab had planned; None: nobody knows, and reasons that need it are never given.
        is_silent: whether the system gave no forecast there.
    """
    if is_silent:
        return "no forecast"
    if fills_s(run, at_s) > STILL_S:
        return "stood still"
    if np.isfinite(next_kill_s) or (planned is not None and planned.kind == "leak"):
        return "leaked"
    at = max(int(run.t_s.searchsorted(at_s + 1e-9, side="right")) - 1, 0)
    if bound_of(run) != UNTOLD or run.phase[at] == LOADING_PHASE:
        return "told"
    if planned is not None and planned.has_bound:
        return "hidden cap"
    age_s, loads_until_s = at_s - run.start_s, 0.0 if planned is None else planned.loading_until_s
    if age_s < loads_until_s and not any(run.phase):
        return "hidden phase"
    if age_s <= loads_until_s + START_S:
        return "start-up"
    before, after = (ratio_each_second(run, low, high) for low, high in (
        (run.start_s, at_s), (at_s, at_s + HORIZON_S)))
    has_been = len(before) > 0 and len(after) > 0 and after.max() <= before.max() + SAME_RATIO
    return "turned again" if has_been else "turned"


def why_missed(run: Run, kill_s: float, lead_s: float, in_alarm: np.ndarray[tuple[int], np.dtype[np.float64]],
               planned: Planned | None, *, is_silent: bool = False) -> str:
    """Return the key of the first of MISSES that fits.

    Args:
        run: the run.
        kill_s: when it was killed.
        lead_s: how long before the alarm should have stood.
        in_alarm: the seconds in alarm of its last 300 s.
        planned: as in why_false.
        is_silent: whether the system gave no forecast at that moment.
    """
    at_s = kill_s - lead_s
    if fills_s(run, at_s) > STILL_S:
        return "stood still"
    if planned is not None and planned.kind == "bounded":
        return "own cap"
    if is_silent:
        return "no forecast"
    if (in_alarm <= at_s).any():
        return "went away"
    return "late" if len(in_alarm) else "unseen"


def fills_s(run: Run, at_s: float) -> float:
    """Return in how many seconds the limit is reached at the fastest pace of the last two minutes; inf where none."""
    r = ratio_each_second(run, max(run.start_s, at_s - SPANS_S[-1]), at_s)
    if len(r) < 4:
        return 0.0                  # too young to say that it stands still
    paces = [(r[-1] - r[-1 - span]) / span for span in (min(span, len(r) - 1) for span in SPANS_S)]
    return float(max(1.0 - r[-1], 0.0) / max(paces)) if max(paces) > 0 else np.inf


def moved_s(run: Run, kill_s: float) -> float:
    """Return how long before a kill memory last stood still; 300 where it had not for so long."""
    for ahead_s in range(1, int(HORIZON_S)):
        if kill_s - ahead_s <= run.start_s or fills_s(run, kill_s - ahead_s) > STILL_S:
            return float(ahead_s)
    return HORIZON_S


def agreeing(runs: list[Run], planned: Mapping[str, Planned]) -> list[Planned | None]:
    """Return each run's plan; None where there is none, or where it is another run's: the limits differ."""
    found = [planned.get(run.run_id) for run in runs]
    return [plan if plan is not None and plan.limit_bytes == run.columns["limit_bytes"][-1] else None
            for plan, run in zip(found, runs, strict=True)]

