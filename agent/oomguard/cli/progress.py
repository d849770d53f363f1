"""How far a long job is: one line on the terminal that overwrites itself, and no line where nobody watches."""

from __future__ import annotations

import sys

BAR_CHARS = 30


def draw_bar(what: str, done: int, of: int, unit: str = "") -> None:
    """Draw how much of a job is done; the last one ends the line."""
    if sys.stderr.isatty():
        bar = "#" * (BAR_CHARS * done // max(of, 1))
        print(f"\r{what:12s} [{bar:{BAR_CHARS}s}] {done}/{of} {unit}".rstrip(), end="\n" if done == of else "",
              file=sys.stderr, flush=True)


def draw_line(line: str, note: str = "") -> None:
    """Draw a line that the next one overwrites; one with a note stays, and is written where nobody watches, too."""
    is_terminal = sys.stderr.isatty()
    if note:
        print(f"{chr(13) if is_terminal else ''}{note}  [{line}]", file=sys.stderr, flush=True)
    elif is_terminal:
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
