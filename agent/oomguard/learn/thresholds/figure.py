"""Draw kills against memory readings: one panel per device type, its shape named, its critical threshold marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from oomguard.learn.thresholds.histograms import BINS, FLAT, NEAR, PREMATURE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from oomguard.learn.thresholds.critical import Study, TypeStudy

BAR_BINS = 40                   # 0.025 of the limit each
ACROSS = 3
SURE = 0.8                      # share of resamples that give the same shape; below it the title says so
INK, PALE, LINE = "#1f2933", "#c3cfd9", "#c2410c"
COLOURS = {NEAR: "#2563a8", PREMATURE: "#b45309", FLAT: "#5b7a3a"}


def figure_of_types(study: Study, *, title: str = "Where kills happen", most: int = 12) -> Figure:
    """Return a figure with a panel for each of the `most` types that have most kills; no type has none: one says so.

    Bars are kills by their last reading; the pale area behind them is all readings of the five minutes before, each
    kill spread over its readings. The line is the critical threshold, the band its 95 % interval.
    """
    names = sorted((name for name, one in study.types.items() if one.readings.kills),
                   key=lambda name: (-study.types[name].readings.kills, name))
    shown = names[:most]
    down = max(-(-len(shown) // ACROSS), 1)
    figure = Figure(figsize=(4.3 * ACROSS, 2.9 * down + 1.1), layout="constrained")
    axes = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for panel, name in zip(axes, shown, strict=False):
        _draw(panel, name, study.types[name])
    for panel in axes[len(shown):]:
        panel.set_axis_off()
    if not shown:
        axes[0].text(0.0, 0.5, "no kill in these runs", color=INK)
    else:
        handles, labels = axes[0].get_legend_handles_labels()
        handles[-1] = Patch(color=INK)          # the bars' colour tells the shape; the legend is for all panels
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    rest = len(study.types) - len(shown)
    more = f"  ({rest} more device type{'s' * (rest != 1)} with fewer kills or none)" if rest else ""
    figure.suptitle(title + more, x=0.01, ha="left", fontsize=13, color=INK)
    return figure


def _draw(panel: Axes, name: str, one: TypeStudy) -> None:
    edges = np.linspace(0.0, 1.0, BAR_BINS + 1)
    at_kill = one.readings.at_kill.sum(axis=0).reshape(BAR_BINS, BINS // BAR_BINS).sum(axis=1)
    before = one.readings.before.sum(axis=0).reshape(BAR_BINS, BINS // BAR_BINS).sum(axis=1)
    panel.stairs(before, edges, fill=True, color=PALE, label="readings in the 5 minutes before a kill")
    panel.bar(edges[:-1], at_kill, 1 / BAR_BINS, align="edge", color=COLOURS.get(one.peak.shape, INK), alpha=0.85,
              edgecolor="white", linewidth=0.4, label="kills, by the last reading")
    if one.interval is not None:
        panel.axvspan(*one.interval, color=LINE, alpha=0.13, linewidth=0, label="95 % interval of it")
    panel.axvline(one.ratio, color=LINE, linewidth=1.6, label="critical threshold")
    kills = one.readings.kills
    panel.set_title(f"{name}: {_words(one)}\n", loc="left", fontsize=9.5, color=INK, pad=0)
    within = "" if one.interval is None else f" ({one.interval[0]:.2f}…{one.interval[1]:.2f})"
    panel.text(0.0, 1.02, f"{kills} kill{'s' * (kills != 1)} in {len(one.readings.at_kill)} runs, "
               f"critical {one.ratio:.3f}{within}", transform=panel.transAxes, fontsize=8.5, color="#52606d")
    panel.set_xlim(0.0, 1.0)
    panel.set_ylim(0.0, max(float(at_kill.max()), float(before.max()), 1.0) * 1.08)
    panel.set_xlabel("used / limit", fontsize=8.5)
    panel.set_ylabel("kills", fontsize=8.5)
    panel.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    panel.tick_params(labelsize=8, colors=INK)
    panel.spines[["top", "right"]].set_visible(False)


def _words(one: TypeStudy) -> str:
    if one.peak.shape not in COLOURS:
        return "shape unknown, too few kills"
    return one.peak.shape + (", uncertain" if one.peak.agreement < SURE else "")
