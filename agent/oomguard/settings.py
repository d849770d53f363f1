"""From words to what is checked: targets, plan, bundle, model. The command line and the embedded guard share it.

Not on the device's path: it reads YAML and brings OpenSSL, before the daemon begins.
"""

from __future__ import annotations

import os

from oomguard.decide.plan import Plan, TargetPlan
from oomguard.decide.rules import load_rules, shipped_pack
from oomguard.errors import BundleError, ConfigError, UsageError
from oomguard.profile import Profile
from oomguard.record.paths import state_dir
from oomguard.scorer import Model
from oomguard.sense.facts import detect_profile
from oomguard.trust.bundle import Bundle, load_bundle, load_shipped
from oomguard.trust.releases import note_release, refuse_older

TARGET_FORMS = "system, self, pid:N, cgroup:/PATH, unit:NAME.service or command:NAME"
CADENCES_S = (0.1, 10.0)


def target_of(text: str, name: str = "") -> TargetPlan:
    """Return the target in a word such as `pid:812`. Raises UsageError that says what is allowed."""
    kind, _, value = text.partition(":")
    if kind in ("system", "self") and not value:
        return TargetPlan(name or kind, kind)
    if kind in ("pid", "cgroup", "unit", "command") and value:
        return TargetPlan(name or value.rpartition("/")[2] or value, kind, value)
    raise UsageError(f"target {text!r} is not one of {TARGET_FORMS}")


def plan_from(
    rules: str | os.PathLike[str] = "", targets: tuple[TargetPlan, ...] = (), *, model: str = "",
    device_type: str = "", cadence_s: float | None = None, is_dry_run: bool = False,
) -> Plan:
    """Return the plan of a rule file, overruled by what else is said, with the facts of this machine.

    Args:
        rules: the file; empty for the shipped default.
        targets: these instead of the file's; rules and hooks that are for targets of the file are then for these.
        model: as in a rule file; empty leaves it.
        device_type: whose learned thresholds hold; empty leaves it.
        cadence_s: 0.1…10; None leaves it.
        is_dry_run: the file may say so too.

    Raises:
        ConfigError: the file or the cadence is wrong.
    """
    plan = load_rules(rules or shipped_pack())
    profile = _with_detected(plan.profile)
    if device_type:
        profile = profile._replace(device_type=device_type)
    plan = plan._replace(profile=profile, model=model or plan.model, is_dry_run=plan.is_dry_run or is_dry_run)
    if targets:
        plan = plan._replace(targets=targets, rules=tuple(rule._replace(targets=()) for rule in plan.rules),
                             hooks=tuple(hook._replace(targets=()) for hook in plan.hooks))
    if cadence_s is None:
        return plan
    if not CADENCES_S[0] <= cadence_s <= CADENCES_S[1]:
        raise ConfigError(f"{cadence_s:g} s is not within 100ms to 10s", path="cadence")
    return plan._replace(cadence_s=float(cadence_s))


def bundle_of(
    plan: Plan, *, allow_unsigned: bool, allow_older: bool = False, keys_dir: str = "",
) -> Bundle | None:
    """Return the checked bundle that the plan names, or None. Raises BundleError when it cannot be trusted.

    Args:
        plan: may itself allow what is refused otherwise (`model_may_be`).
        allow_unsigned: take a bundle that nothing vouches for.
        allow_older: take a signed one although a higher release of it was taken before.
        keys_dir: whose signatures are believed; empty for /etc/oomguard/keys.
    """
    if plan.model == "none":
        return None
    if plan.model == "shipped":
        return load_shipped()
    bundle = load_bundle(plan.model, allow_unsigned=allow_unsigned or "unsigned" in plan.model_may_be,
                         keys_dir=keys_dir)
    if bundle.signed_by and not (allow_older or "older" in plan.model_may_be):
        refuse_older(state_dir(), bundle)
    return bundle


def bundle_or_problem(
    plan: Plan, *, allow_unsigned: bool, allow_older: bool = False, keys_dir: str = "",
) -> tuple[Bundle | None, str]:
    """Return the bundle, or why there is none: a guard without a model still guards, by its plain levels.

    This is what guards take, so the release of a signed one is noted: from now on there is no way back.
    """
    try:
        bundle = bundle_of(plan, allow_unsigned=allow_unsigned, allow_older=allow_older, keys_dir=keys_dir)
    except BundleError as error:
        return None, str(error)
    if bundle is not None and bundle.signed_by:
        bundle = bundle._replace(remark=note_release(state_dir(), bundle))
    return bundle, ""


def model_of(bundle: Bundle, device_type: str) -> Model:
    """Return a bundle's model with the thresholds of a device type, ready to score."""
    own = bundle.thresholds_for(device_type)
    thresholds = (own.p300, own.p240, own.p180, own.p120, own.p60)
    return Model(bundle.model_id, bundle.digest, bundle.load_forest(), thresholds, own.critical_ratio, bundle.phases)


def _with_detected(profile: Profile) -> Profile:
    """Return the profile with what it leaves open filled in from this machine."""
    detected = detect_profile()
    filled = {name: getattr(detected, name) for name in ("ram_bytes", "swap_bytes", "cores")
              if getattr(profile, name) != getattr(profile, name)}
    return profile._replace(**filled)
