"""The picture of the demo: both apps' memory against the limit, with the levels along the guarded one."""

from __future__ import annotations

import importlib.util
import os
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from oomguard.demo.screen import LABELS, SPEAKERS
from oomguard.demo.story import Story, lead_s
from oomguard.errors import UsageError
from oomguard.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
_LEVEL_COLOURS = ("#4c9f70", "#e9d460", "#f4b942", "#f08a3c", "#e2553d", "#b3122b")     # level 0…5
_KILLED, _GUARDED, _INK = "#b3122b", "#1f4e79", "#333333"
_DASHED = (0, (4, 2))
_LABELS, _ROWS = 8, 3       # evictions that are named, and the rows their words stand in
_MIB = 1 << 20


def check_plot(path: str) -> None:
    """Raise UsageError now rather than after the demo if `path` cannot be drawn. Empty: nothing is to be drawn."""
    if not path:
        return
    if not path.endswith(FORMATS):
        raise UsageError(f"--plot: {path} does not end in {' or '.join(FORMATS)}")
    if not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK):
        raise UsageError(f"--plot: {path} cannot be written there")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'oomguard[plot]'")


def draw_plot(path: str, unguarded: Story, guarded: Story, planned_s: float) -> None:
    """Draw both arms into a file, as its name ends."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.family": "sans-serif", "font.size": 10, "svg.fonttype": "none"}):
        figure = Figure(figsize=(11, 6.4), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        limit_mib = guarded.limit_bytes / _MIB
        _draw_limit(axes, limit_mib, planned_s)
        _draw_guarded(axes, guarded, planned_s)
        _draw_unguarded(axes, unguarded)
        _draw_alarm(axes, unguarded, guarded, planned_s)
        axes.set(xlim=(0, planned_s), ylim=(0, limit_mib * 1.2),
                 xlabel="seconds since the app started", ylabel="used memory, MiB")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(_title(unguarded, guarded), loc="left", fontsize=13, fontweight="bold", color=_INK)
        _draw_legend(figure, guarded)
        figure.savefig(path)


def _title(unguarded: Story, guarded: Story) -> str:
    one = f"killed by the {unguarded.killer}" if unguarded.ended == "oom" else unguarded.ended
    other = f"alive at {guarded.survived_s:.0f} s" if guarded.ended == "exit" else guarded.ended
    return f"The same app. Without the guard: {one}. Under oomguard: {other}."


def _draw_limit(axes: Axes, limit_mib: float, planned_s: float) -> None:
    axes.axhline(limit_mib, color=_INK, linewidth=1.6)
    axes.text(planned_s, limit_mib * 1.012, f"limit: {limit_mib:.0f} MiB", color=_INK, ha="right", va="bottom")


def _draw_guarded(axes: Axes, guarded: Story, planned_s: float) -> None:
    """Draw the guarded curve over a ground that has the colour of the level that held."""
    curve = [(t_s, used_bytes / _MIB) for t_s, used_bytes in guarded.used]
    for span in spans(guarded):
        part = clipped(curve, span.from_s, span.to_s)
        axes.fill_between([t_s for t_s, _mib in part], [mib for _t_s, mib in part],
                          color=_LEVEL_COLOURS[span.level], alpha=0.55, linewidth=0)
    axes.plot([t_s for t_s, _mib in curve], [mib for _t_s, mib in curve], color=_GUARDED, linewidth=2.2)
    for t_s, words, row in labels(guarded, planned_s):
        after = min((mib for at_s, mib in curve if t_s - 0.5 <= at_s <= t_s + 1), default=0.0)
        is_low = after < guarded.limit_bytes / _MIB / 5         # no room below
        axes.annotate(words, (t_s, after), xytext=(0, (44 + 28 * row) * (1 if is_low else -1)),
                      textcoords="offset points", ha="center", fontsize=9, color=_GUARDED,
                      arrowprops={"arrowstyle": "<|-", "color": _GUARDED})
    if guarded.ended == "exit":
        axes.plot(*curve[-1], "o", color=_GUARDED, clip_on=False, markersize=8)


def _draw_unguarded(axes: Axes, unguarded: Story) -> None:
    axes.plot([t_s for t_s, _used in unguarded.used], [used_bytes / _MIB for _t_s, used_bytes in unguarded.used],
              color=_KILLED, linewidth=1.8, linestyle=_DASHED)
    if unguarded.ended == "oom":
        top = (unguarded.survived_s, unguarded.limit_bytes / _MIB)
        axes.plot(*top, "X", color=_KILLED, markersize=15, markeredgecolor="white", zorder=5)
        axes.annotate(f"KILLED at {unguarded.survived_s:.0f} s", top, xytext=(12, 8), textcoords="offset points",
                      color=_KILLED, fontweight="bold", fontsize=12)


def _draw_alarm(axes: Axes, unguarded: Story, guarded: Story, planned_s: float) -> None:
    """Mark the first alarm, and how long before the kill it came."""
    first, lead = guarded.first_alarm, lead_s(unguarded, guarded)
    if first is None:
        return
    height = guarded.limit_bytes / _MIB * 1.12
    is_left = first.t_s > planned_s / 5         # room for the words before the line
    axes.axvline(first.t_s, color=_INK, linestyle=":", linewidth=1.2)
    axes.annotate(f"first alarm: level {first.level},\nby {SPEAKERS.get(first.scorer, first.scorer)}",
                  (first.t_s, height), xytext=(-6 if is_left else 6, 0), textcoords="offset points",
                  ha="right" if is_left else "left", va="center" if is_left else "bottom", fontsize=9)
    if lead is not None and lead > 0:
        axes.annotate("", (first.t_s, height), (unguarded.survived_s, height),
                      arrowprops={"arrowstyle": "<->", "color": _INK, "shrinkA": 0, "shrinkB": 0})
        axes.text(first.t_s + lead / 2, height * 1.01, f"{lead:.0f} s ahead", ha="center", va="bottom", fontsize=9)


def _draw_legend(figure: Figure, guarded: Story) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    has_model = any(each.scorer == "forest" for each in guarded.levels)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, handles=[
        Line2D([], [], color=_KILLED, linestyle=_DASHED, label=LABELS["unguarded"]),
        Line2D([], [], color=_GUARDED, linewidth=2.2, label=LABELS["guarded"]),
        *(Patch(color=_LEVEL_COLOURS[level], alpha=0.55, label=_meaning(level, has_model))
          for level in sorted({span.level for span in spans(guarded)}))])


def _meaning(level: int, has_model: bool) -> str:
    """Return what a level says, in words; plain levels speak of what is free and not of time."""
    if level and has_model:
        return f"level {level}: a kill within {6 - level} min"
    return f"level {level}" if level else "level 0: nothing in sight"


def labels(story: Story, planned_s: float) -> list[tuple[float, str, int]]:
    """Return (t_s, words, row) for the largest evictions: a row further down where the last words are too near."""
    least_bytes = sorted((freed for _t_s, freed in story.evictions), reverse=True)[:_LABELS][-1:]
    found: list[tuple[float, str, int]] = []
    for t_s, freed_bytes in story.evictions:
        if freed_bytes >= least_bytes[0] and len(found) < _LABELS:
            is_near = bool(found) and t_s - found[-1][0] < planned_s / 10
            found.append((t_s, f"gave back\n{format_bytes(freed_bytes)}", (found[-1][2] + 1) % _ROWS if is_near else 0))
    return found


class Span(NamedTuple):
    """A stretch of time in which a level held."""

    from_s: float
    to_s: float
    level: int


def spans(story: Story) -> list[Span]:
    """Return the stretches of the guarded arm's life, level by level."""
    changes = [(0.0, 0), *((each.t_s, each.level) for each in story.levels), (story.survived_s, story.level)]
    return [Span(from_s, to_s, level) for (from_s, level), (to_s, _next) in pairwise(changes) if to_s > from_s]


def clipped(curve: list[tuple[float, float]], from_s: float, to_s: float) -> list[tuple[float, float]]:
    """Return the part of a curve between two times, with a point at each end, so that parts meet."""
    inside = [point for point in curve if from_s < point[0] < to_s]
    return [(from_s, _at(curve, from_s)), *inside, (to_s, _at(curve, to_s))] if curve else []


def _at(curve: list[tuple[float, float]], t_s: float) -> float:
    """Return the curve's height at a time, on a straight line between its points."""
    for (from_s, low), (to_s, high) in pairwise(curve):
        if from_s <= t_s <= to_s and to_s > from_s:
            return low + (high - low) * (t_s - from_s) / (to_s - from_s)
    return curve[0][1] if t_s < curve[0][0] else curve[-1][1]
