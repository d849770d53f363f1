"""`oomguard replay`: what the guard decided on a recording, or what other rules and another model would have."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from oomguard.cli.start import add_plan_arguments, plan_of
from oomguard.cli.status import escaped_text
from oomguard.clock import now_s
from oomguard.decide.plan_json import from_json, to_json
from oomguard.settings import bundle_of
from oomguard.units import format_seconds

if TYPE_CHECKING:
    from oomguard.replay.compare import Comparison, Difference
    from oomguard.replay.recording import RecordedRun
    from oomguard.replay.replay import Replayed, Replayer, Setting

NAME = "replay"
HELP = "decide again on a recording, with the same or with other rules and another model"
EXAMPLES = """\
  oomguard replay RECORDINGS                              the shipped rules and model
  oomguard replay RECORDINGS --rules mine.yaml            what these rules would have done, and the diff
  oomguard replay RECORDINGS --model none --run player-7  one run, by plain thresholds
  oomguard replay RECORDINGS --json | jq 'select(.rule)'  one line per sample
"""

SHOWN_DIFFERENCES = 20
QUIET_S = 2.0
_ROW = "{:<26.26} {:<8} {:>9} {:>9} {:>8} {:>6} {:>8}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `replay` takes."""
    parser.add_argument("recordings", metavar="RECORDINGS", help="a folder of recorded tables")
    add_plan_arguments(parser)
    parser.add_argument("--run", metavar="ID", default="", help="replay this run only")
    parser.add_argument("--json", action="store_true",
                        help="print one line per sample: run_id, t_s, level, probabilities, time_to_limit_s, rule")


def setting_of(args: argparse.Namespace) -> Setting:
    """Return what a command line wants to replay with. Raises ConfigError, BundleError."""
    from oomguard.replay.replay import Setting

    plan = from_json(to_json(plan_of(args)))        # as the daemon is handed it: 2 becomes 2.0, for one
    bundle = bundle_of(plan, allow_unsigned=args.allow_unsigned, allow_older=args.allow_older, keys_dir=args.keys)
    return Setting(plan, bundle, args.device_type)


def run(args: argparse.Namespace) -> int:
    """Replay; 1 when the same guard decides otherwise than it did."""
    from oomguard.replay.compare import compare, is_other_guard
    from oomguard.replay.recording import load_runs
    from oomguard.replay.replay import Replayer

    replayer = Replayer(setting_of(args))
    runs = load_runs(args.recordings, args.run)
    comparisons: list[tuple[Replayed, Comparison]] = []
    began_s = now_s()
    for recorded in _with_progress(runs):
        is_other = is_other_guard(recorded, replayer.setting)
        replayed = replayer.replay(recorded, is_busy_as_recorded=not is_other)
        comparisons.append((replayed, compare(replayed, replayer.setting)))
        if args.json:
            sys.stdout.write("".join(json_lines(replayed)))
    if not args.json:
        print("\n".join(report(replayer, comparisons, now_s() - began_s)))
    return int(any(each.is_same_guard and each.differences for _replayed, each in comparisons))


def json_lines(replayed: Replayed) -> Iterator[str]:
    """Yield one line per sample (DESIGN 4.10). Floats are written so that they read back as the same bits."""
    readings = replayed.readings
    head = f'{{"run_id": {json.dumps(replayed.run.run_id)}, "t_s": '
    names = ("p60", "p120", "p180", "p240", "p300")
    columns = zip(replayed.run.t_s.tolist(), readings.levels.tolist(), readings.forecasts.tolist(),
                  readings.times_to_limit_s.tolist(), strict=True)
    for at, (t_s, level, forecast, limit_s) in enumerate(columns):
        decision = replayed.decisions.get(at)
        chances = "null" if forecast[0] != forecast[0] else (
            "{" + ", ".join(f'"{name}": {p!r}' for name, p in zip(names, forecast, strict=True)) + "}")
        yield (f'{head}{t_s!r}, "level": {"null" if level < 0 else level}, "probabilities": {chances}, '
               f'"time_to_limit_s": {"null" if limit_s != limit_s else repr(limit_s)}, '
               f'"rule": {"null" if decision is None else json.dumps(decision.rule)}}}\n')


def report(replayer: Replayer, results: list[tuple[Replayed, Comparison]], took_s: float) -> list[str]:
    """Return what people read: with what, run by run, the diff, and what to make of it."""
    from oomguard.replay.compare import caveats

    setting = replayer.setting
    samples = sum(len(replayed.run.t_s) for replayed, _comparison in results)
    speed = f"{took_s:.2f} s ({samples / max(took_s, 1e-9):,.0f} samples/s)"
    lines = [f"{len(results)} runs, {samples:,} samples, replayed in {speed}",
             f"rules  {escaped_text(setting.plan.source)}  {setting.plan.digest[:12]}",
             f"model  {'none: plain levels' if setting.bundle is None else setting.bundle.model_id}", ""]
    lines += [_ROW.format("RUN", "ENDED", "AFTER", "1ST ALARM", "LEAD", "FIRED", "RECORDED")]
    lines += [_row(replayed) for replayed, _comparison in results]
    lines += ["", *_verdict([comparison for _replayed, comparison in results])]
    lines += _differences([each for _replayed, comparison in results for each in comparison.differences])
    lines += [f"note: {caveat}" for caveat in caveats([replayed.run for replayed, _c in results], setting)]
    return lines


def _row(replayed: Replayed) -> str:
    from oomguard.replay.alarms import alarms_in

    run = replayed.run
    alarms = alarms_in(replayed.readings)
    first_s = float(run.t_s[alarms[0]]) if alarms else None
    kill_s = next((kill.t_s for kill in run.kills if first_s is not None and kill.t_s > first_s), None)
    lead_s = kill_s - first_s if kill_s is not None and first_s is not None else None
    return _ROW.format(escaped_text(run.run_id), escaped_text(run.ended), format_seconds(run.ended_after_s),
                       format_seconds(first_s), format_seconds(lead_s), len(replayed.decisions), len(run.actions))


def _verdict(comparisons: list[Comparison]) -> list[str]:
    """Say in words whether this was the same guard, and whether it decided the same."""
    lines = []
    for number, name in enumerate(("bundle", "rules", "profile", "version")):
        found = [comparison.ingredients[number] for comparison in comparisons]
        counts = {verdict: sum(each.verdict == verdict for each in found)
                  for verdict in ("same", "differs", "not recorded")}
        said = ", ".join(f"{verdict} in {count}" if count < len(found) else verdict
                         for verdict, count in counts.items() if count)
        example = next((f" (recorded {each.recorded[:12]}, here {each.here[:12]})" for each in found
                        if each.verdict == "differs"), "")
        lines.append(f"{name:<8} {said}{example}")
    confirmed = sum(comparison.confirmed for comparison in comparisons)
    unanswered = sum(comparison.unanswered for comparison in comparisons)
    differing = sum(len(comparison.differences) for comparison in comparisons)
    acted = confirmed + sum(bool(each.recorded) for comparison in comparisons for each in comparison.differences)
    is_same = all(comparison.is_same_guard for comparison in comparisons)
    if is_same and not differing:
        lines.append(f"the same guard decides the same: {confirmed} recorded decisions made again at the same samples"
                     + (f"; {unanswered} more led to no action: nothing was needed, or nobody was to be asked"
                        if unanswered else ""))
    elif is_same:
        lines.append(f"NOT REPRODUCED: the same guard decides otherwise in {differing} places, as it does in "
                     f"{confirmed}: another architecture, or a fault; please report it")
    else:
        lines.append(f"what if: {confirmed} recorded decisions made again, {differing} differences"
                     + ("" if acted else " (the recorded guard asked nobody for anything)"))
    return lines


def _differences(found: list[Difference]) -> list[str]:
    lines = []
    for each in found[:SHOWN_DIFFERENCES]:
        sign = "~" if each.recorded and each.replayed else "-" if each.recorded else "+"
        text = " -> ".join(part for part in (each.recorded, each.replayed) if part)
        lines.append(f"{sign} {escaped_text(each.run_id)} at {each.t_s:.1f} s{' *' if each.is_influenced else ''}: "
                     f"{escaped_text(text)}")
    if len(found) > SHOWN_DIFFERENCES:
        lines.append(f"… and {len(found) - SHOWN_DIFFERENCES} more; --run ID shows one run's")
    return (["(- recorded only, + replayed only, ~ both, otherwise)", *lines] if lines else [])


def _with_progress(runs: list[RecordedRun]) -> Iterator[RecordedRun]:
    """Yield the runs; on a terminal say how far it is once it takes longer than two seconds."""
    began_s, is_shown = now_s(), False
    for number, each in enumerate(runs):
        if sys.stderr.isatty() and now_s() - began_s > QUIET_S:
            is_shown = True
            sys.stderr.write(f"\r{number}/{len(runs)} runs")
        yield each
    if is_shown:
        sys.stderr.write("\r\x1b[K")
