"""Account for every kill that was not seen in time and every false alarm: what it looked like, and what was said.

A miss is a kill at one of the judged leads (30, 60, 120 s) without a standing alarm. Every number comes from the
recording and the forecasts; the words for shapes and reasons are rules of thumb, written down here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard.forest import HORIZONS_S
from oomguard.learn.label.labels import HORIZON_S
from oomguard.learn.protocol.curves import JUDGED_S
from oomguard.learn.protocol.events import AGE_MARGIN_S, EARLY_S, SILENT, alarms_of, stands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run
    from oomguard.learn.protocol.events import Track

    Reals = NDArray[np.float64]

UNTOLD = "none told"
BEFORE_S = 120.0            # what an alarm looked back on
FLAT_RATIO = 0.03           # of the limit: less than that is no movement
SUDDEN_SHARE = 0.6          # of a rise, in the last tenth of the time
STEP_SHARE = 0.7            # of all that rose, in the 3 % largest seconds
BENT = 2.5                  # one half of a rise over the other
RARE_SHARE = 0.25           # of the moving seconds fall: rare and deep is a sawtooth, often is churn
STOPPED_SHARE = 0.05        # of the whole rise, in the last quarter
ASLEEP_SHARE = 0.25         # rise in the minute before over what was still free: a spike


def misses_of(run: Run, track: Track, forecast: Reals, thresholds: Sequence[float],
              others: Mapping[str, tuple[Track, float]]) -> list[dict[str, Any]]:
    """Return one entry per kill that some judged lead missed.

    Args:
        run: the run.
        track: the model's debounced margin; in alarm at 0 and more.
        forecast: float[n, 5], NaN where the model abstained.
        thresholds: p60…p300 of the run's fold.
        others: other systems' tracks and thresholds, to say who saw it.
    """
    is_high = track.score >= 0.0
    found = []
    for kill_s in run.kills_s.tolist():
        old = [lead for lead in JUDGED_S if kill_s - track.start_s > lead + AGE_MARGIN_S]
        missed = [lead for lead in old if not stands(is_high, track.seconds, kill_s - lead)]
        if not missed:
            continue
        lead = 60 if 60 in missed else missed[0]
        at_s = kill_s - lead
        in_alarm = track.seconds[is_high & (track.seconds < kill_s) & (track.seconds >= kill_s - HORIZON_S)]
        found.append({
            **_facts(run, at_s, forecast, thresholds), "kill_s": kill_s, "missed_leads_s": missed,
            "judged_lead_s": lead,
            "shape": shape_of(run, kill_s - HORIZON_S, kill_s), "seconds_in_alarm": len(in_alarm),
            "reason": _why_missed(run, at_s, kill_s, forecast, in_alarm.tolist()),
            "seen_by": _in_alarm(others, at_s)})
    return found


def false_alarms_of(run: Run, track: Track, forecast: Reals, thresholds: Sequence[float],
                    others: Mapping[str, tuple[Track, float]]) -> list[dict[str, Any]]:
    """Return one entry per false alarm as the protocol counts them; arguments as misses_of."""
    is_high = track.score >= 0.0
    found = []
    for at_s in alarms_of(is_high, track.seconds):
        ahead = run.kills_s[run.kills_s > at_s]
        next_kill_s = float(ahead[0]) - at_s if len(ahead) else np.inf
        if at_s >= track.end_s - HORIZON_S or next_kill_s <= HORIZON_S:
            continue
        came, words = _what_came(run, at_s, next_kill_s)
        follows = is_high[(track.seconds >= at_s) & (track.seconds < at_s + HORIZON_S)]
        found.append({
            **_facts(run, at_s, forecast, thresholds), "is_early": bool(next_kill_s <= EARLY_S),
            "kill_after_s": next_kill_s if np.isfinite(next_kill_s) else None,
            "shape": shape_of(run, at_s - BEFORE_S, at_s), "seconds_in_alarm": int(follows.sum()),
            "came": came, "reason": words, "also_alarmed": _in_alarm(others, at_s)})
    return found


def shape_of(run: Run, from_s: float, to_s: float) -> str:
    """Return what the memory did between two moments, in a word or three."""
    r = ratio_each_second(run, max(from_s, run.start_s), to_s)
    if len(r) < 8:
        return "too short to tell"
    rise = np.diff(r)
    span, up, down, net = float(np.ptp(r)), float(rise[rise > 0].sum()), float(-rise[rise < 0].sum()), r[-1] - r[0]
    if span < FLAT_RATIO:
        return "flat"
    if down > 0.4 * up and up > 1.6 * span:
        return "sawtooth" if (rise < 0).sum() < RARE_SHARE * (rise != 0).sum() else "churn"
    if net < -0.5 * span:
        return "shrinking"
    return _shape_of_growth(r, rise, up, span)


def _shape_of_growth(r: Reals, rise: Reals, up: float, span: float) -> str:
    tenth, half, quarter = max(len(r) // 10, 3), len(r) // 2, 3 * len(r) // 4
    largest = np.sort(rise)[::-1][:max(len(rise) * 3 // 100, 2)]
    first, second = r[half] - r[0], r[-1] - r[half]
    if r[-1] - r[-tenth] > SUDDEN_SHARE * span:
        return "sudden rise"
    if largest.sum() > STEP_SHARE * up:
        return "steps"
    if r[-1] - r[quarter] < STOPPED_SHARE * span:
        return "growth, then a plateau"
    if second > BENT * max(first, 0.0):
        return "accelerating growth"
    return "slowing growth" if first > BENT * max(second, 0.0) else "steady growth"


def bound_of(run: Run) -> str:
    """Return what was known of the app's own bound."""
    known = [bytes_ for bytes_ in (run.profile.cache_capacity_bytes, run.profile.heap_limit_bytes) if bytes_ == bytes_]
    if not known:
        return UNTOLD
    kind = run.profile.bound_kind or "bounded"
    ratio = min(known) / float(run.columns["limit_bytes"][0])
    return f"{kind} beyond the limit" if ratio > 1.0 else f"{kind} at {100 * ratio:.0f} % of the limit"


def _facts(run: Run, at_s: float, forecast: Reals, thresholds: Sequence[float]) -> dict[str, Any]:
    at = max(int(run.t_s.searchsorted(at_s + 1e-9, side="right")) - 1, 0)
    said = forecast[at]
    return {
        "run_id": run.run_id, "program": run.app, "device_type": run.device_type, "bound": bound_of(run),
        "limit_bytes": float(run.columns["limit_bytes"][at]), "constraint": run.constraint[at], "at_s": at_s,
        "age_s": at_s - run.start_s, "used_ratio": float(_ratios(run)[at]),
        "rise_60s_ratio": _rise(run, at_s - 60, at_s), "phase": run.phase[at],
        "forecast": None if np.isnan(said[0]) else [round(float(p), 4) for p in said],
        "thresholds": [float(each) for each in thresholds],
        "scorer": "plain" if np.isnan(said[0]) else "forest"}


def _why_missed(run: Run, at_s: float, kill_s: float, forecast: Reals, in_alarm: list[float]) -> str:
    at = max(int(run.t_s.searchsorted(at_s + 1e-9, side="right")) - 1, 0)
    before, free = _rise(run, at_s - 60.0, at_s), 1.0 - float(_ratios(run)[at])
    if in_alarm and in_alarm[0] <= at_s:
        return f"the alarm had stood from {kill_s - in_alarm[0]:.0f} s ahead and had gone away"
    if np.isnan(forecast[at, 0]):
        return f"no forecast at that moment (short window, a gap, or out of its ranges), {100 * free:.0f} % free"
    if free > FLAT_RATIO and before < ASLEEP_SHARE * free:
        return f"sudden: {100 * free:.0f} % was still free and the minute before had brought {100 * before:.0f} %"
    late = f"alarm came {kill_s - in_alarm[0]:.0f} s ahead" if in_alarm else "no alarm until the kill"
    ahead_s = min((horizon for horizon in HORIZONS_S if horizon >= kill_s - at_s), default=HORIZONS_S[-1])
    return f"rising, but p{ahead_s} was {forecast[at, HORIZONS_S.index(ahead_s)]:.2f}; {late}"


def _what_came(run: Run, at_s: float, next_kill_s: float) -> tuple[str, str]:
    """Return what came after a false alarm, as a kind and in words."""
    if next_kill_s <= EARLY_S:
        return "early", f"early: killed {next_kill_s:.0f} s later"
    r = ratio_each_second(run, at_s, at_s + HORIZON_S)
    if len(r) < 2:
        return "gap", "the recording has a gap here"
    low, top, last = 100 * float(r.min()), 100 * float(r.max()), 100 * float(r[-1])
    shape = shape_of(run, at_s, at_s + HORIZON_S)
    if shape in ("sawtooth", "churn"):
        return shape, f"{shape} between {low:.0f} % and {top:.0f} %"
    if shape == "flat":
        return "stood still", f"stood still at {last:.0f} %"
    if r.max() - r[-1] > max(FLAT_RATIO, 0.3 * (r.max() - r.min())):
        return "fell back", f"rose to {top:.0f} % and fell back to {last:.0f} %"
    if r[-1] - r[3 * len(r) // 4] < FLAT_RATIO:
        return "stopped", f"stopped at {last:.0f} %"
    killed = f", killed {next_kill_s:.0f} s later" if np.isfinite(next_kill_s) else ""
    return "went on growing", f"went on growing, to {last:.0f} % in five minutes{killed}"


def _in_alarm(others: Mapping[str, tuple[Track, float]], at_s: float) -> list[str]:
    return [name for name, (track, threshold) in others.items()
            if stands((track.score >= threshold) & (track.score > SILENT), track.seconds, at_s)]


def _ratios(run: Run) -> Reals:
    return np.asarray(1.0 - run.columns["headroom_bytes"] / run.columns["limit_bytes"], np.float64)


def ratio_each_second(run: Run, from_s: float, to_s: float) -> Reals:
    """Return the used share of the limit once a second, from the first sample between two moments on."""
    inside = np.flatnonzero((run.t_s >= from_s - 1e-9) & (run.t_s <= to_s + 1e-9))
    if not len(inside):
        return np.empty(0)
    times = run.t_s[inside]
    grid = np.arange(times[0], times[-1] + 1e-9, 1.0)
    return np.asarray(_ratios(run)[inside][np.searchsorted(times, grid, side="right") - 1], np.float64)


def _rise(run: Run, from_s: float, to_s: float) -> float:
    r = ratio_each_second(run, from_s, to_s)
    return float(r[-1] - r[0]) if len(r) else 0.0
