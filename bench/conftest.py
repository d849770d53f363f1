"""What the suite shares: where figures go, timing side by side, and the same inputs as `oomguard bench`.

Run by `make bench`, which is `python -m pytest bench --benchmark-only`. Figures are written to
bench/results/MACHINE.json; `python bench/report.py` prints them as a table.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from pathlib import Path

import pytest

from oomguard.cli.bench import this_machine
from oomguard.measure import stages

RESULTS = Path(__file__).parent / "results"
_figures: dict[str, dict[str, object]] = {}


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="a million ticks, and CPU time over two minutes")


@pytest.fixture(scope="session")
def is_long(request):
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def bench():
    """The windows, facts, rules and model of `oomguard bench`."""
    return stages.prepare()[0]


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
    before = json.loads(path.read_text())["figures"] if path.exists() else {}
    when = time.strftime("%Y-%m-%d", time.gmtime())
    path.write_text(json.dumps({"machine": machine, "measured": when, "figures": before | _figures}, indent=1) + "\n")
