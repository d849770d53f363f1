"""The survey on the command line: `survey` runs it, `page` makes docs/lab.md and docs/lab.png of its results."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from typing import Any

from bench.lab.arms import ARMS
from bench.lab.image import REPO
from bench.lab.picture import draw
from bench.lab.site import RECIPES, SWAPS
from bench.lab.survey import RESULTS, SEED, SIZES_MIB, carry_out, load, smoke, whole
from bench.lab.table import page, row

PAGE, PICTURE = (os.path.join(REPO, "docs", name) for name in ("lab.md", "lab.png"))


def add_verbs(verbs: Any) -> None:
    """Add `survey` and `page`."""
    verb = verbs.add_parser("survey", help="run the arms on every device, and keep what was seen")
    verb.add_argument("--smoke", action="store_true",
                      help="one device, one short phase, without a guard and with oomguard; no page is made")
    verb.add_argument("--memory", type=int, action="append", metavar="MIB", help="again for more (default: 256, 512)")
    verb.add_argument("--swap", choices=SWAPS, action="append", help="again for more (default: both)")
    verb.add_argument("--suite", choices=list(RECIPES), action="append", help="again for more (default: trixie)")
    verb.add_argument("--arm", choices=list(ARMS), action="append", help="again for more (default: all but nohang)")
    verb.add_argument("--seed", type=int, default=SEED, metavar="N", help="of the apps (default: %(default)s)")
    verb.add_argument("--lock", metavar="FILE", default="",
                      help="held for each arm, where others boot devices on this machine")
    verb.add_argument("--out", metavar="FILE", default=RESULTS,
                      help="the results; other runs in it stay (default: bench/results/lab.json)")
    verb.add_argument("--logs", metavar="FOLDER", default="", help="keep what guards and apps said there")
    verb.set_defaults(function=survey_command)
    verb = verbs.add_parser("page", help="make docs/lab.md and docs/lab.png of the results")
    verb.set_defaults(function=page_command, out=RESULTS)


def survey_command(arguments: argparse.Namespace) -> int:
    """Carry out `survey`; with --smoke, end with 1 where the guarded app was killed."""
    job = smoke() if arguments.smoke else whole(
        tuple(arguments.memory or SIZES_MIB), tuple(arguments.swap or SWAPS), tuple(arguments.arm or ()),
        tuple(arguments.suite or list(RECIPES)[:1]), arguments.seed)
    job = job._replace(logs=arguments.logs)
    if arguments.smoke and arguments.arm:
        job = job._replace(arms=tuple(arguments.arm))
    runs = carry_out(job, "" if arguments.smoke else arguments.out, say, lambda: held(arguments.lock))
    for run in runs:
        print(" | ".join(row(ARMS[run["arm"]].label, run)))
    if not arguments.smoke and arguments.out == RESULTS:
        page_command(arguments)
    guarded = [run for run in runs if run["arm"].startswith("oomguard")]
    return int(any("lost" in run or any(phase["kernel_kills"] for phase in run["phases"].values()) for run in guarded))


def page_command(arguments: argparse.Namespace) -> int:
    """Carry out `page`."""
    runs = load(arguments.out)
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page(runs))
    draw(PICTURE, runs)
    return 0


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Hold a lock file, if one is named."""
    with contextlib.ExitStack() as files:
        if path:
            fcntl.flock(files.enter_context(open(path, "a")), fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Show progress where it does not mix with the results."""
    print(text, file=sys.stderr, flush=True)
