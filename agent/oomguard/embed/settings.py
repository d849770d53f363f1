"""From what an app says when it makes a guard to a checked plan and a checked model."""

from __future__ import annotations

import os

from oomguard.decide.plan import Plan, TargetPlan
from oomguard.decide.rules import load_rules, shipped_pack
from oomguard.errors import BundleError, ConfigError, UsageError
from oomguard.profile import Profile
from oomguard.scorer import Model
from oomguard.sense.facts import detect_profile
from oomguard.trust.bundle import Bundle, load_bundle, load_shipped

TARGET_FORMS = "system, self, pid:N, cgroup:/PATH, unit:NAME.service or command:NAME"
CADENCES_S = (0.1, 10.0)


def plan_of(
    target: str, name: str, rules: str | os.PathLike[str] | None, model: str, cadence_s: float | None,
    limit_bytes: int | None, device_type: str, is_dry_run: bool,
) -> Plan:
    """Return the plan of the rule file, for this target alone, overruled by what the app says.

    Raises:
        ConfigError: the rule file, the cadence or the limit is wrong.
        UsageError: there is no such form of target.
    """
    found = target_of(target, name)
    plan = load_rules(shipped_pack() if rules is None else rules)
    profile = _with_detected(plan.profile)
    if device_type:
        profile = profile._replace(device_type=device_type)
    if limit_bytes is not None:
        if not limit_bytes > 0:
            raise ConfigError(f"{limit_bytes!r} is not a number of bytes above 0", path="limit_bytes")
        profile = profile._replace(limit_bytes=float(limit_bytes))
    if cadence_s is not None:
        if not CADENCES_S[0] <= cadence_s <= CADENCES_S[1]:
            raise ConfigError(f"{cadence_s!r} is not within 0.1 to 10 seconds", path="cadence_s")
        plan = plan._replace(cadence_s=float(cadence_s))
    return plan._replace(       # rules and hooks that are for a target of the file are for this one now
        targets=(found,), rules=tuple(rule._replace(targets=()) for rule in plan.rules),
        hooks=tuple(hook._replace(targets=()) for hook in plan.hooks), profile=profile,
        model=model or plan.model, is_dry_run=plan.is_dry_run or is_dry_run)


def model_of(plan: Plan, *, allow_unsigned: bool) -> tuple[Model | None, str]:
    """Return the model that the plan names, or why there is none: without one the plain levels hold."""
    if plan.model == "none":
        return None, ""
    try:
        is_shipped = plan.model == "shipped"
        bundle = load_shipped() if is_shipped else load_bundle(plan.model, allow_unsigned=allow_unsigned)
        return _model(bundle, plan.profile.device_type), ""
    except BundleError as error:
        return None, str(error)


def target_of(text: str, name: str = "") -> TargetPlan:
    """Return the target in a word such as `pid:812`. Raises UsageError that says what is allowed."""
    kind, _, value = text.partition(":")
    if kind in ("system", "self") and not value:
        return TargetPlan(name or kind, kind)
    if kind in ("pid", "cgroup", "unit", "command") and value:
        return TargetPlan(name or value.rpartition("/")[2] or value, kind, value)
    raise UsageError(f"target {text!r} is not one of {TARGET_FORMS}")


def _model(bundle: Bundle, device_type: str) -> Model:
    own = bundle.thresholds_for(device_type)
    thresholds = (own.p300, own.p240, own.p180, own.p120, own.p60)
    return Model(bundle.model_id, bundle.digest, bundle.load_forest(), thresholds, own.critical_ratio, bundle.phases)


def _with_detected(profile: Profile) -> Profile:
    """Return the profile with what it leaves open filled in from this machine."""
    detected = detect_profile()
    filled = {name: getattr(detected, name) for name in ("ram_bytes", "swap_bytes", "cores")
              if getattr(profile, name) != getattr(profile, name)}
    return profile._replace(**filled)
