"""What `run`, `exec` and `check` share: from a command line's words to a checked plan, model and options."""

from __future__ import annotations

import argparse

from oomguard.briefing import Options
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.decide.rules import load_rules, shipped_pack
from oomguard.errors import BundleError, ConfigError, UsageError
from oomguard.profile import Profile
from oomguard.sense.facts import detect_profile
from oomguard.trust.bundle import Bundle, load_bundle, load_shipped
from oomguard.units import parse_seconds

TARGET_FORMS = "system, self, pid:N, cgroup:/PATH, unit:NAME.service or command:NAME"


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which rules and model are used."""
    parser.add_argument("--rules", metavar="FILE", default="", help="rule file (default: the shipped default.yaml)")
    parser.add_argument("--model", metavar="DIR", default="",
                        help="a bundle's folder, `shipped` or `none` (default: as the rules say)")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle that nothing vouches for")
    parser.add_argument("--device-type", metavar="NAME", default="", help="whose learned thresholds hold")
    parser.add_argument("--cadence", metavar="TIME", default="",
                        help="time between two readings, 100ms to 10s (default: as the rules say)")


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where and how the log is written."""
    parser.add_argument("--dry-run", action="store_true",
                        help="do everything but the last step: decide and log, release nothing")
    parser.add_argument("--log-json", metavar="FILE", nargs="?", const="-", default=None,
                        help="log one JSON object a line, to FILE or to standard error")
    parser.add_argument("--log", metavar="FILE", default="", help="log to FILE instead of standard error")
    parser.add_argument("--socket", metavar="PATH", default="", help="where the control socket listens")


def plan_of(args: argparse.Namespace, targets: tuple[TargetPlan, ...] = ()) -> Plan:
    """Return the checked plan: the rule file, overruled by the command line, with the facts of this machine."""
    plan = load_rules(args.rules or shipped_pack())
    profile = _with_detected(plan.profile)
    if args.device_type:
        profile = profile._replace(device_type=args.device_type)
    plan = plan._replace(profile=profile, model=args.model or plan.model,
                         is_dry_run=plan.is_dry_run or getattr(args, "dry_run", False))
    if targets:             # rules and hooks that are for targets of the file are for these now
        plan = plan._replace(targets=targets, rules=tuple(rule._replace(targets=()) for rule in plan.rules),
                             hooks=tuple(hook._replace(targets=()) for hook in plan.hooks))
    return plan._replace(cadence_s=_cadence_s(args.cadence)) if args.cadence else plan


def bundle_of(plan: Plan, *, allow_unsigned: bool) -> Bundle | None:
    """Return the checked bundle that the plan names, or None. Raises BundleError when it cannot be trusted."""
    if plan.model == "none":
        return None
    if plan.model == "shipped":
        return load_shipped()
    return load_bundle(plan.model, allow_unsigned=allow_unsigned)


def bundle_or_problem(plan: Plan, *, allow_unsigned: bool) -> tuple[Bundle | None, str]:
    """Return the bundle, or why there is none: a guard without a model still guards, by its plain levels."""
    try:
        return bundle_of(plan, allow_unsigned=allow_unsigned), ""
    except BundleError as error:
        return None, str(error)


def log_options(args: argparse.Namespace, options: Options) -> Options:
    """Return the options with the log's form and place filled in."""
    path = args.log or (args.log_json if args.log_json not in (None, "-") else "")
    return options._replace(is_json_log=args.log_json is not None, log_file=path)


def target_of(text: str, name: str = "") -> TargetPlan:
    """Return the target in a word such as `pid:812`. Raises UsageError that says what is allowed."""
    kind, _, value = text.partition(":")
    if kind in ("system", "self") and not value:
        return TargetPlan(name or kind, kind)
    if kind in ("pid", "cgroup", "unit", "command") and value:
        return TargetPlan(name or value.rpartition("/")[2] or value, kind, value)
    raise UsageError(f"target {text!r} is not one of {TARGET_FORMS}")


def targets_of(texts: list[str]) -> tuple[TargetPlan, ...]:
    """Return the targets in these words, each under a name of its own. Raises UsageError when one comes twice."""
    if len(set(texts)) < len(texts):
        raise UsageError("the same target is named twice")
    found = [target_of(text) for text in texts]
    names = [target.name for target in found]
    return tuple(target if names.count(target.name) == 1 else target._replace(name=text)
                 for target, text in zip(found, texts, strict=True))


def _cadence_s(text: str) -> float:
    try:
        cadence_s = parse_seconds(text)
    except ValueError as error:
        raise UsageError(f"--cadence: {error}") from None
    if not 0.1 <= cadence_s <= 10:
        raise ConfigError(f"{text} is not within 100ms to 10s", path="--cadence")
    return cadence_s


def _with_detected(profile: Profile) -> Profile:
    """Return the profile with what it leaves open filled in from this machine."""
    detected = detect_profile()
    filled = {name: getattr(detected, name) for name in ("ram_bytes", "swap_bytes", "cores")
              if getattr(profile, name) != getattr(profile, name)}
    return profile._replace(**filled)
