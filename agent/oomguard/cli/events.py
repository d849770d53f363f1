"""`oomguard events`: what happens or happened: levels, decisions, releases, kills; of a guard, recordings, a log."""

from __future__ import annotations

import argparse
import json
import os
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from oomguard.errors import NotPermittedError, UsageError
from oomguard.tell.client import follow
from oomguard.tell.log import escaped
from oomguard.tell.paths import socket_path
from oomguard.units import parse_seconds

if TYPE_CHECKING:
    from oomguard.replay.happened import Event, Filter

NAME = "events"
HELP = "follow or query levels, decisions, releases, kills and errors"
EXAMPLES = """\
  oomguard events --follow                                  what the running guard tells, until it stops
  oomguard events /var/lib/oomguard --last 1h --event kill,release
  oomguard events guard.log --target player --json | jq .rule
"""
HELD = frozenset({"error", "end"})      # the guard has no event of this name: ask for all, and pick


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `events` takes."""
    parser.add_argument("source", metavar="SOURCE", nargs="?", default="",
                        help="a folder of recordings, a log file, or a control socket (default: the running guard's)")
    parser.add_argument("--follow", action="store_true", help="hear what comes; what a socket does anyway")
    parser.add_argument("--event", metavar="NAMES", default="",
                        help="only these: decision,release,kill,end,error (recordings hold these); level,constraint,"
                             "abstains,blind and whatever else a guard tells or logs")
    parser.add_argument("--target", metavar="NAME", default="", help="only this target's, or this run's")
    parser.add_argument("--since", metavar="TIME", default="", help="not older than this, as 2026-11-22T14:30")
    parser.add_argument("--last", metavar="TIME", default="", help="not older than so long ago, as 10min or 2h")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Print the events. Raises UsageError, and the errors of `follow` and `load_runs`."""
    from oomguard.replay.happened import filter_of

    last_s = _last_s(args.last)
    wanted = filter_of(args.event, args.target, args.since, last_s, time.time())
    source = args.source or socket_path()
    kind = _kind(source)
    if args.follow and kind != "socket":
        raise UsageError(f"--follow hears a guard at its control socket; {source} is a {kind}")
    events = {"socket": _heard, "folder": _recorded, "file": _logged}[kind](source, wanted)
    for event in events:
        if wanted.wants(event):
            print(_shown(event, is_json=args.json), flush=kind == "socket")
    return 0


def _shown(event: Event, *, is_json: bool) -> str:
    from oomguard.replay.happened import one_line

    return json.dumps(event.plain()) if is_json else escaped(one_line(event)).replace('\\"', '"')


def _kind(source: str) -> str:
    """Return what a source is; one that is not there counts as a socket, which says best what is wrong."""
    try:
        mode = os.stat(source).st_mode
    except OSError:
        return "socket"
    return "folder" if stat.S_ISDIR(mode) else "socket" if stat.S_ISSOCK(mode) else "file"


def _heard(source: str, wanted: Filter) -> Iterator[Event]:
    from oomguard.replay.happened import of_fields

    names = () if wanted.names & HELD else sorted(wanted.names)
    for message in follow(source, names):
        if "event" in message:
            yield of_fields(message, time.time())


def _recorded(source: str, _wanted: Filter) -> Iterator[Event]:
    from oomguard.replay.happened import of_runs
    from oomguard.replay.recording import load_runs

    yield from of_runs(load_runs(source))


def _logged(source: str, _wanted: Filter) -> Iterator[Event]:
    from oomguard.replay.happened import of_lines

    try:
        with open(source, "rb") as file:
            yield from of_lines(file)
    except OSError as error:
        raise NotPermittedError(f"{source}: {error.strerror}") from None


def _last_s(text: str) -> float:
    try:
        return parse_seconds(text) if text else float("inf")
    except ValueError as error:
        raise UsageError(f"--last: {error}") from None
