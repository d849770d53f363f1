"""What the verbs share that take rules, a model or a log: their arguments, and what these come to."""

from __future__ import annotations

import argparse
import os
import sys

from oomguard.briefing import Options
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.errors import UsageError
from oomguard.settings import bundle_or_problem, plan_from, target_of
from oomguard.tell.scrape import loopback_address
from oomguard.trust.bundle import Bundle
from oomguard.units import parse_seconds


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which rules and model are used."""
    parser.add_argument("--rules", metavar="FILE", default="",
                        help="rule file, or a folder of them such as /etc/oomguard (default: the shipped default.yaml)")
    parser.add_argument("--model", metavar="DIR", default="",
                        help="a bundle's folder, `shipped` or `none` (default: as the rules say)")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle that nothing vouches for")
    parser.add_argument("--allow-older", action="store_true",
                        help="take a signed bundle although a higher release of it was taken before")
    parser.add_argument("--keys", metavar="DIR", default="",
                        help="whose signatures are believed (default: /etc/oomguard/keys)")
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
    parser.add_argument("--journal", metavar="DIR", default="",
                        help="where samples, actions and kills are recorded, 64 MiB and 14 days at most; `none` for"
                             " nowhere (default: below $STATE_DIRECTORY, /var/lib/oomguard or ~/.local/state/oomguard)")
    parser.add_argument("--metrics-file", metavar="FILE", default="",
                        help="write Prometheus metrics there every 10 s, as node_exporter's textfile collector reads")
    parser.add_argument("--metrics-http", metavar="ADDRESS:PORT", default="",
                        help="serve Prometheus metrics over HTTP there, the loopback only, e.g. 127.0.0.1:9836")


def plan_of(args: argparse.Namespace, targets: tuple[TargetPlan, ...] = ()) -> Plan:
    """Return the checked plan: the rule file, overruled by the command line, with the facts of this machine."""
    return plan_from(args.rules, targets, model=args.model, device_type=args.device_type,
                     cadence_s=_cadence_s(args.cadence) if args.cadence else None,
                     is_dry_run=getattr(args, "dry_run", False))


def bundle_to_run(args: argparse.Namespace, plan: Plan) -> tuple[Bundle | None, str]:
    """Return the bundle to guard with, or why there is none. What is only to be known goes to standard error."""
    bundle, problem = bundle_or_problem(plan, allow_unsigned=args.allow_unsigned, allow_older=args.allow_older,
                                        keys_dir=args.keys and os.path.abspath(args.keys))
    if bundle is not None and bundle.remark:
        print(f"oomguard: {bundle.remark}", file=sys.stderr)
    return bundle, problem


def log_options(args: argparse.Namespace, options: Options) -> Options:
    """Return the options with log and metrics filled in. Raises UsageError for an address that metrics cannot have."""
    path = args.log or (args.log_json if args.log_json not in (None, "-") else "")
    if args.metrics_http:
        loopback_address(args.metrics_http)         # refused here, not by the daemon
    return options._replace(is_json_log=args.log_json is not None, log_file=path,
                            metrics_file=args.metrics_file and os.path.abspath(args.metrics_file),
                            metrics_http=args.metrics_http)


def journal_of(args: argparse.Namespace, default: str) -> str:
    """Return the folder to record in, empty for none."""
    return "" if args.journal == "none" else os.path.abspath(args.journal) if args.journal else default


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
        return parse_seconds(text)
    except ValueError as error:
        raise UsageError(f"--cadence: {error}") from None
