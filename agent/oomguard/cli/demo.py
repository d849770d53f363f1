"""`oomguard demo`: the same app twice, killed by the kernel on its own and alive under the guard."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from oomguard.demo.plot import check_plot, draw_plot
from oomguard.demo.screen import Screen
from oomguard.demo.shape import LIMIT_BYTES, PLANNED_S, Shape
from oomguard.demo.show import Settings, enclosure_or_reason, show
from oomguard.demo.story import Story, is_shown, lead_s
from oomguard.demo.table import table
from oomguard.enclosure import Enclosure
from oomguard.errors import UsageError
from oomguard.units import format_bytes, parse_bytes

NAME = "demo"
HELP = "see an app killed by the kernel without the guard, and alive with it"
EXAMPLES = """\
  oomguard demo                         a minute and a half
  oomguard demo --plot demo.svg         and a picture of both
  oomguard demo --minutes 10            slower: the levels appear one after another
  oomguard demo --json | jq .arms
"""
_IN_SCOPE = "OOMGUARD_DEMO_IN_SCOPE"    # set for the demo that systemd-run starts, so that it is not started again
_SCOPE = ("systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `demo` takes."""
    parser.add_argument("--minutes", type=float, default=PLANNED_S / 60, metavar="N",
                        help="how long (default: %(default)s)")
    parser.add_argument("--limit", default=f"{LIMIT_BYTES >> 20}MiB", metavar="SIZE",
                        help="memory limit of each app (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1,
                        help="of what is browsed, the same for both (default: %(default)s)")
    parser.add_argument("--plot", default="", metavar="FILE", help="draw both apps' memory, to .svg or .png")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 0 when the one app was killed and the other lived, else 1."""
    settings = Settings(_limit_bytes(args.limit), args.minutes * 60, args.seed)
    Shape.of(settings.limit_bytes, settings.planned_s)      # refuses what would show nothing
    check_plot(args.plot)
    enclosure, reason = enclosure_or_reason(settings)
    if enclosure is None and _IN_SCOPE not in os.environ and _may_use_scopes():
        _go_on_in_a_scope()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)      # as on Ctrl-C: apps and cgroups go with us
    try:
        if not args.json:
            print(_heading(settings, enclosure, reason), flush=True)
        with tempfile.TemporaryDirectory(prefix="oomguard-demo-") as folder:
            unguarded, guarded = show(settings, enclosure, folder, Screen(sys.stderr, settings.planned_s))
    finally:
        if enclosure is not None:
            enclosure.remove(kill=True)
        signal.signal(signal.SIGTERM, before)
    if args.plot:
        draw_plot(args.plot, unguarded, guarded, settings.planned_s)
    if args.json:
        print(json.dumps(outcome(settings, enclosure, unguarded, guarded), indent=2))
    else:
        print("\n" + table(unguarded, guarded))
        if args.plot:
            print(f"\nThe picture is in {args.plot}")
    return 0 if is_shown(unguarded, guarded) else 1


def outcome(settings: Settings, enclosure: Enclosure | None, unguarded: Story, guarded: Story) -> dict[str, object]:
    """Return what `--json` prints (DESIGN 4.10)."""
    first = guarded.first_alarm
    return {
        "limit_kind": enclosure.kind if enclosure else "supervisor", "limit_bytes": settings.limit_bytes,
        "planned_s": settings.planned_s, "seed": settings.seed, "model": guarded.model,
        "spoke_first": first.scorer if first else None, "is_shown": is_shown(unguarded, guarded),
        "arms": {"unguarded": _arm(unguarded, None), "guarded": _arm(guarded, lead_s(unguarded, guarded))}}


def _arm(story: Story, lead: float | None) -> dict[str, object]:
    first = story.first_alarm
    return {
        "ended": story.ended, "survived_s": round(story.survived_s, 2),
        "first_alarm_lead_s": None if lead is None else round(lead, 2),
        "evictions": len(story.evictions), "evicted_bytes": story.evicted_bytes,
        "cache_hit_ratio": round(story.cache_hit_ratio, 4), "peak_used_ratio": round(story.peak_used_ratio, 4),
        "first_alarm": None if first is None else {
            "t_s": round(first.t_s, 2), "level": first.level, "scorer": first.scorer},
        "oom_kills": story.oom_kills if story.oom_kills >= 0 else None, "killer": story.killer or None,
        "exit_code": story.exit_code}


def _heading(settings: Settings, enclosure: Enclosure | None, reason: str) -> str:
    who = f"the kernel, in a memory cgroup ({enclosure.kind})" if enclosure else \
        f"a supervisor that kills at the limit, because {reason}"
    return (f"Two image browsers with the same leak and the same seed, {settings.planned_s:.0f} s each, "
            f"one of them under oomguard.\nLimit: {format_bytes(settings.limit_bytes)} each, held by {who}.\n")


def _limit_bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from None


def _may_use_scopes() -> bool:
    """Return whether the user's service manager runs things for us in a cgroup that is ours."""
    if shutil.which("systemd-run") is None:
        return False
    try:
        tried = subprocess.run([*_SCOPE, "true"], check=False, timeout=10, capture_output=True)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def _go_on_in_a_scope() -> None:
    """Become the same command in a scope of the user's service manager, where cgroups may be made."""
    argv = [*_SCOPE, "--collect", sys.executable, "-m", "oomguard", *sys.argv[1:]]
    os.execvpe(argv[0], argv, os.environ | {_IN_SCOPE: "1"})  # noqa: S606
