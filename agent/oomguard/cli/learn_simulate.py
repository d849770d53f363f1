"""`oomguard learn simulate`: an invented fleet of devices as recordings, marked so, with what was planted told."""

from __future__ import annotations

import argparse
import json
from functools import partial

from oomguard.cli.progress import draw_bar

NAME = "simulate"
HELP = "invent a fleet of devices: recordings whose thresholds and shapes are known"
EXAMPLES = """\
  oomguard learn simulate --out /tmp/fleet                    9 device types, 500 runs
  oomguard learn simulate --out /tmp/fleet --types 30 --runs 5000 --seed 2 --json
  oomguard learn thresholds /tmp/fleet --simulated            are they found again?
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `learn simulate` takes."""
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the tables go; empty or not there yet")
    parser.add_argument("--types", type=int, default=9, metavar="N", help="device types (default 9)")
    parser.add_argument("--runs", type=int, default=500, metavar="N", help="runs, of 15 to 90 minutes (default 500)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="same seed, same bytes (default 1)")
    parser.add_argument("--json", action="store_true", help="print what was planted as JSON (also in simulated.json)")


def run(args: argparse.Namespace) -> int:
    """Write the fleet; return the exit code."""
    from oomguard.errors import UsageError
    from oomguard.learn.simulate.fleet_tables import write_fleet

    if args.seed < 0:
        raise UsageError(f"--seed {args.seed} is below 0")
    truth = write_fleet(args.out, types=args.types, runs=args.runs, seed=args.seed,
                        progress=partial(draw_bar, "simulate", unit="runs"))
    if args.json:
        print(json.dumps(truth, indent=1, allow_nan=False))
        return 0
    print(f"{args.out}: {truth['runs']} simulated runs, {truth['kills']} kills, {truth['samples']} samples. Planted:")
    for name, planted in truth["device_types"].items():
        print(f"  {name:28s} critical {planted['critical_ratio']:.3f}  {planted['shape']}")
    return 0
