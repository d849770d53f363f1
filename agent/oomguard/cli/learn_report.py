"""`oomguard learn report`: draw an evaluation that was saved, without training anything again."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from oomguard.errors import UsageError

if TYPE_CHECKING:
    import argparse

NAME = "report"
HELP = "draw a saved evaluation: one HTML page, and its pictures"
EXAMPLES = """\
  oomguard learn evaluate models/recipes/default.yaml --out out/evaluation
  oomguard learn report out/evaluation --out out/report
  oomguard learn report out/evaluation --out out/report --zoo zoo.json --loop W/results.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `learn report` takes."""
    parser.add_argument("evaluation", metavar="EVALUATION", help="folder that `learn evaluate --out` wrote")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where report.html and pictures/ go")
    parser.add_argument("--recordings", action="append", metavar="FOLDER",
                        help="where the recordings are now (default: where they were); may be given again")
    parser.add_argument("--zoo", metavar="FILE", help="the comparison that `learn zoo --json` printed")
    parser.add_argument("--loop", metavar="FILE", help="results of `learn loop` as JSON")
    parser.add_argument("--data-card", metavar="FILE", help="what the dataset dropped and why, as text")


def run(args: argparse.Namespace) -> int:
    """Draw it; return the exit code."""
    from oomguard.learn.dataset import read_recordings
    from oomguard.learn.evaluate.artefact import load, load_said
    from oomguard.learn.evaluate.explain import explain, systems_from
    from oomguard.learn.lab.planned import planned_of
    from oomguard.learn.report import Extras, write_report

    report = load(args.evaluation)
    folders = args.recordings or report["artefact"]["recordings"]
    runs = [each for folder in folders for each in read_recordings(folder)]
    said = load_said(args.evaluation, report, runs)
    if "reasons" not in report:         # kept before there were any
        explain(report, runs, systems_from(report, runs, said), planned_of(folders))
    loop = _loop(args.loop) if args.loop else []
    extras = Extras(zoo=_zoo(_json(args.zoo)) if args.zoo else {},
                    loop=loop, types=_figure_of_types(runs), data_card=_text(args.data_card) if args.data_card else "")
    print(write_report(report, runs, said, args.out, extras))
    return 0


def _figure_of_types(runs: list[Any]) -> Any:
    """Return where each device type is killed; None where no run was."""
    from oomguard.learn.thresholds.critical import study_of
    from oomguard.learn.thresholds.figure import figure_of_types

    return figure_of_types(study_of(runs), title="") if any(len(each.kills_s) for each in runs) else None


def _zoo(compared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each member's figures with its words and costs beside them."""
    return {name: {**member["figures"], **member["cost"], "in_words": member["in_words"]}
            for name, member in compared["members"].items()}


def _loop(path: str) -> list[dict[str, Any]]:
    from oomguard.learn.report.checks import loop_rows

    try:
        return loop_rows(_json(path))
    except (KeyError, TypeError, AttributeError):
        raise UsageError(f"{path}: no results of `oomguard learn loop`") from None


def _json(path: str) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as problem:
        raise UsageError(f"{path}: no JSON: {problem}") from None


def _text(path: str) -> str:
    try:
        with open(os.path.abspath(path), encoding="utf-8") as file:
            return file.read()
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None
