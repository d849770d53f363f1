"""`oomguard reload`: let the running guard take up its rule file, model and profile again, without a gap."""

from __future__ import annotations

import argparse
import os
import time

from oomguard.briefing import write_briefing
from oomguard.cli import build_parser
from oomguard.cli.run import prepared
from oomguard.errors import BundleError, UsageError
from oomguard.reload import leave_briefing
from oomguard.tell.client import RefusedError, ask
from oomguard.tell.paths import socket_path

NAME = "reload"
HELP = "let the running guard take up its rules, model and profile again"
EXAMPLES = """\
  oomguard reload                        read again what `oomguard run` was started with
  oomguard reload --rules new.yaml       go on with another rule file
  pkill -HUP -x oomguard                 the first one, as a signal
"""
PATIENCE_S = 30.0           # for a hook that is at work: nothing is swapped under it
LOOK_AGAIN_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `reload` takes."""
    parser.add_argument("--rules", metavar="FILE", default="", help="another rule file from now on")
    parser.add_argument("--socket", metavar="PATH", default="", help="the guard's control socket")


def run(args: argparse.Namespace) -> int:
    """Check everything first; only what checks reaches the guard, which goes on as it was otherwise."""
    socket, rules = args.socket or socket_path(), args.rules and os.path.abspath(args.rules)
    started = ask(socket, {"op": "status"}).get("started")
    if not isinstance(started, dict) or not started.get("as"):
        raise UsageError("this guard was not started by `oomguard run`: restart it instead")
    os.chdir(str(started["in"]))
    words = [str(word) for word in started["as"]]
    again = build_parser(["run"]).parse_args(words)
    again.words = words
    if rules:
        again.rules = rules
    plan, bundle, options = prepared(again)
    if options.model_problem:               # a start without a model still guards; a reload keeps the one there is
        raise BundleError(options.model_problem)
    leave_briefing(str(started["runtime_dir"]), write_briefing(plan, bundle, options))
    taken = _ask_until_free(socket)
    print(f"reloaded: {taken.get('rules')}, model {taken.get('model') or 'none'}")
    return 0


def _ask_until_free(socket: str) -> dict[str, object]:
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask(socket, {"op": "reload"})
        except RefusedError as error:
            if "hook is at work" not in str(error) or time.monotonic() > give_up_s:
                raise
            time.sleep(LOOK_AGAIN_S)
