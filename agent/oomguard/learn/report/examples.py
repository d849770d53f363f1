"""Choose runs that show what the guard is like, good and bad, and draw them: always the same ones."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from oomguard.learn.evaluate.account import UNTOLD, bound_of
from oomguard.learn.report.palette import INK, KILLED, LEVEL_COLOURS
from oomguard.learn.report.run_curves import Drawn, curve_svg, thinned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

SEEN, SILENT, WRONG, MISSED = 3, 3, 1, 1        # how many of each are shown
SHOWN_S = 1500.0                                # of a run, at most: up to its kill, or its busiest part
DRAWN_POINTS = 400


class Example(NamedTuple):
    """A run, its levels, and why it is shown."""

    run: Run
    levels: NDArray[np.int64]
    title: str
    drawn: Drawn


def choose(runs: Sequence[Run], levels: Sequence[NDArray[np.int64]], account: dict[str, list[dict[str, Any]]],
           ) -> list[Example]:
    """Return runs seen in time, runs rightly left alone, one false alarm and one miss; each of another program."""
    missed = {event["run_id"]: event for event in account["misses"]}
    wrong = {event["run_id"]: event for event in account["false_alarms"]}
    used: set[str] = set()
    pairs = list(zip(runs, levels, strict=True))

    def take(most: int, title: str, is_one: Callable[[Run], bool], rank: Callable[[Run], Any],
             marked: Mapping[str, dict[str, Any]] = MappingProxyType({})) -> list[Example]:
        found: list[Example] = []
        fitting = [pair for pair in pairs if is_one(pair[0])]
        for run, level in sorted(fitting, key=lambda pair: (rank(pair[0]), pair[0].run_id)):
            if run.app not in used and len(found) < most:
                used.add(run.app)
                found.append(Example(run, level, title, _span(run, level, marked.get(run.run_id))))
        return found

    order = ("seen in time", "rightly left alone", "false alarm", "missed")
    return sorted([      # the rare ones choose first, so that no other takes their program
        *take(MISSED, "missed", lambda run: run.run_id in missed, lambda run: -len(run.t_s), missed),
        *take(WRONG, "false alarm", lambda run: run.run_id in wrong and not len(run.kills_s), lambda run: -run.end_s,
              wrong),
        *take(SEEN, "seen in time", lambda run: run.ended_in_kill and run.run_id not in {**missed, **wrong},
              lambda run: abs(run.end_s - 700.0)),
        *take(SILENT, "rightly left alone", lambda run: not len(run.kills_s) and run.run_id not in wrong,
              lambda run: (bound_of(run) == UNTOLD, -_fullest(run)))], key=lambda example: order.index(example.title))


def card_of(example: Example) -> dict[str, Any]:
    """Return what the page shows of an example."""
    run = example.run
    return {"title": example.title, "run_id": run.run_id, "program": run.app, "device_type": run.device_type,
            "limit_mib": float(run.columns["limit_bytes"][0]) / (1 << 20), "bound": bound_of(run),
            "ended": "killed" if run.ended_in_kill else run.ended,
            "curve": curve_svg(run, example.levels, example.drawn)}


def figure_of_examples(examples: Sequence[Example]) -> Figure:
    """Return all examples in one figure, for the PNG."""
    down = max(-(-len(examples) // 2), 1)
    figure = Figure(figsize=(12.0, 2.6 * down + 0.4), layout="constrained")
    panels = figure.subplots(down, 2, squeeze=False).ravel()
    for axes, example in zip(panels, examples, strict=False):
        _draw(axes, example)
    for axes in panels[len(examples):]:
        axes.set_axis_off()
    return figure


def _draw(axes: Axes, example: Example) -> None:
    run, drawn = example.run, example.drawn
    inside = np.flatnonzero((run.t_s >= drawn.from_s) & (run.t_s <= drawn.to_s))
    times, used, level = thinned(run, example.levels, inside, DRAWN_POINTS)
    points = np.column_stack([times - run.start_s, used])
    segments = np.stack([points[:-1], points[1:]], axis=1)
    colours = [LEVEL_COLOURS[each] for each in level[:-1]]
    axes.add_collection(LineCollection(list(segments), colors=colours, linewidths=2.6))
    axes.fill_between(points[:, 0], used, color="#8a94a3", alpha=0.12, linewidth=0)
    axes.axhline(1.0, color=INK, linewidth=1.2)
    for kill_s in run.kills_s[(run.kills_s >= drawn.from_s) & (run.kills_s <= drawn.to_s + 1e-6)]:
        axes.plot(kill_s - run.start_s, 1.0, "X", color=KILLED, markersize=11, clip_on=False, zorder=6)
    axes.set(xlim=(points[0, 0], drawn.to_s - run.start_s), ylim=(0, 1.12), ylabel="used / limit",
             title=f"{example.title}: {run.app}, {float(run.columns['limit_bytes'][0]) / (1 << 20):.0f} MiB")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _span(run: Run, levels: NDArray[np.int64], event: dict[str, Any] | None) -> Drawn:
    """Return the part to show: up to the kill, round the false alarm, or what is fullest."""
    is_miss = event is not None and "kill_s" in event
    if event is not None and not is_miss:
        centre = event["at_s"] + SHOWN_S / 3
    elif run.ended_in_kill:
        centre = run.end_s - SHOWN_S / 2
    else:
        ratio = 1.0 - run.columns["headroom_bytes"] / run.columns["limit_bytes"]
        centre = float(run.t_s[int(np.argmax(np.where(levels > 0, 1.0, 0.0) + ratio))])
    low = float(np.clip(centre - SHOWN_S / 2, run.start_s, max(run.start_s, run.end_s - SHOWN_S)))
    mark = "" if event is None else f"{event['judged_lead_s']} s ahead" if is_miss else "alarm"
    return Drawn(low, min(run.end_s, low + SHOWN_S), event["at_s"] if event else 0.0, mark)


def _fullest(run: Run) -> float:
    return float(np.max(1.0 - run.columns["headroom_bytes"] / run.columns["limit_bytes"]))
