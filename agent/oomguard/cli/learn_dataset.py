"""`oomguard learn dataset`: recordings of any size become one table of labels and features, and a data card."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial

from oomguard.cli.progress import draw_bar

NAME = "dataset"
HELP = "clean recordings, label and compute features: one table to learn from, and a data card"
EXAMPLES = """\
  oomguard learn dataset models/recordings/sample --out out/sample.parquet
  oomguard learn dataset 'fleet/**/*.parquet' lab/ --out out/fleet.parquet --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `learn dataset` takes."""
    parser.add_argument("source", nargs="+", metavar="SOURCE",
                        help="folder of recordings (searched to any depth), or a glob of Parquet files or folders")
    parser.add_argument("--out", required=True, metavar="FILE",
                        help="the dataset (Parquet); FILE.card.json and FILE.card.md go beside it")
    parser.add_argument("--json", action="store_true", help="print the data card as JSON")


def run(args: argparse.Namespace) -> int:
    """Make the dataset; return the exit code."""
    from oomguard.learn.dataset import make_dataset

    begun_s = time.monotonic()
    card = make_dataset(args.source, args.out, partial(draw_bar, "dataset", unit="samples"))
    if args.json:
        sys.stdout.write(card.to_json().decode())
        return 0
    kept = card.facts["kept"]
    taken_s = time.monotonic() - begun_s
    print(f"{args.out}: {kept['samples']} samples of {kept['recorded']['runs'] + kept['simulated']['runs']} lives, "
          f"{kept['samples_dropped']} left out, {sum(card.facts['repaired'].values())} repairs "
          f"({args.out}.card.md says why); {taken_s:.1f} s")
    return 0
