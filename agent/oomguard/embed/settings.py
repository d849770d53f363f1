"""From what an app says when it makes a guard to a checked plan and a checked model."""

from __future__ import annotations

import os

from oomguard.decide.plan import Plan
from oomguard.errors import ConfigError
from oomguard.scorer import Model
from oomguard.settings import bundle_or_problem, plan_from, target_of
from oomguard.settings import model_of as model_of_bundle


def plan_of(
    target: str, name: str, rules: str | os.PathLike[str] | None, model: str, cadence_s: float | None,
    limit_bytes: int | None, device_type: str, is_dry_run: bool,
) -> Plan:
    """Return the plan of the rule file, for this target alone, overruled by what the app says.

    Raises:
        ConfigError: the rule file, the cadence or the limit is wrong.
        UsageError: there is no such form of target.
    """
    if limit_bytes is not None and not limit_bytes > 0:
        raise ConfigError(f"{limit_bytes!r} is not a number of bytes above 0", path="limit_bytes")
    plan = plan_from(rules or "", (target_of(target, name),), model=model, device_type=device_type,
                     cadence_s=cadence_s, is_dry_run=is_dry_run)
    if limit_bytes is None:
        return plan
    return plan._replace(profile=plan.profile._replace(limit_bytes=float(limit_bytes)))


def model_of(plan: Plan, *, allow_unsigned: bool) -> tuple[Model | None, str]:
    """Return the model that the plan names, or why there is none: without one the plain levels hold."""
    bundle, problem = bundle_or_problem(plan, allow_unsigned=allow_unsigned)
    return None if bundle is None else model_of_bundle(bundle, plan.profile.device_type), problem
