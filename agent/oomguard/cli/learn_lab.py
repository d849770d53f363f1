"""`oomguard learn lab`: record real programs in real memory cgroups, until the kernel kills them or time is over."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from oomguard.cli.progress import draw_line
from oomguard.errors import UsageError

if TYPE_CHECKING:
    from oomguard.learn.lab.catalogue import Catalogue
    from oomguard.learn.lab.lab import Progress
    from oomguard.learn.lab.plan import RunPlan

NAME = "lab"
HELP = "record real programs in memory cgroups until the kernel kills them (needs root)"
EXAMPLES = """\
  oomguard learn lab models/lab.yaml --list
  oomguard learn lab models/lab.yaml --work /var/tmp/lab --out models/recordings/lab
  oomguard learn lab models/lab.yaml --work /var/tmp/lab --out small --only redis-leak --jobs 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `learn lab` takes."""
    parser.add_argument("catalogue", help="which programs, devices and how many runs (YAML)")
    parser.add_argument("--work", metavar="FOLDER", help="where finished runs are kept: started again, it goes on")
    parser.add_argument("--out", metavar="FOLDER", help="where the five tables go (DESIGN 4.9)")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs side by side (default: 24 per core; most sleep)")
    parser.add_argument("--only", metavar="WORD", default="", help="only runs whose id holds this word")
    parser.add_argument("--longest", type=float, metavar="S", help="only runs planned to last at most so long")
    parser.add_argument("--merge-only", action="store_true", help="record nothing; make the tables of what is there")
    parser.add_argument("--list", action="store_true", help="print the runs and stop")


def run(args: argparse.Namespace) -> int:
    """Record what is missing, then merge."""
    from oomguard.learn.lab.catalogue import read_catalogue
    from oomguard.learn.lab.lab import default_jobs, record
    from oomguard.learn.lab.plan import draw_runs
    from oomguard.learn.lab.store import Store

    catalogue = read_catalogue(args.catalogue)
    plans = [plan for plan in draw_runs(catalogue)
             if args.only in plan.run_id and plan.planned_s <= (args.longest or plan.planned_s)]
    if args.list:
        _list(plans)
        return 0
    if not args.work or not args.out:
        raise UsageError("learn lab: name --work (where runs are kept) and --out (where the tables go), or --list")
    store = Store(args.work)
    if not args.merge_only:
        try:
            record(_possible(catalogue, plans), store, args.jobs or default_jobs(), _show)
        except KeyboardInterrupt:
            print("\nstopped: what was finished is kept; the same command goes on", file=sys.stderr)
            return 130
    rows = store.merge(catalogue, args.out)
    print(f"{args.out}: " + ", ".join(f"{count} {name}" for name, count in rows.items()))
    return 0


def _possible(catalogue: Catalogue, plans: list[RunPlan]) -> list[RunPlan]:
    """Return the runs whose programs are installed; say which are not."""
    import shutil

    from oomguard.learn.lab.program import driver_of

    missing = {entry.program: [word for word in driver_of(entry.program).needs if shutil.which(word) is None]
               for entry in catalogue.programs}
    for program, words in missing.items():
        if words:
            print(f"{program}: left out, for {', '.join(words)} is not installed", file=sys.stderr)
    return [plan for plan in plans if not missing[plan.program]]


def _list(plans: list[RunPlan]) -> None:
    for plan in plans:
        bound = f", own bound {plan.bound_bytes / 2**20:.0f} MiB" if plan.bound_bytes == plan.bound_bytes else ""
        print(f"{plan.run_id:24s} {plan.shape:16s} {plan.device_type:12s} {plan.limit_bytes / 2**20:6.0f} MiB "
              f"{plan.planned_s:6.0f} s every {plan.cadence_s:g} s, swap {plan.swap}{bound}"
              f"{', beside a neighbour' if plan.has_neighbour else ''}")


def _show(progress: Progress) -> None:
    draw_line(f"{progress.done}/{progress.of} runs, {progress.running} on, {progress.kills} killed, "
              f"{progress.quiet_h:.1f} quiet h" + (f", {progress.failed} failed" if progress.failed else ""),
              progress.note)
