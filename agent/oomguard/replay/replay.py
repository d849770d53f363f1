"""Replay one run: the same window, forecasts, levels and rules as live, so the same decisions, bit for bit."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oomguard.decide.decide import Decider, Decision, Standing, decider_for
from oomguard.decide.plan import STATE_SLOTS, Condition, Plan
from oomguard.profile import Profile
from oomguard.replay import standstill
from oomguard.replay.readings import Readings, read
from oomguard.replay.recording import Acted, RecordedRun
from oomguard.scorer import Model
from oomguard.trust.bundle import Bundle

LEAST_SAMPLES = 10          # that tell how often a run was read


@dataclass(frozen=True, slots=True)
class Setting:
    """What a recording is replayed with."""

    plan: Plan
    bundle: Bundle | None = None        # None: no model, the plain levels hold
    device_type: str = ""               # whose thresholds hold; empty: the recorded one's

    def profile_of(self, run: RecordedRun) -> Profile:
        """Return the device facts: the recording's own, in which the type may be overruled."""
        return run.profile._replace(device_type=self.device_type) if self.device_type else run.profile

    def target_of(self, run: RecordedRun) -> str:
        """Return as which of the plan's targets a run counts: its own name, else the only one; empty: as all."""
        names = [target.name for target in self.plan.targets]
        return run.app if run.app in names else names[0] if len(names) == 1 else ""

    def decider_of(self, run: RecordedRun) -> Decider:
        """Return the Decider as the live guard makes it."""
        plan = self.plan._replace(profile=self.profile_of(run), cadence_s=cadence_of(run, self.plan.cadence_s))
        return decider_for(plan, self.target_of(run))


@dataclass(frozen=True, slots=True)
class Replayed:
    """One run with what the guard reads and decides on it."""

    readings: Readings
    decisions: dict[int, Decision]      # by sample, in the order of time

    @property
    def run(self) -> RecordedRun:
        """What was replayed."""
        return self.readings.run


class Replayer:
    """Replays runs with one setting; the model is loaded once per device type."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._forest = None if setting.bundle is None else setting.bundle.load_forest()
        self._needs_pressure = any(_asks_for_pressure(rule.when) for rule in setting.plan.rules)

    def model_for(self, run: RecordedRun) -> Model | None:
        """Return the model with the thresholds of the run's device type, as the daemon is handed it."""
        bundle = self.setting.bundle
        if bundle is None or self._forest is None:
            return None
        own = bundle.thresholds_for(self.setting.profile_of(run).device_type)
        return Model(bundle.model_id, bundle.digest, self._forest,
                     (own.p300, own.p240, own.p180, own.p120, own.p60), own.critical_ratio, bundle.phases)

    def read(self, run: RecordedRun) -> Readings:
        """Return what the guard reads at every sample."""
        return read(run, self.model_for(run), self.setting.profile_of(run), self.setting.plan.plain_headroom_ratios,
                    needs_pressure=self._needs_pressure)

    def replay(self, run: RecordedRun, *, is_busy_as_recorded: bool = True) -> Replayed:
        """Replay a run.

        Args:
            run: the recording.
            is_busy_as_recorded: while a recorded action was in flight nothing is decided, as live. Under other
                rules it would not have been in flight.
        """
        readings = self.read(run)
        busy = busy_at(run) if is_busy_as_recorded else np.zeros(len(run.t_s), bool)
        return Replayed(readings, decide_sparsely(readings, busy, self.setting, fresh_state()))

    def standings_at(
        self, run: RecordedRun, at: int, *, is_busy_as_recorded: bool = True,
    ) -> tuple[tuple[Standing, ...], Decision | None]:
        """Return how every rule stands at a sample, and what is decided there; arguments as `replay`'s."""
        readings, state = self.read(run.until(at + 1)), fresh_state()
        busy = busy_at(run) if is_busy_as_recorded else np.zeros(len(run.t_s), bool)
        decide_sparsely(self.read(run.until(at)), busy[:at], self.setting, state)
        decider, view = self.setting.decider_of(run), readings.view(at)
        standings = decider.standings(view, state)
        return standings, decider.decide(view, state, is_busy=bool(busy[at]))


def cadence_of(run: RecordedRun, ruled_s: float) -> float:
    """Return how often the run was read: what the rules say, unless the samples say that it was another.

    Recordings do not hold it, `--cadence` overrules the rules, and how much a hold forgives depends on it.
    """
    times_s = run.columns.get("t_s", np.empty(0))       # a window that is explained as it runs has none
    if len(times_s) < LEAST_SAMPLES:
        return ruled_s
    seen_s = float(f"{np.median(np.diff(times_s)):.2g}")
    return ruled_s if 0.8 * ruled_s <= seen_s <= 1.25 * ruled_s else seen_s


def fresh_state() -> array[float]:
    """Return the rules' state as a new window holds it."""
    return array("d", bytes(8 * STATE_SLOTS))


def decide_everywhere(
    readings: Readings, busy: NDArray[np.bool_], setting: Setting, state: array[float],
) -> dict[int, Decision]:
    """Ask the Decider at every sample, as live. `decide_sparsely` gives the same, sooner."""
    decider, decisions = setting.decider_of(readings.run), {}
    for at in np.flatnonzero(readings.is_taken).tolist():
        decision = decider.decide(readings.view(at), state, is_busy=bool(busy[at]))
        if decision is not None:
            decisions[at] = decision
    return decisions


def decide_sparsely(
    readings: Readings, busy: NDArray[np.bool_], setting: Setting, state: array[float],
) -> dict[int, Decision]:
    """Ask the Decider only where its answer or state can change (see standstill)."""
    decider, decisions = setting.decider_of(readings.run), {}
    samples = np.flatnonzero(readings.is_taken)
    gap_s, rules = standstill.max_gap_s(decider), setting.plan.rules
    cut = standstill.stretches_of(readings, samples, rules, setting.profile_of(readings.run).ram_bytes, gap_s)
    settled_after_s, tick, ask_from = standstill.settle_s(rules, gap_s), 0, 0
    while tick < len(samples):
        at = int(samples[tick])
        view = readings.view(at)
        decision = decider.decide(view, state, is_busy=bool(busy[at]))
        if decision is not None:
            decisions[at] = decision
        following = tick + 1
        is_settled = view.t_s - float(cut.t_s[cut.first[tick]]) >= settled_after_s
        if is_settled and cut.is_steady[tick] and tick >= ask_from and cut.end[tick] - tick > standstill.WORTH_TICKS:
            following = cut.skip_from(tick, decider.standings(view, state))
            ask_from = following + standstill.WORTH_TICKS if following == tick + 1 else 0
            if following > tick + 1:
                standstill.set_last_tick(state, float(cut.t_s[following - 1]))
        tick = following
    return decisions


def busy_at(run: RecordedRun) -> NDArray[np.bool_]:
    """Return at which samples an action was in flight: from its start until its hook was done.

    One whose duration is not recorded was still in flight at the end, or until the next one began.
    """
    busy = np.zeros(len(run.t_s), bool)
    for number, action in enumerate(run.actions):
        end_s = action.t_s + action.duration_s
        if end_s != end_s:
            end_s = run.actions[number + 1].t_s if number + 1 < len(run.actions) else np.inf
        busy[_first_at(run, action):int(np.searchsorted(run.t_s, end_s))] = True
    return busy


def _first_at(run: RecordedRun, action: Acted) -> int:
    return int(np.searchsorted(run.t_s, action.t_s))


def _asks_for_pressure(condition: Condition) -> bool:
    return condition.test == "pressure_above" or any(_asks_for_pressure(part) for part in condition.parts)
