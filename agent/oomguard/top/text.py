"""Text on a grid of cells: cut and padded to a width, sparklines, lines of styled spans."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from oomguard.tell.log import escaped

Span = tuple[str, str]              # text, style: "" normal, title, dim, bold, warn, alarm, chosen
Line = list[Span]

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = "_.:-=+*#"           # where the terminal has no block characters
TEXT_MAX_CHARS = 256


def safe(value: object) -> str:
    """Return what a guard said as it may be shown: a cgroup or a rule can be called anything, ESC included."""
    return escaped(str(value)[:TEXT_MAX_CHARS])


def cells(text: str) -> int:
    """Return how many cells a terminal gives the text: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(each) for each in text)


def fit(text: str, width: int, *, is_right: bool = False) -> str:
    """Return the text in exactly so many cells: padded, or cut with a `~` at its end."""
    if width <= 0:
        return ""
    if cells(text) > width:
        kept, used = [], 0
        for each in text:
            if used + _cells_of(each) > width - 1:
                break
            kept.append(each)
            used += _cells_of(each)
        text = "".join(kept) + "~"
    pad = " " * (width - cells(text))
    return pad + text if is_right else text + pad


def clipped(line: Line, width: int) -> Line:
    """Return the spans that stand within the width."""
    kept: Line = []
    for text, style in line:
        if width <= 0:
            break
        text = text if cells(text) <= width else fit(text, width)
        kept.append((text, style))
        width -= cells(text)
    return kept


def spark(ratios: Sequence[float | None], width: int, *, is_ascii: bool = False) -> str:
    """Return a line of blocks, oldest left, one for each part of the time: the greatest ratio in it.

    The scale is the limit's: nothing used is the lowest block, 1.0 or more the highest; unknown is blank.
    """
    blocks, count = PLAIN_BLOCKS if is_ascii else BLOCKS, len(ratios)
    width = min(width, count)
    drawn = []
    for column in range(width):
        part = [ratio for ratio in ratios[column * count // width:(column + 1) * count // width] if ratio is not None]
        drawn.append(blocks[min(max(int(max(part) * len(blocks)), 0), len(blocks) - 1)] if part else " ")
    return "".join(drawn)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
