"""The arms of the closed loop: when a release is asked for. How much, and how often, is the device's own.

An arm is one condition of a rule, in the words of rules, and what is read for it. All conditions have the debounce of
the shipped default pack's rule, whose condition oomguard's arm takes over as it stands (level 2, until level 0, or
some chance of a kill; levels by the forest, or plain ones by headroom where it abstains). As on the device, a release
that was foreseen waits until it is due: those of the line and of oomguard's forecasts, not those of a threshold.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from oomguard.decide.decide import Decider
from oomguard.decide.levels import kept_level, level_of
from oomguard.decide.plan import Action, Bounds, Condition, Release, Rule
from oomguard.decide.rules import load_rules, shipped_pack
from oomguard.decide.view import View
from oomguard.errors import UsageError
from oomguard.learn.evaluate.baselines import slope_per_s
from oomguard.scorer import Model, Scorer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oomguard.forecast import Forecast
    from oomguard.profile import Profile
    from oomguard.sense.sample import Sample
    from oomguard.trust.bundle import Bundle
    from oomguard.window import Window

Moment = tuple[float, float]    # t_s, bytes
NONE, LINEAR, OOMGUARD = "none", "linear", "oomguard"
THRESHOLDS = {"threshold-80": 0.80, "threshold-90": 0.90, "threshold-95": 0.95}
ARMS = (NONE, *THRESHOLDS, LINEAR, OOMGUARD)
LINE_SPAN_S = 60.0              # the line is fitted over the last minute
LINE_WITHIN_S = 120.0           # and asks where it reaches the limit within two
HOOK = "cache"


class Policy(NamedTuple):
    """What all arms share: a pack's rule with `release: needed`, whose condition is oomguard's alone."""

    rule: Rule
    bounds: Bounds
    plain_ratios: tuple[float, ...]

    @property
    def debounce_s(self) -> float:
        """For how long a condition must hold."""
        return _debounce_s(self.rule.when)


class Seen(NamedTuple):
    """What one arm makes of a tick."""

    view: View
    forecast: Forecast | None
    level: int


def policy_of(path: str = "", cooldown_s: float | None = None) -> Policy:
    """Return a rule pack's policy: that of its first rule whose release is `needed`.

    Args:
        path: of the pack; empty: the shipped default one.
        cooldown_s: None: the rule's own.

    Raises:
        RulesError: the pack cannot be read.
        UsageError: it has no such rule, or one with a condition that the loop does not read.
    """
    plan = load_rules(path or shipped_pack())
    rule = next((rule for rule in plan.rules if rule.then[0].release.kind == "needed"), None)
    if rule is None or _debounce_s(rule.when) <= 0:
        raise UsageError(f"{path}: the loop takes over its first rule with `release: needed`, and that has a `for`")
    if strange := _tests(rule.when) & {"phase", "pressure_above"}:
        raise UsageError(f"{path}: {rule.name}: the loop does not read {', '.join(sorted(strange))}")
    rule = rule._replace(then=(Action(HOOK, Release("needed")),),
                         cooldown_s=rule.cooldown_s if cooldown_s is None else cooldown_s)
    return Policy(rule, plan.bounds, plan.plain_headroom_ratios)


def _debounce_s(condition: Condition) -> float:
    """Return the longest `for` in a condition."""
    return max([condition.for_s, *map(_debounce_s, condition.parts)])


def _tests(condition: Condition) -> set[str]:
    return {condition.test}.union(*map(_tests, condition.parts))


def condition_of(arm: str, policy: Policy) -> Condition:
    """Return when the arm asks for a release. Raises UsageError for an arm that is none, or `none`."""
    if arm in THRESHOLDS:
        return Condition("used_above", THRESHOLDS[arm], for_s=policy.debounce_s)
    if arm == LINEAR:
        return Condition("time_to_limit_below", LINE_WITHIN_S, for_s=policy.debounce_s)
    if arm == OOMGUARD:
        return policy.rule.when
    raise UsageError(f"no arm {arm!r} that asks for anything: {', '.join(ARMS)}")


def model_of(bundle: Bundle, profile: Profile) -> Model:
    """Return the model as a device of this profile is handed it. Raises UsageError where it is no forest."""
    forest = bundle.load_forest()
    own = bundle.thresholds_for(profile.device_type)
    model = Model(bundle.model_id, bundle.digest, forest, (own.p300, own.p240, own.p180, own.p120, own.p60),
                  own.critical_ratio, bundle.phases)
    if model.scorer != "forest":
        raise UsageError(f"{bundle.folder}: the closed loop scores with forests; this is a net")
    return model


class Trigger:
    """One arm at work on one target: a tick's sample in, what its decider then sees out."""

    def __init__(self, arm: str, policy: Policy, model: Model | None, profile: Profile) -> None:
        rule = policy.rule._replace(name=arm, when=condition_of(arm, policy))
        self.arm, self.cooldown_s = arm, rule.cooldown_s
        self.decider = Decider((rule,), policy.bounds)
        self._plain_ratios = policy.plain_ratios
        self._scorer = Scorer(model if arm == OOMGUARD else None, profile)

    def see(self, sample: Sample, window: Window, released: Sequence[Moment] = ()) -> Seen:
        """Return what the decider sees; the sample is in the window already.

        Args: released: (t_s, bytes) that releases gave back.
        """
        forecast = self._scorer.score(window)
        ratio = sample.headroom_bytes / sample.limit_bytes
        level = kept_level(level_of(forecast, self._scorer.thresholds, ratio, self._plain_ratios), sample.t_s, ratio,
                           window.state)
        limit_s = line_to_limit_s(window.headroom_history(), released) if self.arm == LINEAR else None
        view = View(sample.t_s, level, forecast, limit_s, sample.limit_bytes, sample.used_bytes, sample.charged_bytes,
                    sample.headroom_bytes, sample.available_bytes)
        return Seen(view, forecast, level)

    def may_wait(self, seen: Seen) -> bool:
        """Return whether what is needed is asked for only once it is due: where a kill is foreseen, as guard.py has it.

        The line foresees one as well as a forecast does. A threshold foresees nothing: memory is low, and it asks.
        """
        return self.arm == LINEAR or (self.arm == OOMGUARD and seen.forecast is not None)

    def release(self) -> None:
        """Let the window go."""
        self._scorer.release()


def line_to_limit_s(history: Sequence[Moment], released: Sequence[Moment] = (),
                    span_s: float = LINE_SPAN_S) -> float | None:
    """Return when headroom, fitted by a straight line, is used up; infinity where it does not fall, None if unknown.

    Args:
        history: (t_s, headroom_bytes), oldest first.
        released: (t_s, bytes) of releases. What they gave back is no fall in demand, as act.release.needed_bytes has
            it too: a line through one would rise for a minute, and the arm would be blind for so long.
        span_s: how far back the line is fitted; it needs three readings and 5 s.
    """
    if len(history) < 3:
        return None
    t_s, headroom = np.array(history, np.float64).T
    demanded = headroom - sum((np.where(t_s >= at_s, bytes_, 0.0) for at_s, bytes_ in released), np.zeros(len(t_s)))
    slope = float(slope_per_s(t_s, demanded, span_s)[-1])
    if math.isnan(slope):
        return None
    return max(float(headroom[-1]), 0.0) / -slope if slope < 0 else math.inf


def condition_in_words(policy: Policy) -> str:
    """Say oomguard's condition for people."""
    return _in_words(policy.rule.when)


def _in_words(when: Condition) -> str:
    if when.parts:
        return f"{when.test} of ({'; '.join(map(_in_words, when.parts))})" + _lasting(when)
    within = f" within {when.within_s:g} s" if when.within_s else ""
    until = f" until {when.until:g}" if when.until is not None else ""
    return f"{when.test.replace('_', ' ')} {when.value:g}{within}{until}" + _lasting(when)


def _lasting(when: Condition) -> str:
    return f", for {when.for_s:g} s" if when.for_s else ""
