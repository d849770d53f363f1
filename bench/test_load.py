"""Ticks and scores on a saturated machine, and how cost grows."""

from __future__ import annotations

import pytest

import growth
import load

pytestmark = pytest.mark.timeout(600)

SECONDS, BRIEF_SECONDS, LONG_SECONDS = 6, 2, 30


def test_ticks_under_load(benchmark, section, figure, is_brief, is_long):
    seconds = BRIEF_SECONDS if is_brief else LONG_SECONDS if is_long else SECONDS
    told = benchmark.pedantic(lambda: load.measure(seconds), rounds=1)
    section("load", told)
    for kind, ways in told.items():
        for way, one in ways.items():
            if "late_us" in one:
                figure(f"lateness under load: {kind}, {way}, p99", one["late_us"]["p99_us"] / 1000, "ms")


def test_growth(benchmark, section):
    section("growth", benchmark.pedantic(growth.measure, rounds=1))
