"""One row beside the peers, on the very same trees; and our daemon beside other guards."""

from __future__ import annotations

import pytest

import daemons
import peers

ROUNDS, BRIEF_ROUNDS = peers.ROUNDS, 6
pytestmark = pytest.mark.timeout(1200)       # the first time, the peers are installed

WATCHED_S, BRIEF_WATCHED_S, LONG_WATCHED_S = 60, 10, 600


def test_one_row_beside_the_peers(bench, rows, benchmark, section, figure, is_brief):
    rounds = BRIEF_ROUNDS if is_brief else ROUNDS
    told = benchmark.pedantic(lambda: peers.measure(bench.windows, rows, rounds=rounds), rounds=1)
    section("peers", told)
    for name, one in told["peers"].items():
        if not name.startswith("oomguard"):
            near = one["near"]["over_score"]
            figure(f"{name}, one row from Python / score from Python", near["ratio"], "x", at_least=5,
                   how=f"{near['low']:g} to {near['high']:g}; its features not counted, ours are; windows near")


def test_daemon_beside_other_guards(benchmark, section, figure, is_brief, is_long):
    seconds = BRIEF_WATCHED_S if is_brief else LONG_WATCHED_S if is_long else WATCHED_S
    told = benchmark.pedantic(lambda: daemons.measure(seconds), rounds=1)
    section("daemons", told)
    for name, one in told["daemons"].items():
        figure(f"{name}: processor time in 10 minutes", one["cpu_s"], "s", how=one["how"])
