"""`oomguard learn thresholds`: where each device type is killed, and the thresholds that follow from it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from oomguard.cli.progress import draw_bar
from oomguard.errors import UsageError

if TYPE_CHECKING:
    from oomguard.learn.dataset import Run
    from oomguard.learn.thresholds.critical import Study
    from oomguard.learn.thresholds.levels import TypeThresholds

NAME = "thresholds"
HELP = "learn critical and alarm thresholds per device type from recordings"
EXAMPLES = """\
  oomguard learn thresholds recordings/                       shapes and critical thresholds
  oomguard learn thresholds recordings/ --figure kills.png    and a picture of them
  oomguard learn thresholds recordings/ --bundle shipped --out mine   a bundle with thresholds for these devices
  oomguard learn thresholds recordings/ --bundle shipped --field-kills-per-hour 0.01 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `learn thresholds` takes."""
    parser.add_argument("recordings", nargs="+", metavar="RECORDINGS", help="folders of recordings")
    parser.add_argument("--bundle", metavar="FOLDER", help="also set alarm thresholds, for this bundle's model "
                        "(`shipped`: the package's). It must not have been trained on these recordings")
    parser.add_argument("--out", metavar="FOLDER", help="write the bundle with what was learned; sign it afterwards")
    parser.add_argument("--figure", metavar="FILE", help="draw kills against used/limit by type (.png, .svg, .pdf)")
    parser.add_argument("--miss-to-false-alarm", type=float, default=20.0, metavar="N",
                        help="what a missed kill costs, in false alarms (default 20)")
    parser.add_argument("--field-kills-per-hour", type=float, default=1.0, metavar="N",
                        help="kills in an hour of use where the guard will work: recordings hold more (default 1)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the resampling (default 1)")
    parser.add_argument("--simulated", action="store_true", help="the recordings are simulated: look, write no bundle")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Learn, tell, draw and write; return the exit code."""
    _check(args)
    from oomguard.learn.thresholds.critical import study_of
    from oomguard.learn.thresholds.per_type import table_of, told

    runs = _runs(args)
    study = study_of(runs, args.seed)
    alarms = _alarms(args, runs, study) if args.bundle else None
    if args.figure:
        _draw(args.figure, study, is_simulated=args.simulated)
    if args.json:
        print(json.dumps({"simulated": args.simulated, **told(study, alarms)}, indent=1, allow_nan=False))
    else:
        print(table_of(study, alarms))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.out and not args.bundle:
        raise UsageError("--out writes a bundle: say which one to start from with --bundle")
    if args.out and args.simulated:
        raise UsageError("thresholds of simulated devices are for no bundle: leave out --out")
    if args.miss_to_false_alarm <= 0 or args.field_kills_per_hour <= 0 or args.seed < 0:
        raise UsageError("--miss-to-false-alarm and --field-kills-per-hour are above 0, --seed not below")


def _runs(args: argparse.Namespace) -> list[Run]:
    from oomguard.learn.dataset import read_recordings
    from oomguard.learn.simulate.fleet import run_is_simulated

    runs = [run for folder in args.recordings for run in read_recordings(folder)]
    invented = [run for run in runs if run_is_simulated(run)]
    if args.simulated and len(invented) < len(runs):
        raise UsageError(f"--simulated, but {len(runs) - len(invented)} of {len(runs)} runs are recorded")
    if invented and not args.simulated:
        raise UsageError(f"{len(invented)} of {len(runs)} runs are simulated: thresholds come from recorded ones only "
                         "(--simulated to look at them)")
    if not runs:
        raise UsageError("there is no run in the recordings")
    return runs


def _alarms(args: argparse.Namespace, runs: list[Run], study: Study) -> dict[str, TypeThresholds]:
    from oomguard.learn.bundle.rebundle import forecasts_of, global_thresholds, write_with_thresholds
    from oomguard.learn.thresholds.levels import Cost, fit_by_type
    from oomguard.trust.bundle import load_bundle, load_shipped

    bundle = load_shipped() if args.bundle == "shipped" else load_bundle(args.bundle, allow_unsigned=True)
    cost = Cost(args.miss_to_false_alarm, args.field_kills_per_hour)
    forecasts = forecasts_of(runs, bundle, partial(draw_bar, "forecasts", unit="runs"))
    whole = global_thresholds(runs, forecasts, cost)
    alarms = fit_by_type(runs, forecasts, cost, whole)
    if args.out:
        digest = write_with_thresholds(bundle, args.out, study, whole, alarms, cost, runs)
        print(f"{args.out}: manifest sha256 {digest[:12]}…, not signed yet", file=sys.stderr)
    return alarms


def _draw(path: str, study: Study, *, is_simulated: bool) -> None:
    from oomguard.learn.thresholds.figure import figure_of_types

    kind = os.path.splitext(path)[1].lower()
    if kind not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--figure {path}: the name ends in .png, .svg or .pdf")
    title = "Where kills happen" + (" (simulated)" if is_simulated else "")
    figure_of_types(study, title=title).savefig(path, dpi=120)
