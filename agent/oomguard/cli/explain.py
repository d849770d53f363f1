"""`oomguard explain`: why did you do that? One alarm or action with all that stands behind it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from oomguard.cli.replay import setting_of
from oomguard.cli.start import add_plan_arguments
from oomguard.errors import UsageError
from oomguard.tell.client import ask
from oomguard.tell.paths import socket_path

if TYPE_CHECKING:
    from oomguard.replay.explain import Explanation

NAME = "explain"
HELP = "say why the guard raised an alarm or acted: window, forecast, what pushed it, rule, outcome"
EXAMPLES = """\
  oomguard explain RECORDINGS --run player-7              its first alarm
  oomguard explain RECORDINGS --run player-7 --action 2 --plot why.png
  oomguard explain RECORDINGS --run player-7 --at 184.5 --json
  oomguard explain --socket --target player               what the running guard sees now
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `explain` takes."""
    parser.add_argument("recordings", metavar="RECORDINGS", nargs="?", default="",
                        help="a folder of recorded tables or journals")
    parser.add_argument("--socket", metavar="PATH", nargs="?", const="-", default="",
                        help="explain what the running guard sees now (PATH: its control socket)")
    parser.add_argument("--target", metavar="NAME", default="", help="with --socket: which target")
    parser.add_argument("--run", metavar="ID", default="", help="which run; needed where there are several")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--alarm", type=int, metavar="N", default=0, help="the run's N-th alarm (default: the first)")
    which.add_argument("--action", type=int, metavar="N", default=0, help="the run's N-th recorded action")
    which.add_argument("--at", type=float, metavar="T", default=None, help="the last sample at or before T seconds")
    add_plan_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", metavar="FILE", default="", help="draw it into a .png or .svg")


def run(args: argparse.Namespace) -> int:
    """Explain one moment. Raises the errors of `load_runs`, `explain`, `ask` and `explain_now`."""
    from oomguard.replay.picture import check_plot, draw
    from oomguard.replay.telling import plain, text

    if bool(args.recordings) == bool(args.socket):
        raise UsageError("name either RECORDINGS or --socket")
    check_plot(args.plot)
    found = _live(args) if args.socket else _recorded(args)
    if args.plot:
        draw(args.plot, found)
    print(json.dumps(plain(found), indent=2) if args.json else text(found))
    return 0


def _recorded(args: argparse.Namespace) -> Explanation:
    from oomguard.replay.explain import Wanted, explain
    from oomguard.replay.recording import load_runs
    from oomguard.replay.replay import Replayer

    runs = load_runs(args.recordings, args.run)
    if len(runs) != 1:
        names = ", ".join(each.run_id for each in runs[:5])
        raise UsageError(f"{args.recordings} holds {len(runs)} runs: name one with --run ({names} …)")
    return explain(Replayer(setting_of(args)), runs[0], Wanted(args.alarm, args.action, args.at))


def _live(args: argparse.Namespace) -> Explanation:
    from oomguard.replay.live import explain_now

    socket = socket_path() if args.socket == "-" else args.socket
    status = ask(socket, {"op": "status"})
    found = status.get("targets")
    names = [str(each.get("name")) for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    target = args.target or (names[0] if len(names) == 1 else "")
    if target not in names:
        raise UsageError(f"--target is one of {', '.join(names[:20]) or 'none: nothing is guarded now'}")
    rules, model = (_facts(status, name) for name in ("rules", "model"))
    args.rules = args.rules or rules.get("source", "")
    args.model = args.model or ("" if model else "none")
    setting = setting_of(args)
    for name, theirs, ours in (("rules", rules.get("digest", ""), setting.plan.digest),
                               ("model", model.get("digest", ""), setting.bundle.digest if setting.bundle else "")):
        if theirs != ours:
            print(f"oomguard: the running guard has other {name} ({theirs[:12] or 'none'}) than are read here "
                  f"({ours[:12] or 'none'}): the explanation is for these", file=sys.stderr)
    return explain_now(setting, os.path.dirname(socket), target)


def _facts(status: dict[str, object], name: str) -> dict[str, str]:
    facts = status.get(name)
    return {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}
