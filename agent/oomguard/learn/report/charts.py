"""The figures that compare systems: recall against lead time, false alarms and alarm time; what features move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, PercentFormatter

from oomguard.learn.report.palette import DIM, INK, MODEL, colour_of, is_dashed
from oomguard.learn.report.pictures import panel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Rows = Mapping[str, Mapping[str, Any]]

AXES_OF = {"false_alarms_per_hour": "false alarms per quiet hour", "alarm_time_ratio": "share of quiet time in alarm"}
RATE_TICKS = (0, 0.25, 1, 2, 4, 8, 12, 16, 20)
SHARE_TICKS = (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1)
FEATURES_SHOWN = 16
UNDRAWN = ("constant", "never")         # a point each, not a curve
SAME_SWEEP = ("level 0.", "earlyoom")    # points on the curve of the level threshold, or all but it
MARKED_LEADS_S = (30, 60, 120, 240)


def by_lead(rows: Rows, zoo: tuple[str, ...]) -> Figure:
    """Return recall against lead time, each system at its own operating point."""
    figure, axes = panel(height_in=4.1)
    for name in _backmost_first(rows):
        drawn = rows[name].get("recall_by_lead")
        if drawn and name not in UNDRAWN:
            axes.plot(drawn["lead_s"], _floats(drawn["recall"]), **_line(name, zoo))
    axes.set(xlim=(300, 0), ylim=(0, 1.02), xlabel="seconds before the kill", ylabel="kills with a standing alarm")
    axes.xaxis.set_major_locator(FixedLocator([300, 240, 180, 120, 60, 30, 0]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for lead_s in MARKED_LEADS_S:
        axes.axvline(lead_s, color=DIM, linewidth=0.6, linestyle=(0, (1, 3)))
    return figure


def operating(rows: Rows, lead_s: int, against: str, zoo: tuple[str, ...]) -> Figure:
    """Return recall at one lead against false alarms or alarm time: the best each system reaches within a budget.

    Dots are the points of its sweep, the large one is where it stands.
    """
    figure, axes = panel()
    most = 0.0
    for name in _backmost_first(rows):
        curve, style = rows[name].get("curve"), _line(name, zoo)
        if curve and name not in UNDRAWN and not name.startswith(SAME_SWEEP):
            x, recall = _floats(curve[against]), _floats(curve[f"recall_{lead_s}"])
            order = np.lexsort((recall, x))
            best = np.maximum.accumulate(np.nan_to_num(recall[order]))
            axes.plot(x[order], best, drawstyle="steps-post", **style)
            axes.plot(x, recall, ".", color=style["color"], markersize=2.5, alpha=0.5, zorder=style["zorder"])
            most = max(most, float(x.max()))
        at, reached = rows[name].get(against), rows[name]["recall"].get(str(lead_s))
        if at is not None and reached is not None:
            axes.plot(at, reached, "o", color=style["color"], markersize=9 if name == "oomguard" else 5.5,
                      markeredgecolor=INK, markeredgewidth=0.7, zorder=9, clip_on=False)
            most = max(most, at)
    _squeezed(axes, most, RATE_TICKS if against == "false_alarms_per_hour" else SHARE_TICKS)
    axes.set(ylim=(0, 1.02), xlabel=AXES_OF[against], ylabel=f"kills seen {lead_s} s ahead")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if against == "alarm_time_ratio":
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure


def influence(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return how far each feature moves the forecast when its values are exchanged between rows."""
    shown = list(rows)[:FEATURES_SHOWN][::-1]
    figure, axes = panel(height_in=0.9 + 0.27 * max(len(shown), 1))
    places = np.arange(len(shown))
    axes.barh(places, [row["moves"] for row in shown], color=MODEL, height=0.62)
    axes.set_yticks(places, [row["feature"].replace("_", " ") for row in shown])
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("mean change of the log-odds of a kill within 120 s")
    return figure


def legend_of(rows: Rows, zoo: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return name, colour and dash of each line, the model first."""
    return [{"name": name, "colour": colour_of(name, zoo), "is_dashed": is_dashed(name)}
            for name in sorted(rows, key=lambda name: not name.startswith("oomguard")) if name not in UNDRAWN]


def _line(name: str, zoo: tuple[str, ...]) -> dict[str, Any]:
    is_model = name == "oomguard"
    return {"color": colour_of(name, zoo), "linewidth": 3.0 if is_model else 1.6, "zorder": 8 if is_model else 4,
            "linestyle": (0, (4, 2)) if is_dashed(name) else "-"}


def _backmost_first(rows: Rows) -> list[str]:
    return sorted(rows, key=lambda name: (name.startswith("oomguard"), name == "oomguard", list(rows).index(name)))


def _squeezed(axes: Axes, most: float, ticks: Sequence[float]) -> None:
    """Scale the axis by the square root: what matters lies near 0."""
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0.0)), np.square))
    axes.set_xlim(0.0, max(most * 1.04, ticks[1]))
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick <= most * 1.04]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _at: f"{x:g}"))


def _floats(values: Sequence[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], np.float64)
