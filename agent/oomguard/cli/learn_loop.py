"""`oomguard learn loop`: guard real programs by every trigger, side by side, and count who lives at what cost."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from oomguard.cli.progress import draw_line
from oomguard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oomguard.learn.lab.loop.loop import LoopProgress
    from oomguard.learn.lab.loop.plan import Case, Setting
    from oomguard.learn.lab.loop.triggers import Policy
    from oomguard.trust.bundle import Bundle

NAME = "loop"
HELP = "guard real programs by every trigger, side by side: kills averted, bytes evicted (needs root)"
EXAMPLES = """\
  oomguard learn loop --list
  oomguard learn loop --work /var/tmp/loop
  oomguard learn loop --work /var/tmp/loop --bundle models/default --jobs 48 --figure loop.png --json > loop.json
  oomguard learn loop --work /var/tmp/small --programs redis --seeds 1 --latencies 2 --jobs 6
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `learn loop` takes."""
    parser.add_argument("--work", metavar="FOLDER", help="where finished trials and results.json are kept: started "
                        "again, it goes on")
    parser.add_argument("--bundle", default="shipped", metavar="FOLDER",
                        help="whose model oomguard's arm scores with (default: the package's)")
    parser.add_argument("--rules", default="", metavar="FILE", help="a rule pack whose first rule with `release: "
                        "needed` gives oomguard's condition, and everybody's cooldown and bounds (default: shipped)")
    parser.add_argument("--programs", nargs="+", metavar="NAME", help="default: pythonapp redis node jvm")
    parser.add_argument("--latencies", nargs="+", type=float, metavar="S",
                        help="how long a hook takes (default: 0.05 2 20)")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="default: all; none always belongs to them")
    parser.add_argument("--seeds", type=int, metavar="N", help="cases per program and shape (default: 2)")
    parser.add_argument("--seed", type=int, metavar="N", help="what they are drawn from (default: 1)")
    parser.add_argument("--life", nargs=2, type=float, metavar="S",
                        help="how long a case lives unguarded, at least and at most (default: 60 80)")
    parser.add_argument("--limits", nargs=2, type=int, metavar="MIB", help="memory limits (default: 96 160)")
    parser.add_argument("--jobs", type=int, metavar="N", help="trials side by side (default: 32 per core; most sleep)")
    parser.add_argument("--figure", metavar="FILE", help="draw averted kills against bytes evicted (.png, .svg, .pdf)")
    parser.add_argument("--results-only", action="store_true", help="do no trial; count what is there")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(args: argparse.Namespace) -> int:
    """Do what is missing, then count."""
    from oomguard.learn.lab.loop.plan import draw_cases
    from oomguard.learn.lab.loop.triggers import policy_of

    policy = policy_of(args.rules)
    setting = _setting(args)._replace(cooldown_s=policy.rule.cooldown_s)
    cases = draw_cases(setting)
    if args.list:
        _list(cases, setting)
        return 0
    if not args.work:
        raise UsageError("learn loop: name --work, where trials and results are kept, or --list")
    if args.figure and os.path.splitext(args.figure)[1].lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--figure {args.figure}: the name ends in .png, .svg or .pdf")
    try:
        return _loop(args, setting, cases, policy)
    except KeyboardInterrupt:
        print("\nstopped: what was finished is kept; the same command goes on", file=sys.stderr)
        return 130


def _setting(args: argparse.Namespace) -> Setting:
    from oomguard.learn.lab.loop.plan import Setting

    drawn = Setting()
    setting = Setting(
        seed=drawn.seed if args.seed is None else args.seed, seeds=drawn.seeds if args.seeds is None else args.seeds,
        latencies_s=tuple(args.latencies or drawn.latencies_s), life_s=tuple(args.life or drawn.life_s),
        limit_mib=tuple(args.limits or drawn.limit_mib))
    for name, (low, high) in (("--life", setting.life_s), ("--limits", setting.limit_mib)):
        if not 0 < low < high:
            raise UsageError(f"{name} is LEAST MOST, both above 0")
    if setting.seeds < 1 or setting.seed < 0:
        raise UsageError("--seeds is above 0, --seed not below")
    if not all(0 < latency_s <= 60 for latency_s in setting.latencies_s):
        raise UsageError("--latencies are above 0, and 60 s at most")
    wanted = args.programs or drawn.programs
    if strange := set(wanted) - set(drawn.programs):
        raise UsageError(f"--programs {', '.join(sorted(strange))}: those with a cache are {', '.join(drawn.programs)}")
    return setting._replace(programs=tuple(_installed(wanted)))


def _installed(programs: Sequence[str]) -> list[str]:
    """Return those that are installed; say which are not."""
    import shutil

    from oomguard.learn.lab.program import driver_of

    kept = []
    for program in programs:
        missing = [word for word in driver_of(program).needs if shutil.which(word) is None]
        if missing:
            print(f"{program}: left out, for {', '.join(missing)} is not installed", file=sys.stderr)
        else:
            kept.append(program)
    if not kept:
        raise UsageError("none of the programs is installed")
    return kept


def _loop(args: argparse.Namespace, setting: Setting, cases: list[Case], policy: Policy) -> int:
    from oomguard.learn.lab.loop.loop import default_jobs, run_loop
    from oomguard.learn.lab.loop.plan import trials_of
    from oomguard.learn.lab.loop.results import results_of, table_of
    from oomguard.learn.lab.loop.store import LoopStore
    from oomguard.learn.lab.loop.triggers import ARMS, NONE, condition_in_words, model_of
    from oomguard.sense.facts import detect_profile

    arms = [arm for arm in ARMS if args.arms is None or arm in (*args.arms, NONE)]
    if strange := set(args.arms or ()) - set(ARMS):
        raise UsageError(f"no arm {', '.join(sorted(strange))}: they are {', '.join(ARMS)}")
    bundle = _bundle(args.bundle)
    trials = trials_of(cases, setting, arms)
    store = LoopStore(args.work, {**setting._asdict(), "oomguard": condition_in_words(policy),
                                  "model": bundle.model_id, "manifest": bundle.digest})
    if not args.results_only:
        run_loop(trials, setting, store, policy, model_of(bundle, detect_profile()), args.jobs or default_jobs(),
                 _show)
    results = results_of(store.read(), cases, setting, policy, bundle.model_id)
    path = store.write_results(results)
    if args.figure:
        _draw(args.figure, results)
    print(json.dumps(results, indent=1, allow_nan=False) if args.json else table_of(results))
    print(path, file=sys.stderr)
    return 0


def _bundle(folder: str) -> Bundle:
    from oomguard.trust.bundle import load_bundle, load_shipped

    return load_shipped() if folder == "shipped" else load_bundle(folder, allow_unsigned=True)


def _draw(path: str, results: dict[str, Any]) -> None:
    from oomguard.learn.lab.loop.figure import figure_of_loop

    figure_of_loop(results).savefig(path, dpi=120)


def _list(cases: list[Case], setting: Setting) -> None:
    from oomguard.learn.lab.loop.plan import holds_enough, live_bytes

    for case in cases:
        live = live_bytes(case, setting)
        is_enough = holds_enough(case, live, max(setting.latencies_s), setting.lives * case.expected_s,
                                 setting.cooldown_s)
        what = "nothing to avert" if case.is_plateau else f"unguarded about {case.expected_s:.0f} s, the cache " + (
            "holds enough" if is_enough else "does not hold enough")
        print(f"{case.case_id:26s} {case.limit_bytes / 2**20:4.0f} MiB, cache {case.cache_bytes / 2**20:3.0f} MiB at "
              f"{case.refill_bytes_per_s / 2**20:.2f} MiB/s, {what}")


def _show(progress: LoopProgress) -> None:
    draw_line(f"{progress.done}/{progress.of} trials, {progress.running} on, {progress.averted} alive at their end, "
              f"{progress.killed} killed" + (f", {progress.failed} failed" if progress.failed else ""), progress.note)
