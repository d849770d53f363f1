"""`oomguard check`: everything that `run` would check, and what it would guard with; nothing is started."""

from __future__ import annotations

import argparse
import json
import sys

from oomguard.cli.start import add_plan_arguments, plan_of
from oomguard.decide.plan import Plan
from oomguard.decide.plan_json import to_json
from oomguard.decide.rules import RulesError, undeclared_hooks
from oomguard.errors import OomguardError
from oomguard.sense.target import resolve
from oomguard.settings import bundle_of
from oomguard.trust.bundle import Bundle
from oomguard.units import format_seconds

NAME = "check"
HELP = "check a rule file, its model and its targets without starting anything"
EXAMPLES = """\
  oomguard check /etc/oomguard/oomguard.yaml
  oomguard check rules.yaml --json | jq .plan.rules
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `check` takes."""
    parser.add_argument("rules_file", metavar="FILE", nargs="?", default="",
                        help="rule file (default: the shipped default.yaml)")
    add_plan_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the checked plan and the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print every problem; the exit code is that of the worst (3 rules, 4 model)."""
    args.rules = args.rules or args.rules_file
    try:
        plan = plan_of(args)
    except RulesError as error:
        for each in error.problems:
            print(f"oomguard: {each}", file=sys.stderr)
        return error.exit_code
    bundle, problem = _bundle(plan, args)
    remarks = _missing_targets(plan)
    remarks += [f"hook {name!r} is not declared here: the app has to register it" for name in undeclared_hooks(plan)]
    if args.json:
        print(json.dumps({"plan": json.loads(to_json(plan))["plan"], "model": bundle and bundle.model_id,
                          "problems": [problem] if problem else [], "remarks": remarks}, indent=2))
    else:
        _show(plan, bundle, remarks)
    if problem:
        print(f"oomguard: {problem}", file=sys.stderr)
        return 4
    return 0


def _bundle(plan: Plan, args: argparse.Namespace) -> tuple[Bundle | None, str]:
    try:
        return bundle_of(plan, allow_unsigned=args.allow_unsigned, allow_older=args.allow_older,
                         keys_dir=args.keys), ""
    except OomguardError as error:
        return None, str(error)


def _missing_targets(plan: Plan) -> list[str]:
    remarks = []
    for target in plan.targets:
        try:
            resolve(target)
        except OomguardError as error:
            remarks.append(f"target {target.name!r} is not there now: {error}")
    return remarks


def _show(plan: Plan, bundle: Bundle | None, remarks: list[str]) -> None:
    print(f"{plan.source}: fine")
    print(f"  every {format_seconds(plan.cadence_s)}, at most {plan.bounds.actions_per_minute} actions a minute, "
          f"{format_seconds(plan.bounds.minimum_gap_s)} apart{', dry run' if plan.is_dry_run else ''}")
    vouched = f" (release {bundle.release}, signed by {bundle.signed_by})" if bundle and bundle.signed_by else ""
    print(f"  model    {bundle.model_id + vouched if bundle else 'none: plain levels'}")
    for target in plan.targets:
        print(f"  target   {target.name}: {target.kind}{' ' + target.value if target.value else ''}")
    for hook in plan.hooks:
        print(f"  hook     {hook.name}: {hook.kind} {' '.join(hook.argv) or hook.signal or hook.address}".rstrip())
    for rule in plan.rules:
        print(f"  rule     {rule.name} -> {', '.join(action.hook + ' ' + action.release.kind for action in rule.then)}")
    for remark in remarks:
        print(f"  note     {remark}")
