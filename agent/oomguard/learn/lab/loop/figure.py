"""Draw the closed loop: kills averted against bytes evicted, one panel per hook latency, one colour per arm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from oomguard.learn.lab.loop.results import ENOUGH, PLATEAUS
from oomguard.learn.lab.loop.triggers import ARMS, LINEAR, NONE, OOMGUARD

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, DIM, RULE = "#1f2933", "#52606d", "#dfe5eb"        # as in report/palette.py, and the arms as it has baselines
COLOURS = {"threshold-80": "#a7b0bc", "threshold-90": "#6f7b8a", "threshold-95": "#3d4753", LINEAR: "#e08a2e",
           OOMGUARD: "#2f7de1"}


def figure_of_loop(results: dict[str, Any]) -> Figure:
    """Return the figure of results.results_of: cases whose cache holds enough, then what plateaus cost.

    Higher is better, and further left. Whiskers are 95 % intervals of the share averted; bytes are over all cases.
    """
    parts: dict[str, Any] = results[ENOUGH]
    latencies = sorted((key for key in parts if parts[key]["cases"]), key=float)
    idle = {key: part for key, part in results[PLATEAUS].items() if part["cases"]}
    across = max(len(latencies), 1) + bool(idle)
    figure = Figure(figsize=(3.6 * across, 3.9), layout="constrained")
    axes = figure.subplots(1, across, squeeze=False)[0]
    for panel, latency in zip(axes, latencies, strict=False):
        _draw_averted(panel, latency, parts[latency])
    if idle:
        _draw_idle(axes[-1], next(iter(idle.values())))
    if not latencies:
        axes[0].set_axis_off()
        axes[0].text(0.0, 0.5, "no case whose cache holds enough", color=INK)
    else:
        axes[0].set_ylabel("kills averted", color=INK)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def _draw_averted(panel: Axes, latency: str, part: dict[str, Any]) -> None:
    for arm in _shown(part):
        figures = part["arms"][arm]
        ratio, (low, high) = figures["averted_ratio"], figures["averted_interval"]
        panel.errorbar(figures["everywhere"]["evicted_limits"], ratio,
                       yerr=[[max(ratio - low, 0.0)], [max(high - ratio, 0.0)]], fmt="o", markersize=9,
                       color=COLOURS[arm], elinewidth=1.2, capsize=3, label=arm, zorder=3 if arm == OOMGUARD else 2)
    panel.set_title(f"hook takes {latency} s ({part['cases']} cases)", fontsize=10, color=INK, loc="left")
    panel.set_xlabel("bytes evicted, in memory limits", color=INK)
    panel.set_ylim(-0.04, 1.06)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _plain(panel)
    panel.set_xlim(left=0.0)


def _draw_idle(panel: Axes, part: dict[str, Any]) -> None:
    arms = _shown(part)[::-1]
    panel.barh(range(len(arms)), [part["arms"][arm]["everywhere"]["evicted_limits"] for arm in arms],
               color=[COLOURS[arm] for arm in arms], height=0.62)
    panel.set_yticks(range(len(arms)), arms)
    panel.set_title(f"nothing to avert ({part['cases']} plateaus)", fontsize=10, color=INK, loc="left")
    panel.set_xlabel("bytes evicted in vain, in memory limits", color=INK)
    _plain(panel)


def _shown(part: dict[str, Any]) -> list[str]:
    return [arm for arm in ARMS if arm in part["arms"] and arm != NONE]


def _plain(panel: Axes) -> None:
    panel.grid(color=RULE, linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.tick_params(colors=DIM, labelsize=9)
