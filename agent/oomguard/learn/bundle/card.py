"""The model card: what a model was made from, how it was measured, beside what, and where it fails."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from oomguard.forest import MIN_WINDOW_S
from oomguard.learn.protocol.events import LEADS_S

if TYPE_CHECKING:
    from oomguard.learn.zoo.recipe import Recipe

HEAD = (f"| system | {' | '.join(f'{lead} s' for lead in LEADS_S)} | false alarms/h (early) | flaps/h | "
        "quiet time in alarm | median lead |")
RULE = "|---" * (len(LEADS_S) + 5) + "|"

MADE = """\
# {model_id}

Forecasts a kernel out-of-memory kill of one process or cgroup within 60, 120, 180, 240 and 300 s from the last
300 s of its memory. {kind}, {forest_bytes} bytes.

## Made from
- {runs} recorded runs, {kills} kernel kills, {hours:.1f} quiet hours, {types} device types.
  Programs: {programs}.
- {simulated} simulated runs (`learn/simulate/shapes.py`), {share:.0%} of the weight in training and calibration.
  None is in any figure below, and no threshold was set with them.
- Features it never looks at: {left_out}.
"""
MEASURED = """\
## Measured
By the event protocol of DESIGN 5 (`oomguard learn evaluate --json` prints it), the compiled model scoring as on the
device, plain levels where it abstains. Model, calibration and thresholds come from the other folds; so do the
baselines' settings, by the same cost: a miss counts {miss:g} false alarms, kills per guarded hour: {kills_per_h:g}.
Columns 30-240 s: the share of kills that stood in alarm so long before.

Leave one program out:

{by_program}

95 % intervals of oomguard (bootstrap over programs): recall 60 s ahead {recall_60}, 120 s ahead {recall_120},
false alarms/h {false_alarms_per_hour}, share of quiet time in alarm {alarm_time_ratio}.
A forecast was given in {spoken} of each run's time (never in its first {first} s).

{beside}

{by_device_type}Split by run ({folds} folds; every program is known from other runs of it):

{by_run}

By program, each held out:

{programs}

The same models where the recordings are thinned, or lose samples: {cadences}.

Of the forecasts: {calibration}.
"""
LIMITS = """\
## Limits, and where not to use it
- Features left out, weight of simulated runs and size of the model were chosen looking at figures like these, so they
  flatter a little.
- {hours:.1f} quiet hours: no budget below {least:.2g} false alarms/h can be shown to hold. Runs of a lab are shorter
  than a service's, and growth from the start is most of them: rates per hour are above those of a long-running one.
- Kills without an alarm 60 s ahead, by what the memory did in the five minutes before: {missed}.
- False alarms, by what came after: {wrong}.
- In the first {first} s of a run the plain levels hold, and alarm on whatever stands above 70 % of its limit.
- Run age and missing values alone give a ROC area of {leaks}, where 0.50 is chance. Far from it on either side, the
  recordings tell the outcome by how they were made. The model is given neither.
- Probabilities are calibrated to the mix it was trained on, in which kills are far commoner than in the field.
- It forecasts the kernel's kills at a memory limit. It knows nothing of kills by other guards, by an operator, or for
  other reasons, and abstains on machines outside the ranges it was trained on: the plain levels then hold.
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
                      _limits(report)))


def _head(model_id: str, recipe: Recipe, data: dict[str, Any], forest_bytes: int) -> str:
    return MADE.format(
        model_id=model_id, forest_bytes=forest_bytes, kind=recipe.settings.in_words,
        runs=data["runs"], kills=data["kills"], hours=data["quiet_hours"], types=len(data["device_types"]),
        programs=", ".join(data["programs"]), simulated=recipe.simulation.runs, share=recipe.simulation.share,
        left_out=", ".join(recipe.inputs.left_out) or "none")


def _measured(recipe: Recipe, report: dict[str, Any]) -> str:
    ours = report["systems"]["oomguard"]
    intervals = {name: _interval(ours["intervals"][name]) for name in (
        "recall_60", "recall_120", "false_alarms_per_hour", "alarm_time_ratio")}
    programs = "\n".join(
        f"- {name}: recall 60 s ahead {_two(row['recall']['60'])}, "
        f"{_two(row['false_alarms_per_hour'])} false alarms/h, "
        f"{_percent(row['alarm_time_ratio'])} of quiet time in alarm" for name, row in ours["by_program"].items())
    by_type = report["systems_by_device_type"]
    cadences = "; ".join(f"{name}: recall 60 s ahead {_two(row['recall']['60'])}, "
                         f"{_two(row['false_alarms_per_hour'])} false alarms/h"
                         for name, row in report["cadence"].items())
    calibration = ", ".join(f"p{horizon} {_two(row['ece'])}" for horizon, row in report["calibration"].items())
    return MEASURED.format(
        miss=recipe.levels.miss_to_false_alarm, kills_per_h=recipe.levels.field_kills_per_h,
        by_program=table_of(report["systems"]), by_run=table_of(report["systems_by_run"]), programs=programs,
        by_device_type=f"Leave one device type out:\n\n{table_of(by_type)}\n\n" if by_type else "",
        first=f"{MIN_WINDOW_S:g}", spoken=_percent(ours["operating_point"]["forecast_time_ratio"]),
        folds=recipe.evaluation.folds_by_run,
        beside=_beside(report["judgement"]["by_program"]["oomguard"]), cadences=cadences,
        calibration=f"expected calibration error {calibration}", **intervals)


def _beside(judgement: dict[str, Any]) -> str:
    """Return what the operating curves say beside the baselines'."""
    rows, found = judgement["dominance"], judgement["at_equal_recall"]
    beaten = [name for name, row in rows.items() if row["at_once"] == row["points"]]
    said = (f"Swept over all thresholds, it is nowhere worse than {len(beaten)} of {len(rows)} baselines (recall "
            f"30, 60 and 120 s, false alarms and alarm time at once, at every point of theirs)")
    lacking = [f"{name} ({row['at_once']} of {row['points']} points)" for name, row in rows.items()
               if name not in beaten]
    said += f"; not so: {', '.join(lacking)}." if lacking else "."
    if found is None or found["false_alarm_ratio"] is None:
        return said
    return (f"{said}\nAt the recall of the best baseline that reaches 85 % 60 s ahead ({found['baseline']}) it raises "
            f"{_two(found['false_alarm_ratio'])} of that one's false alarms ({_interval(found['interval'])}).")


def _limits(report: dict[str, Any]) -> str:
    hours, account = report["data"]["quiet_hours"], report["account"]
    missed = Counter(event["shape"] for event in account["misses"] if 60 in event["missed_leads_s"])
    wrong = Counter(event["came"] for event in account["false_alarms"])
    leaks = ", ".join(f"{row['roc_auc']:.2f} {name.replace('_', ' ')}" for name, row in report["leak_check"].items())
    return LIMITS.format(first=f"{MIN_WINDOW_S:g}", hours=hours, least=3 / hours if hours else 0.0, leaks=leaks,
                         missed=_counted(missed), wrong=_counted(wrong))


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()) or "none"


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
