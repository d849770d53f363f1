"""The figures that judge a forecast by itself: reliability, error of the time to limit, cadence, closed loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import PercentFormatter

from oomguard.learn.report.palette import DIM, INK, LEVEL_COLOURS, MODEL, PALE, colour_of
from oomguard.learn.report.pictures import panel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

HORIZON_COLOURS = dict(zip(("60", "120", "180", "240", "300"), reversed(LEVEL_COLOURS[1:]), strict=True))
LEAST_SHARE = 0.002         # of the weight in a bin, below which its point says little
ARM_COLOURS = {"none": DIM, "oomguard": MODEL, "linear": "#e08a2e"}


def reliability(calibration: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return what came true against what was said, per horizon; a point's size is its share of the time."""
    figure, axes = panel(height_in=4.6)
    axes.plot([0, 1], [0, 1], color=DIM, linewidth=1, linestyle=(0, (2, 2)))
    for horizon, row in calibration.items():
        bins = [each for each in row["bins"] if each["share"] >= LEAST_SHARE]
        colour = HORIZON_COLOURS[horizon]
        x, y = [each["forecast"] for each in bins], [each["observed"] for each in bins]
        axes.plot(x, y, color=colour, linewidth=1.6, label=f"within {horizon} s")
        axes.scatter(x, y, s=[12 + 260 * each["share"] for each in bins], color=colour, alpha=0.75, linewidth=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="forecast probability of a kill",
             ylabel="how often it came")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(loc="upper left", fontsize=10, labelcolor=INK)
    return figure


def time_errors(systems: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Return the forecast time to limit against the true one: medians, and the middle half and four fifths."""
    figure, axes = panel(height_in=4.6)
    axes.plot([0, 300], [0, 300], color=DIM, linewidth=1, linestyle=(0, (2, 2)))
    for at, (name, rows) in enumerate(systems.items()):
        known = [row for row in rows if row["error_s"]]
        x = np.array([(row["from_s"] + row["to_s"]) / 2 for row in known]) + 5 * at
        middle = x - 5 * at
        said = {q: np.array([row["error_s"][q] for row in known]) + middle for q in ("q10", "q25", "q50", "q75", "q90")}
        colour = colour_of(name)
        axes.vlines(x, said["q10"], said["q90"], color=colour, linewidth=1.4, alpha=0.6)
        axes.vlines(x, said["q25"], said["q75"], color=colour, linewidth=5, alpha=0.55)
        axes.plot(x, said["q50"], "o-", color=colour, markersize=5, label=name)
    axes.set(xlim=(300, 0), ylim=(0, 420), xlabel="true seconds to the kill", ylabel="forecast seconds to the limit")
    axes.legend(loc="upper right", fontsize=10, labelcolor=INK)
    return figure


def cadences(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return recall at 30, 60 and 120 s of the same model where it looks less often or samples are lost."""
    names = list(rows)
    figure, axes = panel(height_in=1.4 + 0.42 * len(names))
    for lead, colour in (("30", LEVEL_COLOURS[5]), ("60", LEVEL_COLOURS[3]), ("120", LEVEL_COLOURS[0])):
        reached = [rows[name]["recall"][lead] for name in names]
        known = [np.nan if each is None else each for each in reached]
        axes.plot(known, np.arange(len(names))[::-1], "o", color=colour, markersize=9, label=f"{lead} s ahead",
                  clip_on=False)
    axes.set_yticks(np.arange(len(names))[::-1], names)
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    axes.set(xlim=(0, 1.02), ylim=(-0.6, len(names) - 0.4), xlabel="kills with a standing alarm")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(loc="outside upper left", fontsize=10, labelcolor=INK, ncols=3)
    return figure


def loop_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row per arm and latency of what `learn loop` found where the cache holds enough; costs in limits."""
    return [{"arm": arm, "hook_s": float(latency), "averted_ratio": found["averted_ratio"],
             "interval": found["averted_interval"], "runs": part["cases"], **found["where_alive"]}
            for latency, part in results["cache_holds_enough"].items() for arm, found in part["arms"].items()]


def closed_loop(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the share of kills averted by each arm, for each latency of the hooks."""
    arms, delays = list(dict.fromkeys(row["arm"] for row in rows)), sorted({row["hook_s"] for row in rows})
    figure, axes = panel(height_in=4.2)
    width = 0.8 / max(len(arms), 1)
    for number, arm in enumerate(arms):
        mine = {row["hook_s"]: row for row in rows if row["arm"] == arm}
        x = np.array([place for place, delay in enumerate(delays) if delay in mine]) - 0.4 + width * (number + 0.5)
        found = [mine[delay] for delay in delays if delay in mine]
        colour = ARM_COLOURS.get(arm, "#8a94a3")
        axes.bar(x, [row["averted_ratio"] for row in found], width * 0.9, color=colour, label=arm,
                 alpha=1.0 if arm in ARM_COLOURS else 0.4 + 0.5 * number / len(arms))
        for place, row in zip(x, found, strict=True):
            if row.get("interval"):
                axes.vlines(place, *row["interval"], color=INK, linewidth=1.2)
    axes.set_xticks(range(len(delays)), [f"{delay:g} s" for delay in delays])
    axes.set(ylim=(0, 1.02), xlabel="how long the hooks take", ylabel="kills averted")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper left", fontsize=10, labelcolor=INK, ncols=3)
    return figure


def amounts(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return how much there is of each program: kills, and quiet hours."""
    names = sorted(rows, key=lambda name: (rows[name]["kills"], rows[name]["quiet_hours"]))
    figure, axes = panel(height_in=1.0 + 0.25 * len(names))
    places = np.arange(len(names))
    axes.barh(places + 0.2, [rows[name]["kills"] for name in names], 0.38, color=LEVEL_COLOURS[5], label="kills")
    axes.barh(places - 0.2, [rows[name]["quiet_hours"] for name in names], 0.38, color=PALE, label="quiet hours")
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right", fontsize=10, labelcolor=INK)
    return figure
