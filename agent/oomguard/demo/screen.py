"""The demo as it runs, on a terminal: a bar for each arm, used against the limit. Silent anywhere else."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

from oomguard.demo.story import Story
from oomguard.units import format_bytes

LABELS = {"unguarded": "without guard", "guarded": "with oomguard"}
SPEAKERS = {"forest": "the model", "plain": "a plain level"}
_COLOURS = ("\x1b[32m", "\x1b[33m", "\x1b[33m", "\x1b[38;5;208m", "\x1b[31m", "\x1b[1;31m")    # level 0…5
_MIB = 1 << 20
_GREY, _END = "\x1b[90m", "\x1b[0m"


class Screen:
    """Draws the arms again and again in the same place."""

    def __init__(self, stream: TextIO, planned_s: float) -> None:
        self._stream, self._planned_s = stream, planned_s
        self._is_shown = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._has_colours = "NO_COLOR" not in os.environ
        self._height = 0

    def draw(self, stories: tuple[Story, ...], t_s: float) -> None:
        """Draw over what was drawn before."""
        if not self._is_shown:
            return
        width = shutil.get_terminal_size().columns
        lines = [f"{min(t_s, self._planned_s):4.0f} s of {self._planned_s:.0f} s"]
        lines += [self._arm(story, width) for story in stories]
        up = f"\x1b[{self._height}A" if self._height else ""
        self._stream.write(up + "".join(f"\r{line}\x1b[K\n" for line in lines))
        self._stream.flush()
        self._height = len(lines)

    def _arm(self, story: Story, width: int) -> str:
        label = f"  {LABELS[story.name]:<15}"
        bar_width = max(10, min(40, width - 66))
        if story.ended not in ("", "exit"):
            return label + self._coloured("░" * bar_width, _GREY) + " " + self._coloured(state(story), _COLOURS[5])
        ratio = min(1.0, story.used_bytes / story.limit_bytes)
        full = round(ratio * bar_width)
        text = f" {story.used_bytes / _MIB:3.0f} of {story.limit_bytes / _MIB:.0f} MiB, {state(story)}"
        bar = self._coloured("█" * full, _COLOURS[_bar_level(story, ratio)])
        bar += self._coloured("░" * (bar_width - full), _GREY)
        return label + bar + text[:max(0, width - len(label) - bar_width - 1)]

    def _coloured(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_END}" if self._has_colours else text


def _bar_level(story: Story, ratio: float) -> int:
    """Return the guard's level; for the arm without one, what a plain look at the bar would say."""
    if story.name == "guarded":
        return story.level
    return 5 if ratio > 0.95 else 3 if ratio > 0.85 else 0


def state(story: Story) -> str:
    """Return how an arm stands, in a few words."""
    if story.started_s is None and not story.ended:
        return "starting"
    if story.ended == "oom":
        return f"KILLED by the {story.killer} at {story.survived_s:.0f} s"
    if story.ended == "exit":
        return f"alive to the end, {story.survived_s:.0f} s"
    if story.ended:
        return f"{story.ended}, exit status {story.exit_code}"
    if story.name == "unguarded":
        return "nobody watches"
    spoken = f" ({'plain' if story.levels[-1].scorer == 'plain' else 'model'})" if story.level else ""
    gave = f", gave {format_bytes(story.evicted_bytes)}" if story.evictions else ""
    return f"level {story.level}{spoken}{gave}"
