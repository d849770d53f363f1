"""Why did you do that? Everything that stands behind one moment of a run: window, forecast, pushes, rules, outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from oomguard.decide.decide import Decision, Standing
from oomguard.decide.levels import level_of
from oomguard.errors import UsageError
from oomguard.forecast import Forecast
from oomguard.forest import HORIZONS_S, Forest, unpack
from oomguard.replay.alarms import alarms_in
from oomguard.replay.compare import decided, first_actions, is_other_guard, sample_before
from oomguard.replay.contributions import Contributions, contributions_to
from oomguard.replay.readings import rows_of
from oomguard.replay.recording import Acted, RecordedRun
from oomguard.replay.replay import Replayed, Replayer, Setting
from oomguard.replay.words import Push, pushes
from oomguard.ring import SPAN_S
from oomguard.scorer import NEVER, Model, Scorer, gated
from oomguard.sense.sample import Sample
from oomguard.series import features_of_run, release_times_s
from oomguard.window import Window

AFTER_S = 300.0             # how much of what came after is shown: what a forecast speaks of
ANSWER_S = 60.0             # an action within so many seconds answers this moment
DEBOUNCE_S = 3.0            # an alarm is counted so long after the level at most: what was done meanwhile is its own
YIELD_S = 10.0              # what a release gave shows within so many seconds


class Point(NamedTuple):
    """One sample of the window."""

    t_s: float
    used_bytes: float
    headroom_bytes: float
    limit_bytes: float


class Gave(NamedTuple):
    """One action and what the samples show of it."""

    action: Acted
    before_bytes: float         # headroom just before it, NaN where unknown
    after_bytes: float          # the greatest headroom within ten seconds of its end


@dataclass(frozen=True, slots=True)
class Explanation:
    """One moment, explained. Unknown numbers are NaN."""

    run_id: str
    app: str
    what: str                           # `alarm 1`, `action 2`, `moment`
    point: Point
    level: int
    constraint: str
    forecast: Forecast | None
    thresholds: tuple[float, ...]       # of levels 1…5: p300 … p60
    plain_ratios: tuple[float, ...]
    time_to_limit_s: float | None
    abstains_because: str               # why there is no forecast
    model_id: str
    history: tuple[Point, ...]          # the last 300 s, this moment included
    after: tuple[Point, ...]            # what came then
    score: Contributions | None         # of a forest; what makes a net say what it says is not known
    pushes: tuple[Push, ...]
    standings: tuple[Standing, ...]
    decision: Decision | None
    gave: tuple[Gave, ...]              # actions that answered this moment: of an alarm, those it began with, too
    asked_s: tuple[float, ...]          # when any memory was asked for, within what is shown
    kill_s: float                       # when the next kill came, seconds in the run; NaN if none came
    ended: str
    ended_after_s: float

    @property
    def horizon_s(self) -> int:
        """The horizon that the level speaks of; the farthest where there is none."""
        return 60 * (6 - self.level) if 1 <= self.level <= 5 else HORIZONS_S[-1]

    @property
    def own_level(self) -> int:
        """The level of this reading by itself; `level` is higher where one from before is kept."""
        return level_of(self.forecast, self.thresholds, self.point.headroom_bytes / self.point.limit_bytes,
                        self.plain_ratios)

    @property
    def scorer(self) -> str:
        """Who spoke."""
        return "plain" if self.forecast is None else "onnx" if self.score is None else "forest"


class Wanted(NamedTuple):
    """Which moment: the n-th alarm or action (from 1), or a time; none: the first alarm, else the last sample."""

    alarm: int = 0
    action: int = 0
    at_s: float | None = None


def explain(replayer: Replayer, run: RecordedRun, wanted: Wanted) -> Explanation:
    """Explain one moment of a recorded run. Raises UsageError when there is no such alarm, action or time."""
    is_same = not is_other_guard(run, replayer.setting)
    replayed = replayer.replay(run, is_busy_as_recorded=is_same)
    at, what = _place(replayed, replayer.setting, wanted)
    readings, model = replayed.readings, replayer.model_for(run)
    standings, decision = replayer.standings_at(run, at, is_busy_as_recorded=is_same)
    forecast, level = readings.forecast(at), int(readings.levels[at])
    score: Contributions | None = None
    pushed: tuple[Push, ...] = ()
    if forecast is not None and model is not None and isinstance(model.forest, Forest):
        score, pushed = pushed_by(replayer, model, run.until(at + 1))
    now_s = float(run.t_s[at])
    since_s = until_s = now_s
    if what.startswith("alarm"):
        since_s = _raised_s(replayed, at)
    elif wanted.action:         # what was foreseen may have waited until it was due
        since_s = until_s = first_actions(run.actions)[wanted.action - 1].t_s
    return Explanation(
        run.run_id, run.app, what, _point(run, at), level, run.constraints[at], forecast,
        NEVER if model is None else model.thresholds, replayer.setting.plan.plain_headroom_ratios,
        readings.time_to_limit_s(at), "" if forecast is not None else _abstention(replayer, model, run, at),
        "" if model is None else model.model_id, _points(run, now_s - SPAN_S, now_s),
        _points(run, np.nextafter(now_s, np.inf), now_s + AFTER_S), score, pushed, standings, decision,
        _given(run, since_s, until_s),
        tuple(action.t_s for action in run.actions if now_s - SPAN_S <= action.t_s <= now_s + AFTER_S),
        next((kill.t_s for kill in run.kills if kill.t_s >= now_s), np.nan), run.ended, run.ended_after_s)


def pushed_by(replayer: Replayer, model: Model, run: RecordedRun) -> tuple[Contributions, tuple[Push, ...]]:
    """Return what pushed the score at the run's last sample: of a kill at all, that is within 300 s.

    What tells a kill within 60 s from one within 120 s may well argue against the former, and is not what people
    ask about.
    """
    row = features_of_run(rows_of(run, model.phases), replayer.setting.profile_of(run))[-1]
    assert replayer.setting.bundle is not None
    score = contributions_to(unpack(replayer.setting.bundle.forest), row, HORIZONS_S[-1])
    return score, pushes(score, row, min(float(run.t_s[-1] - run.t_s[0]), SPAN_S))


def _place(replayed: Replayed, setting: Setting, wanted: Wanted) -> tuple[int, str]:
    """Return which sample is to be explained, and what it is: of an action that at which it was decided."""
    run = replayed.run
    if wanted.action:
        found = decided(replayed, setting)
        if not 1 <= wanted.action <= len(found):
            raise UsageError(f"run {run.run_id} has {len(found)} recorded actions, no number {wanted.action}")
        action, at = found[wanted.action - 1]
        return at if at >= 0 else _sound(replayed, action.t_s), f"action {wanted.action}"
    if wanted.at_s is not None:
        return _sound(replayed, wanted.at_s), "moment"
    alarms = alarms_in(replayed.readings)
    if not wanted.alarm and not alarms:
        return _sound(replayed, np.inf), "moment"
    number = wanted.alarm or 1
    if not 1 <= number <= len(alarms):
        raise UsageError(f"run {run.run_id} has {len(alarms)} alarms, no number {number}")
    return alarms[number - 1], f"alarm {number}"


def _sound(replayed: Replayed, t_s: float) -> int:
    at = sample_before(replayed, t_s)
    if at < 0:
        raise UsageError(f"run {replayed.run.run_id} has no sample at or before {t_s:g} s")
    return at


def _point(run: RecordedRun, at: int) -> Point:
    return Point(*(float(run.columns[name][at]) for name in ("t_s", "used_bytes", "headroom_bytes", "limit_bytes")))


def _points(run: RecordedRun, from_s: float, to_s: float) -> tuple[Point, ...]:
    low, high = np.searchsorted(run.t_s, from_s), np.searchsorted(run.t_s, to_s, side="right")
    return tuple(_point(run, at) for at in range(int(low), int(high)))


def _raised_s(replayed: Replayed, at: int) -> float:
    """Return since when there has been a level, a debounce back at most."""
    t_s, levels = replayed.run.t_s, replayed.readings.levels
    first = at
    while first > 0 and levels[first - 1] >= 1 and t_s[at] - t_s[first - 1] <= DEBOUNCE_S:
        first -= 1
    return float(t_s[first])


def _given(run: RecordedRun, since_s: float, now_s: float) -> tuple[Gave, ...]:
    """Return the actions of the decisions between two moments, else of the first one after them; what each gave."""
    firsts = [action.t_s for action in first_actions(run.actions) if action.t_s >= since_s]
    if not firsts or firsts[0] - now_s > ANSWER_S:
        return ()
    end_s = next((t_s for t_s in firsts[1:] if t_s > now_s), np.inf)
    return tuple(_gave(run, action) for action in run.actions if firsts[0] <= action.t_s < end_s)


def _gave(run: RecordedRun, action: Acted) -> Gave:
    headrooms = run.columns["headroom_bytes"]
    before = int(np.searchsorted(run.t_s, action.t_s, side="right")) - 1
    end_s = action.t_s + (action.duration_s if action.duration_s == action.duration_s else 0.0) + YIELD_S
    later = headrooms[before + 1:int(np.searchsorted(run.t_s, end_s, side="right"))]
    return Gave(action, float(headrooms[before]) if before >= 0 else np.nan,
                float(np.nanmax(later)) if len(later) else np.nan)


def _abstention(replayer: Replayer, model: Model | None, run: RecordedRun, at: int) -> str:
    """Say why the model is silent: push what the window held into a real one, and ask the scorer."""
    window = Window.in_memory(phases={} if model is None else model.phases)
    low = int(np.searchsorted(run.t_s, run.t_s[at] - SPAN_S - 10.0))
    releases_s = release_times_s([action.t_s for action in run.actions], [action.duration_s for action in run.actions])
    for number in range(low, at + 1):
        for moment_s in releases_s:
            if moment_s < run.t_s[number]:
                window.released(moment_s)
        window.push(sample_of(run, number))
    return Scorer(gated(model), replayer.setting.profile_of(run)).abstains_because(window)


def sample_of(run: RecordedRun, at: int) -> Sample:
    """Return one recorded sample as the sensor gave it."""
    numbers = {name: values.item(at) for name, values in run.columns.items()}
    return Sample(**numbers, constraint=run.constraints[at], phase=run.phases[at])
