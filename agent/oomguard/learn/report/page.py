"""Put the report together: figures, tables, cards; one self-contained page, and a PNG of each figure beside it."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from oomguard.learn.evaluate.compare import HIDDEN, MODEL
from oomguard.learn.protocol.events import LEADS_S
from oomguard.learn.report import charts, checks, reasons, words
from oomguard.learn.report.examples import card_of, choose, figure_of_examples
from oomguard.learn.report.palette import LEVEL_COLOURS
from oomguard.learn.report.pictures import save_png, styled, svg_of
from oomguard.learn.report.run_curves import event_card, levels_of
from oomguard.learn.thresholds.levels import kept_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from oomguard.learn.dataset import Run
    from oomguard.learn.evaluate.artefact import Said

PAGE, PICTURES = "report.html", "pictures"
MOST_CARDS = 400            # of misses, and of false alarms; the rest is counted


class Extras(NamedTuple):
    """What a report may show beside the evaluation."""

    zoo: Mapping[str, Mapping[str, Any]] = {}           # rows as in report["systems"], by the same protocol
    loop: Sequence[Mapping[str, Any]] = ()              # closed loop: arm, hook_s, averted_ratio, interval …
    types: Figure | None = None                         # thresholds/figure.py
    data_card: str = ""                                 # what the dataset dropped and why
    title: str = "oomguard: how well it sees a kill coming"


def write_report(report: dict[str, Any], runs: Sequence[Run], systems: Mapping[str, Said], folder: str,
                 extras: Extras | None = None) -> str:
    """Write report.html and pictures/*.png; return the page's path. The same evaluation gives the same bytes.

    Args:
        report: of `learn evaluate`.
        runs: the recorded runs.
        systems: what the systems said, run by run; "oomguard" must be among them (artefact.load_said).
        folder: where it goes; made if it is not there.
        extras: zoo, closed loop, figure of device types, data card.
    """
    extras = extras or Extras()
    pictures = os.path.join(folder, PICTURES)
    os.makedirs(pictures, exist_ok=True)
    said = systems[MODEL]
    levels = [kept_in(run, levels_of(run, forecast, each).astype(np.float64)).astype(np.int64)
              for run, forecast, each in zip(runs, said.forecasts, said.levels, strict=True)]
    examples = choose(runs, levels, report["account"])
    rows = {**report["systems"], **extras.zoo}
    with styled():
        figures = _figures(report, rows, extras)
        drawn = {name: svg_of(figure, name, says) for name, (figure, says) in figures.items()}
        for name, (figure, _says) in figures.items():
            save_png(figure, pictures, name)
        save_png(figure_of_examples(examples), pictures, "examples")
    context = {
        "title": extras.title, "report": report, "figures": drawn, "rows": rows, "model": MODEL, "hidden": HIDDEN,
        "headline": words.headline(report), "tiles": words.tiles(report), "verdicts": words.verdicts(report),
        "dominance": words.dominance_rows(report), "splits": words.SPLITS, "leads": [str(lead) for lead in LEADS_S],
        "legend": charts.legend_of(rows, tuple(extras.zoo)), "level_colours": LEVEL_COLOURS,
        "examples": [card_of(example) for example in examples], **_cards(report, runs, levels),
        "reasons": _reasons(report), "zoo": extras.zoo, "closed_loop": extras.loop, "data_card": extras.data_card,
        "style": _environment().get_template("style.css").render()}
    path = os.path.join(folder, PAGE)
    text = _environment().get_template("page.html").render(context)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("oomguard.learn.report", "."), trim_blocks=True, lstrip_blocks=True,
                              autoescape=select_autoescape(["html"]), undefined=StrictUndefined)
    environment.filters |= {"number": words.number, "percent": words.percent, "seconds": words.seconds,
                            "interval": words.interval}
    return environment


def _figures(report: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]], extras: Extras,
             ) -> dict[str, tuple[Figure, str]]:
    """Return each figure and what it shows."""
    zoo = tuple(extras.zoo)
    found: dict[str, tuple[Figure, str]] = {
        "recall-by-lead": (charts.by_lead(rows, zoo), "recall against lead time"),
        "reliability": (checks.reliability(report["calibration"]), "reliability of the forecast"),
        "time-to-limit": (checks.time_errors(report["time_to_limit"]), "forecast against true time to the limit"),
        "cadence": (checks.cadences(report["cadence"]), "recall at other cadences"),
        "influence": (charts.influence(report["influence"]), "what moves the forecast"),
        "amounts": (checks.amounts(report["data"]["by_program"]), "kills and quiet hours of each program")}
    for lead_s in (60, 30, 120):
        for against, short in (("false_alarms_per_hour", "rate"), ("alarm_time_ratio", "time")):
            says = f"recall {lead_s} s ahead against {charts.AXES_OF[against]}"
            found[f"operating-{lead_s}-{short}"] = (charts.operating(rows, lead_s, against, zoo), says)
    if extras.loop:
        found["closed-loop"] = (checks.closed_loop(extras.loop), "kills averted by each arm")
    if "reasons" in report:
        found["reasons"] = (reasons.figure_of(report["reasons"]), "false alarms and misses by reason")
    if extras.types is not None:
        found["types"] = (extras.types, "where kills happen, by device type")
    return found


def _reasons(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the section on why, and what would be needed; None where the evaluation was not explained."""
    found = report.get("reasons")
    if found is None:
        return None
    return {**found, "sentences": reasons.sentences_of(found), "by_run": reasons.by_run(found),
            "false_alarms": reasons.coloured(found["false_alarms"]), "misses": reasons.coloured(found["misses"]),
            "says": {row["key"]: row for row in found["false_alarms"]},
            "says_missed": {row["key"]: row for row in found["misses"]}}


def _cards(report: Mapping[str, Any], runs: Sequence[Run], levels: Sequence[Any]) -> dict[str, Any]:
    """Return misses and false alarms with their curves, grouped by program, those with most first."""
    at = {run.run_id: number for number, run in enumerate(runs)}

    def grouped(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        counts = Counter(event["program"] for event in events)
        cards = [event_card(runs[at[event["run_id"]]], levels[at[event["run_id"]]], event)
                 for event in events[:MOST_CARDS]]
        return [{"program": program, "count": count, "cards": [card for card in cards if card["program"] == program]}
                for program, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]

    misses, wrong = report["account"]["misses"], report["account"]["false_alarms"]
    return {"misses": grouped([event for event in misses if 60 in event["missed_leads_s"]]),
            "late": grouped([event for event in misses if 60 not in event["missed_leads_s"]]),
            "wrong": grouped([event for event in wrong if not event["is_early"]]),
            "early": grouped([event for event in wrong if event["is_early"]]),
            "miss_shapes": Counter(event["shape"] for event in misses).most_common(),
            "wrong_shapes": Counter(event["came"] for event in wrong).most_common()}

