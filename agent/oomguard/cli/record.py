"""`oomguard record`: keep what a target's memory does, list what was kept, and export it for those who learn."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from oomguard.errors import ConfigError, UsageError
from oomguard.record.paths import recording_dir, state_dir
from oomguard.settings import TARGET_FORMS, target_of
from oomguard.tell.log import escaped
from oomguard.units import format_bytes, format_seconds, parse_bytes, parse_seconds

if TYPE_CHECKING:
    from oomguard.record.reader import JournalRun, Recording

NAME = "record"
HELP = "record a target without guarding it; list and export what was recorded"
EXAMPLES = """\
  oomguard record start command:redis-server --for 10min
  oomguard record start cgroup:/app --out /data/app --cadence 500ms
  oomguard record list                                      what this machine's guard and `record start` have kept
  oomguard record export /data/app --out tables             devices, runs, samples, kills, actions.parquet

The guard itself records all the time; `record list` and `record export` may run beside it.
"""
SHOWN_AFTER_S = 2.0         # progress of anything that takes longer
_COLUMNS = "{:<32} {:<16} {:>8} {:>8} {:<8} {:>5} {:>7} {:>9}"
_HEADINGS = ("RUN", "STARTED (UTC)", "LENGTH", "SAMPLES", "ENDED", "KILLS", "ACTIONS", "BYTES")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `record` takes."""
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    shape = argparse.RawDescriptionHelpFormatter

    start = verbs.add_parser("start", help="record a target until it ends, Ctrl-C, or --for", formatter_class=shape,
                             description="Record a target without guarding it, until it ends, Ctrl-C, or --for.",
                             epilog=f"examples:\n{EXAMPLES}")
    start.add_argument("target", metavar="TARGET", help=TARGET_FORMS)
    start.add_argument("--out", metavar="DIR", default="",
                       help="where to (default: recordings/NAME below the state folder)")
    start.add_argument("--name", default="", help="the app's name in the tables (default: the target's)")
    start.add_argument("--cadence", metavar="TIME", default="1s", help="time between two samples, 100ms to 10s")
    start.add_argument("--for", metavar="TIME", default="", dest="length", help="stop after so long, e.g. 10min")
    start.add_argument("--max-size", metavar="SIZE", default="64MiB", help="keep so much, the newest (default: 64MiB)")
    start.add_argument("--max-age", metavar="TIME", default="336h", help="keep it for so long (default: 336h)")

    export = verbs.add_parser("export", help="write Parquet tables", formatter_class=shape,
                              description="Write what was recorded as five Parquet tables.",
                              epilog=f"examples:\n{EXAMPLES}")
    listing = verbs.add_parser("list", help="list the recorded runs", formatter_class=shape,
                               description="List the recorded runs, the oldest first.", epilog=f"examples:\n{EXAMPLES}")
    for each in (export, listing):
        each.add_argument("folder", metavar="FOLDER", nargs="?", default="",
                          help="a journal's folder, or one above (default: $STATE_DIRECTORY, /var/lib/oomguard,"
                               " ~/.local/state/oomguard)")
        each.add_argument("--json", action="store_true", help="print one JSON object")
    export.add_argument("--out", metavar="DIR", required=True, help="where the tables go")


def run(args: argparse.Namespace) -> int:
    """Do one of the three."""
    return {"start": _start, "export": _export, "list": _list}[args.what](args)


# -- start -------------------------------------------------------------------------------------------------------

def _start(args: argparse.Namespace) -> int:
    from oomguard.record.alone import Alone
    from oomguard.record.segments import Limits
    from oomguard.sense.facts import detect_profile

    target = target_of(args.target, args.name)
    folder = os.path.abspath(args.out or recording_dir(state_dir(), target.name))
    cadence_s = _seconds(args.cadence, "--cadence")
    if not 0.1 <= cadence_s <= 10:
        raise ConfigError(f"{args.cadence} is not within 100ms to 10s", path="--cadence")
    for_s = _seconds(args.length, "--for") if args.length else math.inf
    limits = Limits(_bytes(args.max_size, "--max-size"), _seconds(args.max_age, "--max-age"))
    alone = Alone(target, folder, detect_profile(), cadence_s, limits, _tell)
    print(f"recording {escaped(target.name)} into {folder}, a sample each {cadence_s:g} s; Ctrl-C ends it",
          file=sys.stderr, flush=True)
    done = alone.run(for_s)
    ended = {"oom": "the kernel killed it", "exit": "it has ended", "stopped": "stopped"}.get(done.ended, "it is gone")
    lost = f" ({done.lost_samples} could not be written)" if done.lost_samples else ""
    print(f"{ended} after {format_seconds(done.length_s)}: {done.samples} samples{lost}; next:"
          f" oomguard record export {folder} --out DIR", file=sys.stderr)
    return 0


def _seconds(text: str, option: str) -> float:
    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if not seconds > 0:
        raise UsageError(f"{option}: {text} is no time")
    return seconds


def _bytes(text: str, option: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _tell(event: str, _severity: str = "info", /, **fields: object) -> None:
    words = " ".join(f"{name}={escaped(str(value))}" for name, value in fields.items())
    print(f"oomguard: {event} {words}", file=sys.stderr, flush=True)


# -- export ------------------------------------------------------------------------------------------------------

def _export(args: argparse.Namespace) -> int:
    try:
        from oomguard.record.export import export
    except ImportError as error:
        raise UsageError(f"export needs {error.name}: pip install 'oomguard[learn]'") from None

    recording = _read(args.folder)
    done = export(recording, args.out, _Progress("writing"))
    _tell_losses([*recording.losses.lines(), *done.account.lines()])
    if args.json:
        print(json.dumps({"folder": args.out, "rows": done.rows, "bytes": done.bytes,
                          "losses": [*recording.losses.lines(), *done.account.lines()]}))
    else:
        rows = ", ".join(f"{count} {name}" for name, count in done.rows.items())
        print(f"{args.out}: {rows} ({format_bytes(done.bytes)})")
    return 0


def _read(folder: str) -> Recording:
    from oomguard.record.reader import read_journals

    return read_journals(folder or state_dir(), _Progress("reading"))


def _tell_losses(lines: list[str]) -> None:
    for line in lines:
        print(f"oomguard: {escaped(line)}", file=sys.stderr)


class _Progress:
    """A line on the terminal that overwrites itself; nothing for what is quick, or where nobody watches."""

    def __init__(self, what: str) -> None:
        self._what, self._began_s, self._is_shown = what, time.monotonic(), False

    def __call__(self, done: int, of: int) -> None:
        if not sys.stderr.isatty() or (not self._is_shown and time.monotonic() - self._began_s < SHOWN_AFTER_S):
            return
        self._is_shown = done < of
        bar = "#" * (30 * done // max(of, 1))
        print(f"\r{self._what} [{bar:30s}] {100 * done // max(of, 1):3d} %", end="" if done < of else "\n",
              file=sys.stderr, flush=True)


# -- list --------------------------------------------------------------------------------------------------------

def _list(args: argparse.Namespace) -> int:
    recording = _read(args.folder)
    rows = [_row(run) for run in recording.runs]
    _tell_losses(recording.losses.lines())
    if args.json:
        print(json.dumps({"runs": rows, "bytes": recording.bytes, "losses": recording.losses.lines()}, indent=2))
        return 0
    print(_COLUMNS.format(*_HEADINGS).rstrip())
    for row in rows:
        print(_COLUMNS.format(
            escaped(row["run_id"])[:64], (row["started_at"] or "?")[:16].replace("T", " "),
            format_seconds(row["length_s"]), row["samples"], row["ended"], row["kills"], row["actions"],
            format_bytes(row["bytes"])).rstrip())
    print(f"{len(rows)} runs, {format_bytes(recording.bytes)} in {recording.segments} files")
    return 0


def _row(run: JournalRun) -> dict[str, Any]:
    """Return what is shown of a run; `goes on` where its last sample is only just written."""
    started = run.started_at_us
    cadence_s = run.facts.get("cadence_s")
    patience_s = 5.0 + 2.0 * (cadence_s if isinstance(cadence_s, (int, float)) else 10.0)
    is_going_on = run.ended == "unknown" and time.time() - run.written_s < patience_s
    length_s = run.last_t_s if run.ended_after_s != run.ended_after_s else run.ended_after_s
    return {
        "run_id": run.run_id, "app": run.facts.get("app"), "target": run.facts.get("target"),
        "started_at": None if started is None else datetime.fromtimestamp(started // 10**6, UTC).isoformat(),
        "length_s": length_s if math.isfinite(length_s) else None, "samples": len(run),
        "ended": "goes on" if is_going_on else run.ended, "kills": len(run.kills), "actions": len(run.actions),
        "bytes": run.bytes, "lost_samples": run.lost_samples}
