"""The whole trade of a system: what every threshold gives, and whether one system's points beat another's.

A system is swept over one threshold for all runs. Whoever compares points chosen so has chosen them in hindsight,
for every system alike: nothing here is a promise for the field, but no system can look better than it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.learn.label.labels import HORIZON_S
from oomguard.learn.protocol.events import LEADS_S, SILENT
from oomguard.learn.protocol.figures import draws_of
from oomguard.learn.protocol.sweep import summed, sweep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.protocol.events import Track

    Reals = NDArray[np.float64]

JUDGED_S = (30, 60, 120)        # the leads at which the model must lie on or above every baseline
REACHES_S, REACHES_RATIO = 60, 0.85
MOST_AT_KILLS, MOST_IN_QUIET, MOST_OVERALL = 160, 80, 40     # candidate thresholds of each origin
MOST_SHOWN = 60                 # points of a curve in a report
_JUDGED = [LEADS_S.index(lead_s) for lead_s in JUDGED_S]


class Points(NamedTuple):
    """What K thresholds give, from the highest, which is never in alarm, down."""

    threshold: Reals        # [K]
    recall: Reals           # [K, LEADS_S], NaN where no kill was old enough
    false: Reals            # [K] counts, as early
    early: Reals
    alarm_ratio: Reals      # [K] share of quiet time in alarm
    quiet_h: float
    eligible: Reals         # [LEADS_S]
    by_program: dict[str, tuple[Reals, float]]      # false alarms [K] and quiet hours of each


def points_of(tracks: Sequence[Track], programs: Sequence[str], more: Sequence[float] = ()) -> Points:
    """Sweep a system over every threshold at which something happens.

    Args:
        tracks: its debounced scores, one per run.
        programs: whose runs they are.
        more: thresholds to have among the others: where the system stands.
    """
    asked = _candidates(tracks, more)
    swept: dict[str, list[Any]] = {}
    for track, program in zip(tracks, programs, strict=True):
        swept.setdefault(program, []).append(sweep(track, asked))
    by_program = {program: summed(parts) for program, parts in sorted(swept.items())}
    whole = summed(by_program.values())
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = whole.caught / whole.eligible
        alarm_ratio = whole.alarm_s / whole.quiet_s
    return Points(asked, recall, whole.false, whole.early, alarm_ratio, whole.quiet_s / 3600.0, whole.eligible,
                  {program: (part.false, part.quiet_s / 3600.0) for program, part in by_program.items()})


def shown(points: Points) -> dict[str, list[float | None]]:
    """Return a curve for a report: its points without those that say the same, at most MOST_SHOWN of them."""
    table = np.column_stack([points.recall, points.false, points.early, points.alarm_ratio])
    is_new = np.append(True, (np.nan_to_num(table[1:]) != np.nan_to_num(table[:-1])).any(axis=1))
    kept = np.flatnonzero(is_new)
    if len(kept) > MOST_SHOWN:
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, MOST_SHOWN).astype(int))]
    return {"threshold": _listed(points.threshold[kept]),
            **{f"recall_{lead_s}": _listed(points.recall[kept, at]) for at, lead_s in enumerate(LEADS_S)},
            "false_alarms_per_hour": _listed(_per_h(points.false[kept], points)),
            "early_per_hour": _listed(_per_h(points.early[kept], points)),
            "alarm_time_ratio": _listed(points.alarm_ratio[kept])}


def dominance(model: Points, other: Points) -> dict[str, Any]:
    """Judge whether, at each of another system's points, the model has one that is nowhere worse.

    At once: recall at 30, 60 and 120 s no lower, false alarms per hour no more, share of quiet time in alarm no more.
    By lead: the same with one lead only. `within_one_event` grants one kill and one false alarm.
    """
    exact = _best_recall(model, other.false, other.alarm_ratio, slack=0.0)
    theirs = np.nan_to_num(other.recall[:, _JUDGED])
    lacking = np.maximum(theirs - exact, 0.0)
    worst = np.unravel_index(int(lacking.argmax()), lacking.shape) if lacking.size else (0, 0)
    return {"points": len(theirs), "at_once": int(_beaten_at_once(model, other, 0.0).sum()),
            "at_once_within_one_event": int(_beaten_at_once(model, other, 1.0).sum()),
            "by_lead": {str(lead_s): int((lacking[:, at] <= 1e-12).sum()) for at, lead_s in enumerate(JUDGED_S)},
            "worst": {"lead_s": JUDGED_S[int(worst[1])], "recall_lacking": float(lacking[worst]),
                      "at_false_alarms_per_hour": float(_per_h(other.false, other)[worst[0]]),
                      "at_alarm_time_ratio": float(other.alarm_ratio[worst[0]])}}


def at_equal_recall(model: Points, baselines: Mapping[str, Points], seed: int) -> dict[str, Any] | None:
    """Compare false alarms at the recall of the best baseline that reaches 85 % at 60 s; None if none does.

    The best is the one with the fewest false alarms per hour at any of its points with that recall. The ratio's
    interval resamples programs with both points held.
    """
    at = LEADS_S.index(REACHES_S)
    reached = [(points.false[which], points.alarm_ratio[which], name, int(which)) for name, points in baselines.items()
               for which in np.flatnonzero(points.recall[:, at] >= REACHES_RATIO)]
    if not reached:
        return None
    _false, _time, name, theirs = min(reached)
    other = baselines[name]
    enough = np.flatnonzero(model.recall[:, at] >= other.recall[theirs, at])
    ours = int(enough[np.lexsort((model.alarm_ratio[enough], model.false[enough]))[0]]) if len(enough) else None
    result = {"baseline": name, "lead_s": REACHES_S, "of_baseline": _point(other, theirs),
              "of_model": None if ours is None else _point(model, ours), "false_alarm_ratio": None, "interval": None}
    if ours is not None and other.false[theirs] > 0:
        result["false_alarm_ratio"] = float(model.false[ours] / other.false[theirs])
        result["interval"] = _ratio_interval(model, ours, other, theirs, seed)
    return result


def _candidates(tracks: Sequence[Track], more: Sequence[float]) -> Reals:
    """Return thresholds from high to low, infinity first: where recall changes, where alarms do, and in between."""
    at_kills: list[float] = []
    in_quiet: list[float] = []
    overall: list[Reals] = []
    for track in tracks:
        for kill_s in track.kills_s:
            at = track.seconds.searchsorted([kill_s - lead_s for lead_s in LEADS_S], side="right") - 1
            at_kills.extend(track.score[at[at >= 0]])
        quiet = track.score[track.seconds < track.end_s - HORIZON_S]
        in_quiet.extend(quiet[int(piece.start):int(piece.stop)].max() for piece in _pieces(len(quiet)))
        overall.append(track.score[::10])
    parts = [_thinned(np.array(at_kills), MOST_AT_KILLS), _thinned(np.array(in_quiet), MOST_IN_QUIET),
             _thinned(np.concatenate(overall), MOST_OVERALL), np.asarray(list(more), np.float64), np.array([np.inf])]
    return np.unique(np.concatenate(parts))[::-1]


def _pieces(length: int) -> list[slice]:
    return [slice(low, low + 300) for low in range(0, length, 300)]


def _thinned(values: Reals, most: int) -> Reals:
    known = np.unique(values[(values > SILENT) & (values < np.inf)])
    if len(known) <= most:
        return known
    return np.asarray(known[np.linspace(0, len(known) - 1, most).astype(int)], np.float64)


def _per_h(counts: Reals, points: Points) -> Reals:
    return np.asarray(counts / points.quiet_h if points.quiet_h > 0 else np.full(len(counts), np.nan), np.float64)


def _may_stand(model: Points, false: Reals, alarm_ratio: Reals, slack: float) -> NDArray[np.bool_]:
    """Return bool[others, model's points]: whose false alarms and alarm time are no more than the other's."""
    is_fewer = model.false[None, :] <= false[:, None] + slack + 1e-9
    is_shorter = np.nan_to_num(model.alarm_ratio)[None, :] <= np.nan_to_num(alarm_ratio)[:, None] + 1e-9
    return np.asarray(is_fewer & is_shorter, np.bool_)


def _best_recall(model: Points, false: Reals, alarm_ratio: Reals, slack: float) -> Reals:
    """Return float[others, JUDGED_S]: the model's best recall at each lead within each budget; 0 by never alarming."""
    may = _may_stand(model, false, alarm_ratio, slack)
    recall = np.nan_to_num(model.recall[:, _JUDGED])
    return np.asarray(np.where(may[:, :, None], recall[None], 0.0).max(axis=1), np.float64)


def _beaten_at_once(model: Points, other: Points, events: float) -> NDArray[np.bool_]:
    may = _may_stand(model, other.false, other.alarm_ratio, events)
    grant = events / np.maximum(other.eligible[_JUDGED], 1.0)
    ours, theirs = np.nan_to_num(model.recall[:, _JUDGED]), np.nan_to_num(other.recall[:, _JUDGED])
    is_no_lower = (ours[None] + grant + 1e-12 >= theirs[:, None]).all(axis=2)
    return np.asarray((may & is_no_lower).any(axis=1), np.bool_)


def _point(points: Points, which: int) -> dict[str, Any]:
    return {"threshold": _listed(points.threshold[which:which + 1])[0],
            "recall": dict(zip(map(str, LEADS_S), _listed(points.recall[which]), strict=True)),
            "false_alarms_per_hour": float(_per_h(points.false, points)[which]),
            "alarm_time_ratio": float(points.alarm_ratio[which])}


def _ratio_interval(model: Points, ours: int, other: Points, theirs: int, seed: int) -> list[float]:
    draws = draws_of(len(model.by_program), seed)
    programs = sorted(model.by_program)
    top = draws @ np.array([model.by_program[name][0][ours] for name in programs])
    bottom = draws @ np.array([other.by_program[name][0][theirs] for name in programs])
    ratios = top[bottom > 0] / bottom[bottom > 0]
    return [float(np.quantile(ratios, q)) for q in (0.025, 0.975)]


def _listed(values: Reals) -> list[float | None]:
    return [round(float(value), 5) if np.isfinite(value) else None for value in values]
