"""`oomguard bench`: what each stage of the guard costs on this machine, beside what it may cost."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from oomguard._version import __version__
from oomguard.kernel import HAS_KERNEL
from oomguard.measure import living, stages
from oomguard.measure.inputs import WINDOWS
from oomguard.measure.stages import SkippedError
from oomguard.measure.timing import GROUP, WARM_UP_RATIO, Figures, clock_us

NAME = "bench"
HELP = "measure what the guard costs on this machine"
EXAMPLES = """\
  oomguard bench                                  every stage, its budget beside it (about ten seconds)
  oomguard bench --quick --stage score --stage tick_cgroup
  oomguard bench --json > this-machine.json
"""

LIVING: Mapping[str, Callable[[int], Figures]] = {"control_status": living.control_status, "start": living.start}
NAMES = (*stages.STAGES, *LIVING)
FOOTPRINT = "footprint"
BUDGETS = {     # DESIGN 6: stage, quantile, microseconds
    "walk": ("p50_us", 1.0), "series": ("p50_us", 1.0), "tick_cgroup": ("p50_us", 20.0), "start": ("p50_us", 300_000.0)}
TICK_P99_BUDGET_US = 60.0
SCORE_BUDGET_RATIO = 1.2                # of score_c, in the same run
OVER_BARE_BUDGET_BYTES, PEAK_BUDGET_BYTES = 5_000_000, 48_000_000
HEADING = "oomguard {oomguard} on {cpu} ({cores} cores, load {load_average}), Linux {kernel}, Python {python}"
HOW = """\
Single calls by the clock, whose own {clock_us:.3f} us are in each; push, features and decide {group} calls at a time;
score_c, walk and series loop inside the kernel. {windows} different windows; {warm_up:.0%} more calls to warm up."""
_ROW = "{:<15}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}  {}"


class Report(NamedTuple):
    """Everything one run of `bench` found."""

    machine: dict[str, object]
    figures: dict[str, Figures]
    footprint: living.Footprint | None
    skipped: dict[str, str]             # stage, why


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `bench` takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--stage", metavar="NAME", action="append", default=[], choices=(*NAMES, FOOTPRINT),
                        help=f"only this one; again for more: {', '.join((*NAMES, FOOTPRINT))}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls: rougher figures")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    report = measure(args.stage or [*NAMES, FOOTPRINT], stages.QUICK if args.quick else 1)
    print(json.dumps(as_json(report), indent=2) if args.json else table(report))
    return 0


def measure(names: list[str], quick: int) -> Report:
    """Run the stages of these names; one that cannot be had here is skipped with its reason."""
    bench, said = stages.prepare(quick)
    runs: dict[str, Callable[[], Figures]] = {name: partial(stage, bench) for name, stage in stages.STAGES.items()}
    runs |= {name: partial(stage, quick) for name, stage in LIVING.items()}
    report = Report(this_machine(said), {}, None, {})
    for name in names:
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


def this_machine(model: str) -> dict[str, object]:
    """Return what figures depend on, the load of others included."""
    return {"cpu": _cpu(), "cores": os.cpu_count(), "architecture": platform.machine(), "kernel": platform.release(),
            "python": platform.python_version(), "oomguard": __version__, "model": model,
            "scorer": "kernel" if HAS_KERNEL else "reference", "clock_us": clock_us(),
            "load_average": round(os.getloadavg()[0], 2)}


def as_json(report: Report) -> dict[str, object]:
    """Return the object of `bench --json` (DESIGN 4.10); what was not measured is null."""
    weighed = report.footprint
    return {"machine": report.machine,
            "stages": {name: figures._asdict() for name, figures in report.figures.items()},
            "rss_bytes": weighed and weighed.daemon.rss_bytes, "pss_bytes": weighed and weighed.daemon.pss_bytes,
            "rss_bare_bytes": weighed and weighed.bare.rss_bytes, "pss_bare_bytes": weighed and weighed.bare.pss_bytes,
            "rss_peak_bytes": weighed and weighed.peak_rss_bytes, "rss_scorer": weighed and weighed.scorer,
            "skipped": report.skipped}


def table(report: Report) -> str:
    """Return the report as people read it."""
    machine = report.machine
    lines = [HEADING.format(**machine), f"model: {machine['model']}; scored by the {machine['scorer']}", "",
             _ROW.format("STAGE, us", "p50", "p90", "p99", "p99.9", "max", "calls", "budget")]
    for name, figures in report.figures.items():
        numbers = (f"{value:.2f}" if value < 1000 else f"{value:.0f}" for value in figures[:5])
        lines.append(_ROW.format(name, *numbers, figures.n, budget_of(name, report.figures)).rstrip())
    if report.footprint is not None:
        lines += ["", *_weights(report.footprint)]
    lines += [f"{name}: not measured: {why}" for name, why in report.skipped.items()]
    lines += ["", HOW.format(clock_us=machine["clock_us"], group=GROUP, warm_up=WARM_UP_RATIO, windows=WINDOWS)]
    return "\n".join(lines)


def budget_of(name: str, figures: Mapping[str, Figures]) -> str:
    """Return a stage's budget and whether it is kept, empty where it has none."""
    if name == "score" and "score_c" in figures:
        ratio = figures["score"].p50_us / figures["score_c"].p50_us
        return f"p50 <= {SCORE_BUDGET_RATIO} x score_c: {ratio:.2f} {_verdict(ratio <= SCORE_BUDGET_RATIO)}"
    if name not in BUDGETS:
        return ""
    quantile, most_us = BUDGETS[name]
    is_kept = getattr(figures[name], quantile) <= most_us
    text = f"p50 <= {most_us:g}"
    if name == "tick_cgroup":
        text, is_kept = f"{text}, p99 <= {TICK_P99_BUDGET_US:g}", is_kept and figures[name].p99_us <= TICK_P99_BUDGET_US
    return f"{text} {_verdict(is_kept)}"


def _weights(weighed: living.Footprint) -> list[str]:
    daemon, bare, peak_bytes = weighed.daemon, weighed.bare, weighed.peak_rss_bytes
    over_bytes = daemon.rss_bytes - bare.rss_bytes
    shares = f"PSS {_mb(daemon.pss_bytes)}, of the bare one {_mb(bare.pss_bytes)}; scorer {weighed.scorer}"
    return [f"daemon, MB    RSS {_mb(daemon.rss_bytes)}, of a bare interpreter {_mb(bare.rss_bytes)}; {shares}",
            f"  RSS over bare {_kept_mb(over_bytes, OVER_BARE_BUDGET_BYTES)}",
            f"  peak with start-up {_kept_mb(peak_bytes, PEAK_BUDGET_BYTES)}"]


def _kept_mb(count_bytes: float, most_bytes: float) -> str:
    return f"<= {_mb(most_bytes)}: {_mb(count_bytes)} {_verdict(count_bytes <= most_bytes)}"


def _mb(count_bytes: float) -> str:
    return f"{count_bytes / 1e6:.1f}"


def _verdict(is_kept: bool) -> str:
    return "kept" if is_kept else "OVER"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith(("model name", "Hardware"))]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


def _progress(name: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[Kmeasuring {name} …" if name else "\r\033[K")
        sys.stderr.flush()
