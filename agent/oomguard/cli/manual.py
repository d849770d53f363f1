"""`oomguard manual`: the man page and the shell completions, made from the command line's own parser."""

from __future__ import annotations

import argparse
import sys

from oomguard.cli import build_parser
from oomguard.cli.manual_page import page
from oomguard.cli.manual_shells import SHELLS
from oomguard.cli.manual_tree import tree_of

NAME = "manual"
HELP = "print the man page, or the completion for a shell"
EXAMPLES = """\
  oomguard manual man | man -l -                                       read it
  oomguard manual man > /usr/local/share/man/man1/oomguard.1
  oomguard manual bash > /etc/bash_completion.d/oomguard
  oomguard manual zsh > /usr/local/share/zsh/site-functions/_oomguard
  oomguard manual fish > ~/.config/fish/completions/oomguard.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `manual` takes."""
    parser.add_argument("what", choices=("man", *SHELLS), help="what to print")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    root = tree_of(build_parser())
    sys.stdout.write(page(root) if args.what == "man" else SHELLS[args.what](root))
    return 0
