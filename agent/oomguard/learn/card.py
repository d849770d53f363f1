"""The model card: what a model was made from, how it was measured, beside what, and where it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oomguard.learn.protocol import LEADS_S

if TYPE_CHECKING:
    from oomguard.learn.recipe import Recipe

HEAD = (f"| system | {' | '.join(f'{lead} s' for lead in LEADS_S)} | false alarms/h (early) | flaps/h | "
        "quiet time in alarm | median lead |")
RULE = "|---" * (len(LEADS_S) + 5) + "|"

MADE = """\
# {model_id}

Forecasts a kernel out-of-memory kill of one process or cgroup within 60, 120, 180, 240 and 300 s from the last
300 s of its memory. {kind}, {forest_bytes} bytes.

## Made from
- {runs} recorded runs, {kills} kernel kills, {hours:.1f} quiet hours, one machine without swap, {limits} limits.
  Programs: {programs}.
- {simulated} simulated runs (`learn/shapes.py`), {share:.0%} of the weight in training and calibration.
  None is in any figure below, and no threshold was set with them.
- Features it never looks at: {left_out}.
"""
MEASURED = """\
## Measured
By the event protocol of DESIGN 5 (`oomguard learn evaluate --json` prints it), the compiled forest scoring as on the
device, plain levels where it abstains. Trees, calibration and thresholds come from the other folds; so do the
baselines' settings, by the same cost: a miss counts {miss:g} false alarms, kills per guarded hour: {kills_per_h:g}.
Columns 30-240 s: the share of kills that stood in alarm so long before.

Leave one program out:

{by_program}

95 % intervals of oomguard (bootstrap over programs): recall 60 s ahead {recall_60}, 120 s ahead {recall_120},
false alarms/h {false_alarms_per_hour}, share of quiet time in alarm {alarm_time_ratio}.
A forecast was given in {spoken} of each run's time (never in its first 30 s).

Split by run ({folds} folds; every program is known from other runs of it):

{by_run}

By program, each held out:

{programs}
"""
LIMITS = """\
## Limits
- Features left out, weight of simulated runs and size of trees were chosen looking at these very figures (about 15
  recipes were tried), so they flatter a little.
- {hours:.1f} quiet hours, most of them the first minutes of short runs: rates per hour are far above those of a
  long-running service, and no budget below {least:.1f} false alarms/h can be shown to hold.
- A program that grows like a leak and then stops (plateau, cache that fills, first tooth of a saw) alarms once.
- In the first 30 s of a run the plain levels hold, and alarm on whatever stands above 70 % of its limit.
- Recordings leak the outcome: run age and missing values alone give a ROC area of {leak_by_run:.2f} by run, where 0.50
  is chance (by program {leak_by_program:.2f}: nearly every program here either always dies or never does, so what is
  learned of the others points the wrong way). The model is given neither, but the figures by run gain from it.
- Sudden bursts are not seen. Splits by device and thresholds per device type mean nothing on one device.
- Probabilities are calibrated to the mix it was trained on, in which kills are far commoner than in the field.
"""


def table_of(systems: dict[str, dict[str, Any]]) -> str:
    """Return the comparison as a Markdown table, one row per system."""
    rows = [HEAD, RULE]
    for name, row in systems.items():
        recalls = " | ".join(_two(row["recall"][str(lead)]) for lead in LEADS_S)
        false = f"{_two(row['false_alarms_per_hour'])} ({_two(row['early_per_hour'])})"
        rows.append(f"| {name} | {recalls} | {false} | {_two(row['flaps_per_hour'])} | "
                    f"{_percent(row['alarm_time_ratio'])} | {_seconds(row['median_lead_s'])} |")
    return "\n".join(rows)


def essence(row: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that are always shown together, rounded for the manifest."""
    return {"recall": {lead: _round(value) for lead, value in row["recall"].items()},
            **{name: _round(row[name]) for name in (
                "false_alarms_per_hour", "early_per_hour", "alarm_time_ratio", "median_lead_s")}}


def text_of(model_id: str, recipe: Recipe, report: dict[str, Any], forest_bytes: int) -> str:
    """Return the card. Everything in it follows from the report and the recipe, so it is the same every time."""
    return "\n".join((_head(model_id, recipe, report["data"], forest_bytes), _measured(recipe, report),
                      _limits(report["data"], report["leak_check"])))


def _head(model_id: str, recipe: Recipe, data: dict[str, Any], forest_bytes: int) -> str:
    return MADE.format(
        model_id=model_id, forest_bytes=forest_bytes, kind=recipe.settings.in_words,
        runs=data["runs"], kills=data["kills"], hours=data["quiet_hours"], limits=len(data["device_types"]),
        programs=", ".join(data["programs"]), simulated=recipe.simulation.runs, share=recipe.simulation.share,
        left_out=", ".join(recipe.inputs.left_out))


def _measured(recipe: Recipe, report: dict[str, Any]) -> str:
    ours = report["systems"]["oomguard"]
    intervals = {name: _interval(ours["intervals"][name]) for name in (
        "recall_60", "recall_120", "false_alarms_per_hour", "alarm_time_ratio")}
    programs = "\n".join(
        f"- {name}: recall 60 s ahead {_two(row['recall']['60'])}, "
        f"{_two(row['false_alarms_per_hour'])} false alarms/h, "
        f"{_percent(row['alarm_time_ratio'])} of quiet time in alarm" for name, row in ours["by_program"].items())
    return MEASURED.format(
        miss=recipe.levels.miss_to_false_alarm, kills_per_h=recipe.levels.field_kills_per_h,
        by_program=table_of(report["systems"]), by_run=table_of(report["systems_by_run"]), programs=programs,
        spoken=_percent(ours["operating_point"]["forecast_time_ratio"]), folds=recipe.evaluation.folds_by_run,
        **intervals)


def _limits(data: dict[str, Any], leaks: dict[str, Any]) -> str:
    return LIMITS.format(hours=data["quiet_hours"], least=3 / data["quiet_hours"] if data["quiet_hours"] else 0.0,
                         leak_by_run=leaks["by_run"]["roc_auc"], leak_by_program=leaks["by_program"]["roc_auc"])


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} s"


def _interval(pair: list[float] | None) -> str:
    return "unknown" if pair is None else f"{pair[0]:.2f}–{pair[1]:.2f}"
