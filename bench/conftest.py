"""What the suite shares: where figures go, timing side by side, and windows out of real recordings.

Run by `make bench`, which is `python -m pytest bench --benchmark-only`. Figures are written to
bench/results/MACHINE.json, or below OOMGUARD_BENCH_RESULTS; `python bench/report.py` makes the page of them.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import time
from pathlib import Path

import pytest

from oomguard.measure import stages
from oomguard.measure.machine import this_machine
from windows import recorded_windows, rows_of

RESULTS = Path(os.environ.get("OOMGUARD_BENCH_RESULTS", Path(__file__).parent / "results"))
_figures: dict[str, dict[str, object]] = {}
_sections: dict[str, dict[str, object]] = {}


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="a million ticks, and CPU time over two minutes")
    parser.addoption("--fresh", action="store_true", help="forget what the result file held: after a run of everything")
    parser.addoption("--brief", action="store_true", help="rough: a tenth of the calls, a few seconds a daemon")


@pytest.fixture(scope="session")
def is_long(request):
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def is_brief(request):
    return request.config.getoption("--brief")


@pytest.fixture(scope="session")
def bench(is_brief):
    """What the stages of `oomguard bench` run on, with 4,096 windows of real programs for its made ones."""
    return stages.prepare(stages.QUICK if is_brief else 1, recorded_windows())[0]


@pytest.fixture(scope="session")
def rows(bench):
    """float32[4096, F]: the features of every window."""
    return rows_of(bench.pairs)


@pytest.fixture(scope="session")
def section():
    """Note a part of the result that is more than a figure: section(name, {...}); parts of one name are joined."""
    def note(name, said):
        _sections[name] = _sections.get(name, {}) | said
    return note


@pytest.fixture
def figure():
    """Note one figure: figure(name, value, unit, at_most=budget, how=words)."""
    def note(name, value, unit, *, at_most=None, at_least=None, how=""):
        kept = None if at_most is None and at_least is None else \
            (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        _figures[name] = {"value": float(f"{value:.4g}"), "unit": unit, "at_most": at_most, "at_least": at_least,
                          "is_kept": kept, "how": how}
    return note


@pytest.fixture
def side_by_side(benchmark):
    """Time functions in turns, round after round, so that what else the machine does strikes all of them alike."""
    def measure(functions, rounds=40, calls_each=1):
        took_ns = {name: [] for name in functions}

        def one_round():
            for name, function in functions.items():
                start_ns = time.perf_counter_ns()
                function()
                took_ns[name].append(time.perf_counter_ns() - start_ns)
        benchmark.pedantic(one_round, rounds=rounds, warmup_rounds=3)
        return {name: statistics.median(ns[3:]) / calls_each / 1000 for name, ns in took_ns.items()}
    return measure


def pytest_sessionfinish(session):
    if not _figures or session.config.getoption("collectonly"):
        return
    machine = this_machine(stages.inputs.model()[1])
    RESULTS.mkdir(exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{machine['cpu']} {machine['cores']} cores".lower()).strip("-")
    path = RESULTS / f"{slug}.json"
    is_kept = path.exists() and not session.config.getoption("--fresh")
    before = json.loads(path.read_text()) if is_kept else {"figures": {}}
    when = time.strftime("%Y-%m-%d", time.gmtime())
    figures = before.pop("figures") | _figures
    for name, said in _sections.items():
        before[name] = before.get(name, {}) | said
    path.write_text(json.dumps({**before, "machine": machine, "measured": when, "figures": figures}, indent=1) + "\n")
