"""Why it falls short of what was asked, for people: one figure, the sentences beside it, and a line per run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from oomguard.learn.evaluate.account import UNTOLD
from oomguard.learn.evaluate.why import BETTER, LONGER, PHYSICAL, RIGHT, WORD
from oomguard.learn.report.palette import DIM, INK, PAPER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

# One hue per remedy, the shades of its reasons from dark to light.
SHADES = {PHYSICAL: ("#7b8794",), WORD: ("#2f7de1", "#77aef0", "#a9ccf6"), LONGER: ("#8b5cf6", "#b79af8"),
          BETTER: ("#e08a2e", "#eda85c", "#f3c18b"), RIGHT: ("#4c9f70",)}
QUARTER = 0.25
LEAST_WRITTEN = 0.055       # of the axis: a narrower piece has no number


def coloured(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the reasons that occur, each with its colour, by remedy."""
    used: Counter[str] = Counter()
    found = []
    for row in rows:
        if any(row["counts"]):
            shades = SHADES[row["remedy"]]
            found.append({**row, "colour": shades[used[row["remedy"]] % len(shades)]})
            used[row["remedy"]] += 1
    return sorted(found, key=lambda row: list(SHADES).index(row["remedy"]))


def figure_of(reasons: Mapping[str, Any]) -> Figure:
    """Return false alarms an hour and kills missed, by reason, for the model and the best line."""
    names = [point["name"].replace(", ", ",\n", 1) if point["name"].startswith("oomguard") else
             ",\n".join(point["name"].rsplit(", ", 1)) for point in reasons["points"]]
    figure = Figure(figsize=(9.6, 0.9 + 1.15 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    hours = reasons["quiet_hours"] or 1.0
    per_hour = [[count / hours for count in row["counts"]] for row in coloured(reasons["false_alarms"])]
    totals = _stack(left, coloured(reasons["false_alarms"]), per_hour, "{:.1f}")
    if len(totals) > 2:
        gaps = [place + 0.5 for place in range(-1, len(totals))]
        left.vlines([QUARTER * totals[2]] * len(gaps), [gap - 0.17 for gap in gaps], [gap + 0.17 for gap in gaps],
                    color=INK, linewidth=1.6)
        left.annotate("a quarter of\nthe best line's", (QUARTER * totals[2], 0.5), xytext=(5, 0), va="center",
                      textcoords="offset points", fontsize=9, color=INK)
    missed = [[float(count) for count in row["counts"]] for row in coloured(reasons["misses"])]
    _stack(right, coloured(reasons["misses"]), missed, "{:.0f}")
    left.set_yticks(range(len(names)), names)
    left.tick_params(axis="y", labelcolor=INK, length=0)
    left.set_ylim(len(names) - 0.5, -0.5)
    right.tick_params(axis="y", length=0)
    left.set_xlabel("false alarms per quiet hour")
    right.set_xlabel(f"kills not seen a minute ahead, of {reasons['kills']}")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
    return figure


def sentences_of(reasons: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what the figures come to: a bold beginning and the rest of each sentence."""
    found = []
    if reasons["ceiling"]["out_of_stillness"]:
        found.append(_ceiling(reasons["ceiling"], reasons["quiet_hours"]))
    if len(reasons["points"]) > 2:
        found.append(_remedies(reasons))
    if reasons["hidden_caps"]:
        found.append(_hidden_caps(reasons["hidden_caps"]))
    last = reasons["instead"][-1]["with_all_before"]
    if last and last["ratio"] is not None and len(reasons["instead"]) > 1:
        found.append(_together(last))
    return found


def by_run(reasons: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row per run that has a miss or a false alarm anywhere, those with most first."""
    points = len(reasons["points"])
    rows: dict[str, list[Counter[str]]] = {}
    for event in reasons["events"]:
        name = f"missed: {event['reason']}" if event["what"] == "miss" else event["reason"]
        rows.setdefault(event["run_id"], [Counter() for _ in range(points)])[event["point"]][name] += 1
    return [{"run_id": run_id, "known": _known(reasons["runs"][run_id]), "said": [_listed(each) for each in counts]}
            for run_id, counts in sorted(rows.items(), key=lambda row: (-sum(map(Counter.total, row[1])), row[0]))]


def _known(run: Mapping[str, Any]) -> str:
    planned = [f"{run['kind']}: {run['shape']}"] if run["kind"] else []
    cap = "hid its cap" if run["hides_cap"] else "" if run["bound"] == UNTOLD else f"told its cap ({run['bound']})"
    phase = "told its phase" if run["tells_phase"] else ""
    return ", ".join(part for part in (f"{run['limit_bytes'] / (1 << 20):.0f} MiB", *planned, cap, phase) if part)


def _ceiling(found: Mapping[str, Any], quiet_h: float) -> dict[str, str]:
    rest = (f"A minute before, memory stood still, as it does in {found['quiet_hours_still']:.0f} of {quiet_h:.0f} "
            f"quiet hours. Whoever reads memory alone sees at most {100 * found['ratio']:.0f} % of the kills a minute "
            "ahead, or alarms while nothing moves.")
    if found["from_stillness_at_least"]:
        rest += (f" The comparison asks for {100 * found['asked_ratio']:.0f} %: for at least "
                 f"{found['from_stillness_at_least']} of those.")
    return {"bold": f"{found['out_of_stillness']} of {found['kills']} kills came out of stillness.", "rest": rest}


def _remedies(reasons: Mapping[str, Any]) -> dict[str, str]:
    hours, by_remedy = reasons["quiet_hours"] or 1.0, reasons["by_remedy"]
    ours = {remedy: counts[1] / hours for remedy, counts in by_remedy.items()}
    theirs = sum(counts[2] for counts in by_remedy.values()) / hours
    bold = (f"A quarter of the best line's {theirs:.1f} false alarms an hour is {QUARTER * theirs:.1f}; the model has "
            f"{sum(ours.values()):.1f}.")
    rest = (f"Of them {ours[PHYSICAL]:.1f} came while nothing in the memory moved, {ours[RIGHT]:.1f} were right but "
            f"early, {ours[WORD]:.1f} wait for the app's own word, {ours[LONGER]:.1f} for a longer look. The other "
            f"{ours[BETTER]:.1f} are the model's own fault.")
    return {"bold": bold, "rest": rest}


def _together(last: Mapping[str, Any]) -> dict[str, str]:
    bold = "With all that is named under What if, a quarter is reached:" if last["is_a_quarter"] else \
        "All that is named under What if together does not reach a quarter either:"
    rest = (f"{last['model_per_hour']:.1f} false alarms an hour against {last['baseline_per_hour']:.1f}, a ratio of "
            f"{last['ratio']:.2f}.")
    return {"bold": bold, "rest": rest if last["is_a_quarter"] else f"{rest} The rest a better model must bring."}


def _hidden_caps(found: Mapping[str, Any]) -> dict[str, str]:
    point = min(1, len(found["false_alarms"]) - 1)
    rest = (f"{found['twins_of_a_leak']} of them follow the very curve of a leak until the cap stops them. Of the "
            f"model's {found['false_alarms'][point]} false alarms in such runs, "
            f"{found['right_but_for_the_cap'][point]} would have been right, had there been no cap. In "
            f"{len(found['unavoidable_runs'])} of them whoever would see that leak a minute ahead must alarm: at least "
            f"{_number(found['unavoidable_per_hour'])} an hour for any reader of memory.")
    return {"bold": f"{found['runs']} runs hid a cap of their own.", "rest": rest}


def _stack(axes: Axes, rows: Sequence[Mapping[str, Any]], values: Sequence[Sequence[float]], form: str) -> list[float]:
    """Draw a stacked bar per point; return the totals, written at the bars' ends."""
    points = len(values[0]) if values else 0
    ends = [0.0] * points
    most = max((sum(column) for column in zip(*values, strict=True)), default=0.0) or 1.0
    for row, widths in zip(rows, values, strict=True):
        axes.barh(range(points), widths, left=ends, height=0.62, color=row["colour"], edgecolor=PAPER, linewidth=0.8)
        for at, width in enumerate(widths):
            if width > LEAST_WRITTEN * most:
                axes.text(ends[at] + width / 2, at, form.format(width), ha="center", va="center", fontsize=9,
                          color="#111111")
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for at, end in enumerate(ends):
        axes.text(end + 0.015 * most, at, form.format(end), va="center", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlim(0, 1.14 * most)
    axes.axvline(0.0, color=DIM, linewidth=1.0)
    return ends


def _listed(counts: Counter[str]) -> str:
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in counts.most_common())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
