"""`oomguard run`: guard what the rules name; with no file the whole system, or the container we are in."""

from __future__ import annotations

import argparse
import os

from oomguard.briefing import Options, become_daemon
from oomguard.cli.start import (
    add_log_arguments,
    add_plan_arguments,
    bundle_to_run,
    journal_of,
    log_options,
    plan_of,
    targets_of,
)
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.errors import UsageError
from oomguard.profile import Profile
from oomguard.record.paths import journal_dir, state_dir
from oomguard.sense.machine import open_machine
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import resolve
from oomguard.settings import TARGET_FORMS
from oomguard.tell.paths import own_socket_path, runtime_dir
from oomguard.trust.bundle import Bundle

NAME = "run"
HELP = "guard the system, a container, or what a rule file names"
EXAMPLES = """\
  oomguard run                                          the whole system, or this container
  oomguard run --target unit:player.service --dry-run   say what would be done, do nothing
  oomguard run /etc/oomguard --log-json                 its oomguard.yaml, rules.d/*.yaml and device.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` takes."""
    parser.add_argument("rules_file", metavar="FILE", nargs="?", default="",
                        help="rule file or folder, the same as --rules")
    add_plan_arguments(parser)
    parser.add_argument("--target", metavar="TARGET", action="append", default=[],
                        help=f"guard this instead of what the rules name: {TARGET_FORMS}; again for more")
    add_log_arguments(parser)
    parser.add_argument("--runtime-dir", metavar="DIR", default="",
                        help="where windows are kept (default: $RUNTIME_DIRECTORY, /run/oomguard,"
                             " $XDG_RUNTIME_DIR/oomguard)")
    parser.add_argument("--socket-group", metavar="GROUP", default="",
                        help="whose members may use the control socket, beside root and the guard's own user")
    parser.add_argument("--helper", metavar="SOCKET", default="",
                        help="where a helper listens that is a service of its own (default: start one when needed)")
    parser.add_argument("--portable", action="store_true", help="read through psutil, as on systems other than Linux")
    parser.add_argument("--ticks", type=int, default=0, metavar="N", help="stop after N readings")


def run(args: argparse.Namespace) -> int:
    """Check everything, then become the daemon."""
    plan, bundle, options = prepared(args)
    become_daemon(plan, bundle, options)


def prepared(args: argparse.Namespace) -> tuple[Plan, Bundle | None, Options]:
    """Return the checked plan, the checked model and the options that the words of a command line come to."""
    args.rules = args.rules or args.rules_file
    targets = targets_of(args.target)
    if not targets and not args.rules:
        targets = (_here(),)
    plan = plan_of(args, targets)
    bundle, problem = bundle_to_run(args, plan)
    folder = args.runtime_dir or runtime_dir()
    socket = args.socket or (os.path.join(folder, "control.sock") if args.runtime_dir else own_socket_path())
    return plan, bundle, log_options(args, Options(
        runtime_dir=folder, socket=socket, model_problem=problem, is_portable=args.portable, ticks=args.ticks,
        journal_dir=journal_of(args, journal_dir(state_dir())), started_as=tuple(args.words), started_in=os.getcwd(),
        helper_address=args.helper, socket_gid=_gid_of(args.socket_group) if args.socket_group else -1))


def _gid_of(name: str) -> int:
    import grp  # only here: where the groups are asked for over the network, that takes its time

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"--socket-group: there is no group {name!r}") from None


def _here() -> TargetPlan:
    """Return the cgroup that bounds us, as in a container, else the whole system."""
    system = TargetPlan("system", "system")
    machine = open_machine()
    try:
        found = resolve(TargetPlan("self", "self"))
        sensor = open_sensor(found, machine, Profile())
        try:
            bounds = [each.name for each in sensor.constraints() if each.name.startswith("cgroup:")]
        finally:
            sensor.close()
    finally:
        machine.close()
    return TargetPlan("container", "cgroup", bounds[0].removeprefix("cgroup:")) if bounds else system
