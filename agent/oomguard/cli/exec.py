"""`oomguard exec -- CMD`: start a program in a cgroup of its own where that may be, guard it, exit as it exits."""

from __future__ import annotations

import argparse
import os

from oomguard.briefing import Options, become_daemon
from oomguard.cli.start import add_log_arguments, add_plan_arguments, bundle_to_run, journal_of, log_options, plan_of
from oomguard.decide.plan import TargetPlan
from oomguard.errors import UsageError
from oomguard.record.paths import recording_dir, state_dir
from oomguard.tell.paths import runtime_dir
from oomguard.units import parse_bytes

NAME = "exec"
HELP = "start a program, guard it, pass signals and its exit status through"
EXAMPLES = """\
  oomguard exec -- node server.js
  oomguard exec --limit 256MiB --log-json guard.log -- python app.py --port 8080
  oomguard exec --rules trim.yaml -- redis-server --maxmemory 0

The program finds a pressure FIFO in MEMORY_PRESSURE_WATCH (systemd's memory-pressure protocol): any app that
speaks it, or opens it read-write and waits for input, hears when memory should be given back.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `exec` takes."""
    parser.add_argument("--limit", metavar="SIZE", default="",
                        help="memory limit of the program's cgroup, e.g. 256MiB (needs the right to make one)")
    parser.add_argument("--name", default="", help="name of the target in log and status (default: the program's)")
    add_plan_arguments(parser)
    add_log_arguments(parser)
    parser.add_argument("argv", metavar="CMD", nargs="+", help="the program and its arguments, after --")


def run(args: argparse.Namespace) -> int:
    """Check everything, then become the daemon that starts the program."""
    name = args.name or os.path.basename(args.argv[0])
    plan = plan_of(args, (TargetPlan(name, "self"),))     # the daemon puts the child in the place of `self`
    bundle, problem = bundle_to_run(args, plan)
    folder = os.path.join(runtime_dir(), f"exec-{os.getpid()}")
    become_daemon(plan, bundle, log_options(args, Options(
        runtime_dir=folder, socket=args.socket or os.path.join(folder, "control.sock"), argv=tuple(args.argv),
        limit_bytes=_limit_bytes(args.limit), model_problem=problem,
        journal_dir=journal_of(args, recording_dir(state_dir(), name)))))


def _limit_bytes(text: str) -> int:
    try:
        return parse_bytes(text) if text else 0
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from None
