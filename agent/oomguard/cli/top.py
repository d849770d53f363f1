"""`oomguard top`: a live view of the running guard, driven by keys."""

from __future__ import annotations

import argparse

from oomguard.errors import UsageError
from oomguard.tell.paths import socket_path
from oomguard.top.page import Ui
from oomguard.top.scene import SORTS
from oomguard.top.screen import Screen
from oomguard.top.show import Top
from oomguard.units import parse_seconds

NAME = "top"
HELP = "watch the running guard live: targets, levels, releases, hooks"
EXAMPLES = """\
  oomguard top                          q quits, ? shows the keys
  oomguard top --sort level             the most pressing target first
  ssh -t tv-box oomguard top            over ssh; it works at 80x24 and below
"""
EVERY_S = (0.1, 60.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `top` takes."""
    parser.add_argument("--every", metavar="TIME", default="1s",
                        help="time between two looks, 100ms to 60s (default: 1s)")
    parser.add_argument("--sort", choices=SORTS, default="guard",
                        help="order of the targets: as the guard has them (default), or the most pressing first")
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only, where block characters are missing")
    parser.add_argument("--socket", metavar="PATH", default="", help="the guard's control socket")


def run(args: argparse.Namespace) -> int:
    """Show it until the user quits; Ctrl-C is a way to quit."""
    Top(args.socket or socket_path(), _every_s(args.every), Ui(sort=args.sort, is_ascii=args.ascii), Screen()).run()
    return 0


def _every_s(text: str) -> float:
    try:
        every_s = parse_seconds(text)
    except ValueError as error:
        raise UsageError(f"--every: {error}") from None
    if not EVERY_S[0] <= every_s <= EVERY_S[1]:
        raise UsageError(f"--every: {text} is not within 100ms to 60s")
    return every_s
