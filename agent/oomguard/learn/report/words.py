"""The report in words: its headline, its tiles, and a plain yes or no to what was asked of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oomguard.learn.evaluate.compare import HIDDEN, MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

DOMINANCE = "On or above every baseline in recall (30, 60, 120 s), false alarms and alarm time at once"
A_QUARTER = "At most a quarter of the false alarms of the best baseline that reaches 85 % at 60 s"
EXPLAINED = (DOMINANCE, A_QUARTER)      # with reasons, where they are not met
WANTED_RATIO = 0.25         # of the best baseline's false alarms, at its recall
LOST_MOST = 0.02            # of recall at 60 s, for the facts to be called a gain
CHANCE_MARGIN = 0.05        # of a ROC area from 0.5
SPLITS = {"systems": "programs it had never seen", "systems_by_device_type": "device types it had never seen",
          "systems_by_run": "other runs of known programs"}


def number(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash for what is unknown."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share in percent, or a dash."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def seconds(value: float | None) -> str:
    """Return whole seconds, or a dash."""
    return "–" if value is None else f"{value:.0f} s"


def interval(pair: list[float] | None, as_percent: bool = False) -> str:
    """Return an interval, or nothing."""
    if pair is None:
        return ""
    return f"{100 * pair[0]:.0f}–{100 * pair[1]:.0f} %" if as_percent else f"{pair[0]:.2f}–{pair[1]:.2f}"


def headline(report: Mapping[str, Any]) -> str:
    """Return the finding in two sentences."""
    row = report["systems"][MODEL]
    first = (f"A minute before the kill, oomguard stood in alarm for {percent(row['recall']['60'])} of the kills of "
             f"programs it had never seen, with {number(row['false_alarms_per_hour'], 1)} false alarms in a quiet hour "
             f"and {percent(row['alarm_time_ratio'], 1)} of quiet time in alarm.")
    found = judged(report)["at_equal_recall"]
    if not found or not found["of_model"]:
        return first
    theirs, ours = found["of_baseline"], found["of_model"]
    return (f"{first} At the recall of the best simple rule, “{found['baseline']}” "
            f"({percent(theirs['recall']['60'])}), it raises {number(ours['false_alarms_per_hour'], 1)} an hour where "
            f"that rule raises {number(theirs['false_alarms_per_hour'], 1)}.")


def judged(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the judgement of the model in the main split."""
    found: dict[str, Any] = report["judgement"]["by_program"][MODEL]
    return found


def tiles(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the figures that are always shown together, with their intervals."""
    row = report["systems"][MODEL]
    inside = row["intervals"]
    return [
        *({"value": percent(row["recall"][lead]), "name": f"seen {lead} s ahead",
           "interval": interval(inside[f"recall_{lead}"], True)} for lead in ("30", "60", "120", "240")),
        {"value": number(row["false_alarms_per_hour"], 1), "name": "false alarms an hour",
         "interval": interval(inside["false_alarms_per_hour"])},
        {"value": percent(row["alarm_time_ratio"], 1), "name": "of quiet time in alarm",
         "interval": interval(inside["alarm_time_ratio"], True)},
        {"value": seconds(row["median_lead_s"]), "name": "median lead",
         "interval": "–".join(f"{end:.0f}" for end in inside["median_lead_s"] or ()) + " s"}]


def verdicts(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each question of the issue, whether it is met, and the figures that say so."""
    judgement = judged(report)
    beaten = {name: row["at_once"] == row["points"] for name, row in judgement["dominance"].items()}
    nearly = sum(row["at_once_within_one_event"] == row["points"] for row in judgement["dominance"].values())
    found, leaks = judgement["at_equal_recall"], report["leak_check"]
    answers = [{
        "asks": DOMINANCE,
        "is_met": all(beaten.values()),
        "says": f"at every point of {sum(beaten.values())} of {len(beaten)} baselines; within one kill and one false "
                f"alarm of it, {nearly}"}]
    if found:
        answers.append(_at_equal_recall(found))
    areas = {name: row["roc_auc"] for name, row in leaks.items()}
    answers.append({
        "asks": "Run age and missing values alone tell nothing",
        "is_met": all(abs(area - 0.5) <= CHANCE_MARGIN for area in areas.values()),
        "says": "ROC area " + ", ".join(f"{number(area)} {name.replace('_', ' ')}" for name, area in areas.items())
                + "; chance is 0.50"})
    answers.append(_facts(report["gain_of_facts"]))
    return [{**answer, "is_explained": answer["asks"] in EXPLAINED} for answer in answers]


def _at_equal_recall(found: dict[str, Any]) -> dict[str, Any]:
    ratio, name = found["false_alarm_ratio"], found["baseline"]
    says = f"“{name}” raises none there, or the model never reaches its recall" if ratio is None else (
        f"{number(ratio)} of those of “{name}” at {percent(found['of_baseline']['recall']['60'])} "
        f"({interval(found['interval'])})")
    return {"asks": A_QUARTER, "is_met": ratio is not None and ratio <= WANTED_RATIO, "says": says}


def dominance_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per baseline: at how many of its points the model is nowhere worse, and where it lacks most."""
    return [{"name": name, **row, "share": row["at_once"] / max(row["points"], 1),
             "share_within": row["at_once_within_one_event"] / max(row["points"], 1)}
            for name, row in judged(report)["dominance"].items()]


def _facts(gain: Mapping[str, Any]) -> dict[str, Any]:
    told = gain.get("a bound was told")
    if told is None:
        return {"asks": "Facts tell leaks from growth by design", "is_met": False,
                "says": "no run of this set had its bound told"}
    known, hidden = told[MODEL], told[HIDDEN]
    fewer = (hidden["false_alarms_per_hour"] or 0.0) - (known["false_alarms_per_hour"] or 0.0)
    # Of all runs, for a run that its cap stops is not killed.
    seen, unaided = (gain["all runs"][name]["recall"]["60"] for name in (MODEL, HIDDEN))
    lost = (unaided or 0.0) - (seen or 0.0)
    return {"asks": "Facts tell leaks from growth by design", "is_met": fewer > 0 and lost <= LOST_MOST,
            "says": f"where a bound was told ({told['runs']} runs): {number(known['false_alarms_per_hour'])} false "
                    f"alarms an hour with it, {number(hidden['false_alarms_per_hour'])} without; of all kills seen "
                    f"60 s ahead {percent(seen)} with the facts, {percent(unaided)} without"}
