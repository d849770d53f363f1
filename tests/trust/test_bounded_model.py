"""What a model may cause is bounded by rules, whatever it was trained on and whatever memory it is shown.

Window, scorer, rules, bounds and releases are the real ones; only the readings and the runner are the test's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.act.hooks import Hook, Outcome
from oomguard.act.releases import Releases
from oomguard.clock import now_s
from oomguard.decide.decide import decider_for
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.decide.rules import load_rules, shipped_pack
from oomguard.guard import TargetGuard
from oomguard.notes import Notes
from oomguard.profile import Profile
from oomguard.record.silence import Silence
from oomguard.scorer import Model, Scorer
from oomguard.sense.sample import NAN
from oomguard.settings import model_of
from oomguard.trust.bundle import load_shipped
from oomguard.window import Window
from test_guard import FakeMachine, FakeRunner, FakeSensor

LIMIT_BYTES = 100.0 * (1 << 20)
PLAN = load_rules(shipped_pack())._replace(targets=(TargetPlan("app", "self"),))
BACKSTOP = "give back everything before the kill"


def model(threshold: float | None = None) -> Model:
    """Return the shipped model, or one that was taught to cry at anything (0) or at nothing (above 1).

    It knows every reading, so that it never abstains.
    """
    shipped = model_of(load_shipped(), "generic")
    if threshold is None:
        return shipped
    bundle = load_shipped()
    poisoned = bundle._replace(low=(float("-inf"),) * len(bundle.low), high=(float("inf"),) * len(bundle.high))
    if not threshold < 1:
        poisoned = poisoned._replace(calibration=(((0.0, 0.0), (1.0, 0.0)),) * 5)
    return model_of(poisoned, "generic")._replace(thresholds=(threshold,) * 5)


class Guarded:
    """A guard whose every order is carried out at once, so that nothing but rules and bounds holds it back."""

    def __init__(self, scored_by: Model | None, plan: Plan = PLAN) -> None:
        self.decisions: list[tuple[float, str]] = []
        self.levels: set[int] = set()
        self.sensor, self.runner, self.t_s, self.plan = FakeSensor(), FakeRunner(), 0.0, plan
        self.start_s = now_s()
        self.window = Window.in_memory(self.start_s)
        hook = Hook.from_call("cache", lambda request: None)
        releases = Releases([hook], self.runner, self.window, self._tell, 0.9, lambda: ("app", (), ""),  # type: ignore[arg-type]
                            Silence())
        self.guard = TargetGuard("app", FakeMachine(), self.sensor, self.window, Scorer(scored_by, Profile()),  # type: ignore[arg-type]
                                 decider_for(plan, "app"), releases, Notes(self._tell, 0), Silence(), plan)

    def _tell(self, event: str, severity: str = "info", /, **fields: Any) -> None:
        if event == "decision":
            self.decisions.append((self.t_s, fields["rule"]))
        if event == "level":
            self.levels.add(fields["level"])

    def tick(self, used_ratio: float) -> None:
        """Read, and let whatever is asked for be done at once."""
        self.t_s += 1.0
        self.sensor.headroom_bytes = (1 - used_ratio) * LIMIT_BYTES
        self.guard.tick(None, self.start_s + self.t_s, 0.0)  # type: ignore[arg-type]
        self.guard.finished(Outcome("cache", True, NAN, 0.1, "", len(self.runner.orders)))

    def busiest_minute(self) -> int:
        """Return how many actions the busiest 60 s had."""
        times = [t_s for t_s, _rule in self.decisions]
        return max((sum(1 for other in times if 0 <= at_s - other < 60) for at_s in times), default=0)


def test_a_model_that_always_cries_is_bounded() -> None:
    """Poisoned to see a kill in everything: ten minutes of level 5 come to what the rules allow, no more."""
    guarded = Guarded(model(1e-12))
    for _ in range(600):
        guarded.tick(0.2)
    assert 5 in guarded.levels
    assert 0 < len(guarded.decisions) <= sum(1 + 600 / rule.cooldown_s for rule in PLAN.rules)
    assert guarded.busiest_minute() <= PLAN.bounds.actions_per_minute


def test_without_cooldowns_the_bounds_still_hold() -> None:
    """Rules that somebody wrote without any: twelve a minute, two seconds apart."""
    plan = PLAN._replace(rules=tuple(rule._replace(cooldown_s=0.0) for rule in PLAN.rules))
    guarded = Guarded(model(1e-12), plan)
    for _ in range(300):
        guarded.tick(0.2)
    times = [t_s for t_s, _rule in guarded.decisions]
    assert guarded.busiest_minute() == plan.bounds.actions_per_minute
    assert all(later - sooner >= plan.bounds.minimum_gap_s for sooner, later in pairwise(times))


@pytest.mark.parametrize("threshold", [1.5, float("nan")])
def test_a_model_that_never_cries_does_not_blind_the_guard(threshold: float) -> None:
    """Poisoned to see no kill anywhere, and to say so: the last resort fires all the same, and only there."""
    guarded = Guarded(model(threshold))
    for second in range(100):
        guarded.tick(0.2 + 0.76 * second / 100)
    assert guarded.decisions == []
    guarded.tick(0.98)
    assert [rule for _t_s, rule in guarded.decisions] == [BACKSTOP]


PATTERNS = st.lists(st.tuples(st.sampled_from(("hold", "ramp", "saw", "flap", "spike")), st.floats(0.01, 0.99),
                              st.integers(5, 60)), min_size=1, max_size=6)


def used_ratios(pattern: list[tuple[str, float, int]]) -> list[float]:
    """Return what an app that means ill may do: creep, flap around a threshold, spike, saw between two heights."""
    found: list[float] = []
    last = 0.3
    for shape, height, length in pattern:
        found += [{"hold": height, "ramp": last + (height - last) * (second + 1) / length,
                   "saw": last + (height - last) * (second % 7) / 7, "flap": (height, last)[second % 2],
                   "spike": height if second % 13 == 12 else last}[shape] for second in range(length)]
        last = height if shape in ("hold", "ramp") else last
    return found


@settings(max_examples=40)
@given(pattern=PATTERNS, is_model_ours=st.booleans())
def test_no_pattern_of_memory_triggers_more_than_the_bounds(pattern: Any, is_model_ours: bool) -> None:
    """Made to trigger: by the shipped model and by none, no minute has more actions than the rules allow."""
    guarded = Guarded(model() if is_model_ours else None)
    for ratio in used_ratios(pattern):
        guarded.tick(ratio)
    assert guarded.busiest_minute() <= PLAN.bounds.actions_per_minute
    by_rule = {rule: [t_s for t_s, name in guarded.decisions if name == rule.name] for rule in PLAN.rules}
    for rule, times in by_rule.items():
        assert all(later - sooner >= rule.cooldown_s for sooner, later in pairwise(times))


@settings(max_examples=40)
@given(pattern=PATTERNS, threshold=st.sampled_from((None, 1.5)))
def test_no_pattern_of_memory_blinds_the_backstop(pattern: Any, threshold: float | None) -> None:
    """Made to lull: whatever came before, above 97 % the guard has acted by that rule within its cooldown.

    Even by a model that sees nothing anywhere; one second late where another rule acted a moment ago (minimum_gap).
    """
    guarded = Guarded(model(threshold))
    for ratio in [*used_ratios(pattern), *[0.98] * 4]:
        guarded.tick(ratio)
    backstop = next(rule for rule in PLAN.rules if rule.name == BACKSTOP)
    latest_s = max((t_s for t_s, rule in guarded.decisions if rule == BACKSTOP), default=-1e9)
    assert guarded.t_s - latest_s < backstop.cooldown_s + 4
