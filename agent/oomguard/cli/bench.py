"""`oomguard bench`: what each stage of the guard costs on this machine, beside what it may cost."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from oomguard.errors import UsageError
from oomguard.measure import living, reading, serving, stages, verdict
from oomguard.measure.inputs import WINDOWS
from oomguard.measure.machine import this_machine
from oomguard.measure.stages import SkippedError
from oomguard.measure.timing import COLD_BYTES, COLD_SLEEP_S, GROUP, WARM_UP_RATIO, Figures
from oomguard.units import parse_ratio

NAME = "bench"
HELP = "measure what the guard costs on this machine"
EXAMPLES = """\
  oomguard bench                                  every stage, its budget beside it (about half a minute)
  oomguard bench --quick --stage score --stage tick_cgroup
  oomguard bench --json > before.json
  oomguard bench --compare before.json            exit code 1 where a median is a quarter slower
  oomguard bench --budget limits.json             exit code 1 where something is over: {"score": {"p50_us": 2.5}}
"""

LIVING: Mapping[str, Callable[[int], Figures]] = {
    "control_status": living.control_status, "reload_command": living.reload_command, "start": living.start}
FOOTPRINT, DEFAULT = "footprint", "default"
HEADING = "oomguard {oomguard} on {cpu} ({cores} cores, load {load_average}), Linux {kernel}, Python {python}"
HOW = """\
Single calls by the clock, whose own {clock_us:.3f} us are in each; push, features and decide {group} calls at a
time; score_c, walk and series loop inside the kernel. {windows} different windows; {warm_up:.0%} more calls to warm
up. Cold: {cold_mb:.0f} MB copied through the caches and {cold_ms:.0f} ms asleep before each call."""
_ROW = "{:<17}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}  {}"


class Report(NamedTuple):
    """Everything one run of `bench` found."""

    machine: dict[str, object]
    figures: dict[str, Figures]
    footprint: living.Footprint | None
    skipped: dict[str, str]             # stage, why
    beside: Mapping[str, verdict.Compared] = {}     # an earlier run


def names() -> tuple[str, ...]:
    """Return the stages that can be measured."""
    return (*_in_process(), *LIVING, FOOTPRINT)


def _in_process() -> dict[str, stages.Stage]:
    return {**stages.STAGES, **reading.STAGES, **serving.STAGES}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `bench` takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--stage", metavar="NAME", action="append", default=[], choices=names(),
                        help=f"only this one; again for more: {', '.join(names())}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls: rougher figures")
    parser.add_argument("--compare", metavar="FILE", default="",
                        help="an earlier run's --json; a slower median makes the exit code 1")
    parser.add_argument("--margin", metavar="RATIO", default=f"{verdict.MARGIN_RATIO:.0%}",
                        help="how much slower than --compare is no failure (default %(default)s)")
    parser.add_argument("--budget", metavar="FILE", default="",
                        help=f"limits by stage and quantile, as JSON, or `{DEFAULT}`; one over makes the exit code 1")


def run(args: argparse.Namespace) -> int:
    """Measure, judge and print."""
    before = verdict.read_report(args.compare) if args.compare else None
    limits = verdict.BUDGETS if args.budget == DEFAULT else verdict.read_budgets(args.budget) if args.budget else {}
    margin_ratio = _margin(args.margin)
    report = measure(args.stage or list(names()), stages.QUICK if args.quick else 1)
    said = as_json(report)
    judged = said["over"] = verdict.over(plain_stages(report), _weighed(report), limits)
    slower = []
    if before is not None:
        beside = verdict.compared(before["stages"], plain_stages(report), margin_ratio)
        said["compared"] = {name: one._asdict() for name, one in beside.items()}
        slower = [name for name, one in beside.items() if one.is_slower]
        report = report._replace(beside=beside)
    print(json.dumps(said, indent=2) if args.json else "\n".join((table(report), *judged)))
    return 1 if judged or slower else 0


def _margin(text: str) -> float:
    try:
        margin_ratio = parse_ratio(text)
    except ValueError as error:
        raise UsageError(f"--margin: {error}") from None
    return margin_ratio


def measure(wanted: list[str], quick: int) -> Report:
    """Run the stages of these names; one that cannot be had here is skipped with its reason."""
    bench, said = stages.prepare(quick)
    runs: dict[str, Callable[[], Figures]] = {name: partial(stage, bench) for name, stage in _in_process().items()}
    runs |= {name: partial(stage, quick) for name, stage in LIVING.items()}
    report = Report(this_machine(said), {}, None, {})
    for name in wanted:
        _progress(name)
        try:
            if name == FOOTPRINT:
                report = report._replace(footprint=living.footprint())
            else:
                report.figures[name] = runs[name]()
        except SkippedError as error:
            report.skipped[name] = str(error)
    _progress("")
    return report


def plain_stages(report: Report) -> dict[str, dict[str, float]]:
    """Return the figures as `bench --json` tells them."""
    return {name: figures.plain() for name, figures in report.figures.items()}


def _weighed(report: Report) -> dict[str, float | None]:
    weighed = report.footprint
    if weighed is None:
        return {}
    return {"rss_bytes": weighed.daemon.rss_bytes, "pss_bytes": weighed.daemon.pss_bytes,
            "rss_peak_bytes": weighed.peak_rss_bytes,
            "rss_over_bare_bytes": weighed.daemon.rss_bytes - weighed.bare.rss_bytes}


def as_json(report: Report) -> dict[str, object]:
    """Return the object of `bench --json` (DESIGN 4.10); what was not measured is null."""
    weighed = report.footprint
    return {"machine": report.machine,
            "stages": plain_stages(report),
            "rss_bytes": weighed and weighed.daemon.rss_bytes, "pss_bytes": weighed and weighed.daemon.pss_bytes,
            "rss_bare_bytes": weighed and weighed.bare.rss_bytes, "pss_bare_bytes": weighed and weighed.bare.pss_bytes,
            "rss_peak_bytes": weighed and weighed.peak_rss_bytes, "rss_scorer": weighed and weighed.scorer,
            "skipped": report.skipped, "over": [], "compared": {}}


def table(report: Report) -> str:
    """Return the report as people read it."""
    machine = report.machine
    lines = [HEADING.format(**machine), f"model: {machine['model']}; scored by the {machine['scorer']}", "",
             _ROW.format("STAGE, us", "p50", "p90", "p99", "p99.9", "max", "calls", "budget")]
    for name, figures in report.figures.items():
        numbers = (f"{value:.2f}" if value < 1000 else f"{value:.0f}" for value in figures[:5])
        words = "  ".join(filter(None, (budget_of(name, report.figures), _beside(report.beside.get(name)))))
        lines.append(_ROW.format(name, *numbers, figures.n, words).rstrip())
    if report.footprint is not None:
        lines += ["", *_weights(report.footprint)]
    lines += [f"{name}: not measured: {why}" for name, why in report.skipped.items()]
    lines += ["", HOW.format(clock_us=machine["clock_us"], group=GROUP, warm_up=WARM_UP_RATIO, windows=WINDOWS,
                             cold_mb=COLD_BYTES / 1e6, cold_ms=COLD_SLEEP_S * 1000)]
    return "\n".join(lines)


def budget_of(name: str, figures: Mapping[str, Figures]) -> str:
    """Return a stage's budget and whether it is kept, empty where it has none."""
    if name == "score" and "score_c" in figures:
        most = verdict.BUDGETS[verdict.SCORE_OVER_C]["ratio"]
        ratio = figures["score"].p50_us / figures["score_c"].p50_us
        return f"p50 <= {most} x score_c: {ratio:.2f} {_verdict(ratio <= most)}"
    if name not in verdict.BUDGETS:
        return ""
    limits = verdict.BUDGETS[name]
    text = ", ".join(f"{quantity.removesuffix('_us')} <= {most:g}" for quantity, most in limits.items())
    return f"{text} {_verdict(all(getattr(figures[name], quantity) <= most for quantity, most in limits.items()))}"


def _beside(one: verdict.Compared | None) -> str:
    return "" if one is None else f"{one.ratio:.2f} x {one.before_us:g} before{' SLOWER' if one.is_slower else ''}"


def _weights(weighed: living.Footprint) -> list[str]:
    daemon, bare, peak_bytes = weighed.daemon, weighed.bare, weighed.peak_rss_bytes
    over_bytes, limits = daemon.rss_bytes - bare.rss_bytes, verdict.BUDGETS[verdict.DAEMON]
    shares = f"PSS {_mb(daemon.pss_bytes)}, of the bare one {_mb(bare.pss_bytes)}; scorer {weighed.scorer}"
    return [f"daemon, MB    RSS {_mb(daemon.rss_bytes)}, of a bare interpreter {_mb(bare.rss_bytes)}; {shares}",
            f"  RSS over bare {_kept_mb(over_bytes, limits['rss_over_bare_bytes'])}",
            f"  peak with start-up {_kept_mb(peak_bytes, limits['rss_peak_bytes'])}"]


def _kept_mb(count_bytes: float, most_bytes: float) -> str:
    return f"<= {_mb(most_bytes)}: {_mb(count_bytes)} {_verdict(count_bytes <= most_bytes)}"


def _mb(count_bytes: float) -> str:
    return f"{count_bytes / 1e6:.1f}"


def _verdict(is_kept: bool) -> str:
    return "kept" if is_kept else "OVER"


def _progress(name: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[Kmeasuring {name} …" if name else "\r\033[K")
        sys.stderr.flush()
