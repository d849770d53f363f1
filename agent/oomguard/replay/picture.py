"""An explanation as a picture: the memory against its limit, the forecast, and what pushed it, under one sentence."""

from __future__ import annotations

import importlib.util
import os
import textwrap
from typing import TYPE_CHECKING

from oomguard.errors import UsageError
from oomguard.replay.explain import AFTER_S, Explanation, Point
from oomguard.replay.telling import HORIZON_NAMES, headline
from oomguard.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")
PUSHES_SHOWN = 6
BAR_LENGTH = 1.6            # of the strongest push; names stand left of the bars, words right
NEAR_S = 120.0              # what came after is shown so far, or up to a kill
LEVEL_COLOURS = ("#4c9f70", "#e9d460", "#f4b942", "#f08a3c", "#e2553d", "#b3122b")      # level 0…5
_INK, _USED, _AFTER, _TOWARDS, _AWAY = "#333333", "#1f4e79", "#9fb4c9", "#c8452f", "#3f8f67"
_MIB = 1 << 20


def check_plot(path: str) -> None:
    """Raise UsageError now rather than later if `path` cannot be drawn. Empty: nothing is to be drawn."""
    if not path:
        return
    if not path.endswith(FORMATS):
        raise UsageError(f"--plot: {path} does not end in {' or '.join(FORMATS)}")
    if not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK):
        raise UsageError(f"--plot: {path} cannot be written there")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'oomguard[plot]'")


def draw(path: str, found: Explanation) -> None:
    """Draw an explanation into a file, as its name ends."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.family": "sans-serif", "font.size": 10, "svg.fonttype": "none"}):
        figure = Figure(figsize=(12, 8), dpi=110, layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(1.25, 1), width_ratios=(1, 2.3))
        name = f"{found.app or 'target'} ({found.run_id}), {found.what} at {format_seconds(found.point.t_s)}"
        figure.suptitle(f"{_plain(name)}\n{_plain(headline(found))}", x=0.01, ha="left", fontsize=14,
                        fontweight="bold", color=_INK)
        _draw_memory(figure.add_subplot(grid[0, :]), found)
        _draw_forecast(figure.add_subplot(grid[1, 0]), found)
        _draw_pushes(figure.add_subplot(grid[1, 1]), found)
        figure.savefig(path)


def _draw_memory(axes: Axes, found: Explanation) -> None:
    now = found.point
    kill_s = found.kill_s - now.t_s
    shown_s = kill_s + 10.0 if kill_s <= AFTER_S else NEAR_S
    before = found.history
    after = (now, *(each for each in found.after if each.t_s - now.t_s <= shown_s))
    times = [each.t_s - now.t_s for each in before]
    _draw_curve(axes, before, now.t_s, _USED)
    axes.fill_between(times, [each.used_bytes / _MIB for each in before], color=_USED, alpha=0.18, linewidth=0)
    if len(after) > 1:
        _draw_curve(axes, after, now.t_s, _AFTER)
    axes.plot(times, [(each.used_bytes + each.headroom_bytes) / _MIB for each in before], color=_INK, linewidth=1.5)
    end_s = max(20.0, shown_s if kill_s <= AFTER_S else after[-1].t_s - now.t_s)
    edge_mib = (now.used_bytes + now.headroom_bytes) / _MIB
    axes.plot([0, end_s], [edge_mib] * 2, color=_INK, linewidth=1.5)
    edge = f"killed beyond {format_bytes(now.used_bytes + now.headroom_bytes)}"
    axes.annotate(edge, (min(times, default=0), edge_mib), xytext=(4, 4), textcoords="offset points", color=_INK,
                  fontsize=9)
    colour = LEVEL_COLOURS[found.level]
    axes.axvline(0, color=colour, linewidth=2.5)
    badge = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "none"}
    axes.annotate(f"level {found.level}", (0, edge_mib * 1.09), ha="center", va="center", bbox=badge,
                  color="white" if found.level in (0, 4, 5) else _INK, fontweight="bold", annotation_clip=False)
    axes.annotate("", (0, now.used_bytes / _MIB), (0, edge_mib),
                  arrowprops={"arrowstyle": "<->", "color": _INK, "shrinkA": 0, "shrinkB": 0})
    is_roomy = now.headroom_bytes / _MIB > edge_mib / 7     # else the words stand below, off the line of the limit
    axes.annotate(f"{format_bytes(now.headroom_bytes)} left", (0, now.used_bytes / _MIB + (
        now.headroom_bytes / _MIB / 2 if is_roomy else -edge_mib / 12)), xytext=(8, 0), textcoords="offset points",
                  va="center", fontsize=9, color=_INK)
    _draw_events(axes, found, edge_mib)
    asked = "; \N{BLACK UP-POINTING TRIANGLE} memory was asked for" if found.asked_s else ""
    axes.set(ylim=(0, edge_mib * 1.18), xlim=(min(times, default=-1.0), end_s), ylabel="used memory, MiB",
             xlabel=f"seconds before and after this moment (what came after, pale, the guard did not know){asked}")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curve(axes: Axes, points: tuple[Point, ...], now_s: float, colour: str) -> None:
    axes.plot([each.t_s - now_s for each in points], [each.used_bytes / _MIB for each in points], color=colour,
              linewidth=2.4)


def _draw_events(axes: Axes, found: Explanation, edge_mib: float) -> None:
    now_s, answered = found.point.t_s, [each.action.t_s for each in found.gave]
    used_mib = found.point.used_bytes / _MIB
    is_low = used_mib < edge_mib / 3        # then there is room for words above the curve only
    for number, each in enumerate(found.gave):
        is_known = each.action.freed_bytes == each.action.freed_bytes
        gave = f"\ngave {format_bytes(each.action.freed_bytes)}" if is_known else ""
        axes.annotate(f"{_plain(each.action.hook)}{gave}", (each.action.t_s - now_s, used_mib),
                      xytext=(24 + 84 * number, 34 if is_low else -48), textcoords="offset points", fontsize=9,
                      color=_AWAY, arrowprops={"arrowstyle": "-|>", "color": _AWAY},
                      bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1})
    others = [t_s - now_s for t_s in found.asked_s if t_s not in answered]
    if others:
        axes.plot(others, [edge_mib * 0.02] * len(others), "^", color=_AWAY, markersize=7, linestyle="none")
    kill_s = found.kill_s - now_s
    if kill_s <= AFTER_S:
        axes.plot(kill_s, edge_mib, "X", color=LEVEL_COLOURS[5], markersize=15, markeredgecolor="white", clip_on=False,
                  zorder=5)
        axes.annotate(f"killed after {format_seconds(kill_s)}", (kill_s, edge_mib), xytext=(-12, 12), ha="right",
                      textcoords="offset points", color=LEVEL_COLOURS[5], fontweight="bold")


def _draw_forecast(axes: Axes, found: Explanation) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("How likely a kill is, within", loc="left", fontsize=11, fontweight="bold", color=_INK)
    if found.forecast is None:
        axes.set_axis_off()
        axes.text(0, 0.9, "\n".join(textwrap.wrap(f"no forecast: {found.abstains_because or 'no model'}", 36)),
                  transform=axes.transAxes, va="top", color=_INK)
        return
    thresholds = tuple(reversed(found.thresholds))
    levels = [5 - at for at in range(5)]
    bars = axes.bar(range(5), found.forecast, width=0.7, color=[
        LEVEL_COLOURS[level] if p >= threshold else "#d9d9d9"
        for p, threshold, level in zip(found.forecast, thresholds, levels, strict=True)])
    for at, (bar, p, threshold) in enumerate(zip(bars, found.forecast, thresholds, strict=True)):
        axes.text(bar.get_x() + bar.get_width() / 2, p + 0.02, f"{100 * p:.0f} %", ha="center", color=_INK)
        axes.plot([at - 0.42, at + 0.42], [threshold] * 2, color=_INK, linewidth=2, linestyle=(0, (2, 1)))
    axes.set(ylim=(0, 1.08), yticks=[], xticks=range(5))
    axes.set_xticklabels([f"{name[1:]} s\nlevel {level}" for name, level in zip(HORIZON_NAMES, levels, strict=True)])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("seconds from now; dashes: the level's threshold", fontsize=9, color=_INK)


def _draw_pushes(axes: Axes, found: Explanation) -> None:
    axes.set_title("Why: what pushed the forecast up (red) or down (green)", loc="left", fontsize=11,
                   fontweight="bold", color=_INK)
    shown = found.pushes[:PUSHES_SHOWN]
    if not shown:
        axes.set_axis_off()
        axes.text(0, 0.9, "Without a forecast the plain levels hold: they go by headroom alone.",
                  transform=axes.transAxes, va="top", color=_INK)
        return
    scale = BAR_LENGTH / max(abs(push.contribution) for push in shown)
    label_at = scale * min(0.0, *(push.contribution for push in shown)) - 0.1
    for at, push in enumerate(shown):
        axes.barh(-at, push.contribution * scale, color=_TOWARDS if push.contribution > 0 else _AWAY, height=0.6)
        words = "\n".join(textwrap.wrap(push.words, 60, max_lines=2, placeholder=" …"))
        axes.text(BAR_LENGTH + 0.15, -at, words, va="center", fontsize=9.5, color=_INK)
        axes.text(label_at, -at, push.about, va="center", ha="right", fontsize=9.5, fontweight="bold", color=_INK)
    axes.axvline(0, color=_INK, linewidth=1)
    axes.set(xlim=(label_at - 2.1, BAR_LENGTH + 5.6), ylim=(-PUSHES_SHOWN + 0.4, 0.6), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _plain(words: str) -> str:
    """Return text that matplotlib takes as text: no dollars, which begin its formulas, nothing that is not printed."""
    return "".join(c if c.isprintable() else "?" for c in words).replace("$", "\\$")[:200]
