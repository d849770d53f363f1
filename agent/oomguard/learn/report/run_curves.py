"""A run's memory over time with the level along it, as a small SVG of a few kilobytes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.decide.plan import Plan
from oomguard.learn.report.palette import KILLED, LEVEL_COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from oomguard.learn.dataset import Run

    Reals = NDArray[np.float64]

WIDE, HIGH = 320.0, 120.0
TOP, BOTTOM, FOOT = 14.0, 102.0, 116.0          # of the plot, and where the times are written
MOST_POINTS = 200
PLAIN_RATIOS = Plan._field_defaults["plain_headroom_ratios"]


class Drawn(NamedTuple):
    """What a curve shows: from when to when, and which moment is marked."""

    from_s: float
    to_s: float
    mark_s: float
    mark: str


def levels_of(run: Run, forecast: Reals, thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Return the level 0…5 of each sample by itself: the forecast's, or where it is silent the plain one by headroom.

    Args:
        run: the run.
        forecast: float[n, 5] p60…p300, NaN where the model abstained.
        thresholds: of p60…p300.
    """
    with np.errstate(invalid="ignore"):
        reached = forecast >= np.asarray(thresholds)
        plain = run.columns["headroom_bytes"][:, None] / run.columns["limit_bytes"][:, None] <= np.array(PLAIN_RATIOS)
    by_model = np.where(reached.any(axis=1), 5 - reached.argmax(axis=1), 0)
    return np.asarray(np.where(np.isnan(forecast[:, 0]), plain.sum(axis=1), by_model), np.int64)


def curve_svg(run: Run, levels: NDArray[np.int64], drawn: Drawn) -> str:
    """Return the used share of the limit between two moments, coloured by level, with kills and the marked moment."""
    inside = np.flatnonzero((run.t_s >= drawn.from_s) & (run.t_s <= drawn.to_s))
    if len(inside) < 2:
        return ""
    times, used, level = thinned(run, levels, inside, MOST_POINTS)
    span = max(drawn.to_s - drawn.from_s, 1e-9)
    x = (times - drawn.from_s) / span * WIDE
    y = BOTTOM - np.clip(used, 0.0, 1.1) * (BOTTOM - TOP)
    parts = [f'<line class="limit" x1="0" x2="{WIDE:.0f}" y1="{TOP}" y2="{TOP}"/>',
             f'<path class="area" d="M{x[0]:.1f},{BOTTOM} {_points(x, y)} L{x[-1]:.1f},{BOTTOM}Z"/>']
    parts += [f'<polyline points="{_points(x[low:high], y[low:high])}" stroke="{LEVEL_COLOURS[of]}"/>'
              for low, high, of in _stretches(level)]
    mark_x = (drawn.mark_s - drawn.from_s) / span * WIDE
    if drawn.mark:
        parts.append(f'<line class="mark" x1="{mark_x:.1f}" x2="{mark_x:.1f}" y1="{TOP - 6}" y2="{BOTTOM}"/>')
        parts.append(_label(mark_x, 7.0, drawn.mark, "mark"))
    for kill_s in run.kills_s[(run.kills_s >= drawn.from_s) & (run.kills_s <= drawn.to_s + 1e-6)]:
        at = (kill_s - drawn.from_s) / span * WIDE
        parts.append(f'<path class="kill" stroke="{KILLED}" d="M{at - 5:.1f},{TOP - 5}l10,10m0,-10l-10,10"/>')
    parts.append(_label(0.0, FOOT, f"{drawn.from_s - run.start_s:.0f} s", "time"))
    parts.append(_label(WIDE, FOOT, f"{drawn.to_s - run.start_s:.0f} s", "time"))
    head = f'<svg class="curve" viewBox="-6 0 {WIDE + 12:.0f} {HIGH:.0f}" role="img" '
    return "".join([head, f'aria-label="memory of {_safe(run.run_id)}">', *parts, "</svg>"])


def bars_svg(forecast: Sequence[float] | None, thresholds: Sequence[float]) -> str:
    """Return p60…p300 as five bars with their thresholds; empty without a forecast."""
    if forecast is None:
        return ""
    bars = []
    for at, (p, threshold) in enumerate(zip(forecast, thresholds, strict=True)):
        colour, tick_y = LEVEL_COLOURS[5 - at] if p >= threshold else "var(--pale)", f"{26 - 24 * threshold:.1f}"
        bars.append(f'<rect x="{at * 13}" y="{26 - 24 * p:.1f}" width="10" height="{24 * p + 0.5:.1f}" '
                    f'fill="{colour}"/><line class="threshold" x1="{at * 13 - 1}" x2="{at * 13 + 11}" '
                    f'y1="{tick_y}" y2="{tick_y}"/>')
    return '<svg class="bars" viewBox="-1 0 66 28" role="img" aria-label="p60 to p300">' + "".join(bars) + "</svg>"


def thinned(run: Run, levels: NDArray[np.int64], inside: NDArray[np.intp], most: int,
            ) -> tuple[Reals, Reals, NDArray[np.int64]]:
    """Return times, used ratios and levels of at most so many points, each the fullest of its piece.

    A piece has the highest level in it: a short alarm is not thinned away.
    """
    edges = np.unique(np.linspace(0, len(inside), min(most, len(inside)) + 1).astype(int))
    used = 1.0 - run.columns["headroom_bytes"][inside] / run.columns["limit_bytes"][inside]
    fullest = [low + int(np.argmax(used[low:high])) for low, high in pairwise(edges)]
    highest = np.maximum.reduceat(levels[inside], edges[:-1])
    return run.t_s[inside][fullest], used[fullest], highest


def _stretches(level: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return (first, one past last point, level) of each stretch of one level; neighbours share a point."""
    edges = [0, *(np.flatnonzero(level[1:] != level[:-1]) + 1).tolist(), len(level)]
    return [(low, min(high + 1, len(level)), int(level[low])) for low, high in pairwise(edges)]


def _points(x: Reals, y: Reals) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _label(x: float, y: float, text: str, kind: str) -> str:
    anchor = "start" if x < WIDE * 0.15 else "end" if x > WIDE * 0.85 else "middle"
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{_safe(text)}</text>'


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def event_card(run: Run, levels: NDArray[np.int64], event: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a miss or a false alarm: its curve, its bars, its words."""
    is_miss = "kill_s" in event
    low = max(run.start_s, event["at_s"] - (240.0 if is_miss else 150.0))
    high = event["kill_s"] if is_miss else min(run.end_s, event["at_s"] + 320.0)
    mark = f"{event['judged_lead_s']} s ahead" if is_miss else "alarm"
    return {**event, "curve": curve_svg(run, levels, Drawn(low, max(high, low + 30.0), event["at_s"], mark)),
            "bars": bars_svg(event["forecast"], event["thresholds"]), "is_miss": is_miss,
            "limit_mib": event["limit_bytes"] / (1 << 20),
            "others": event["seen_by"] if is_miss else event["also_alarmed"]}
