"""Every stage of `oomguard bench`, over windows of real programs, with its whole distribution."""

from __future__ import annotations

import pytest

from oomguard.cli.bench import LIVING
from oomguard.measure import reading, serving, stages
from oomguard.measure.stages import SkippedError

IN_PROCESS = {**stages.STAGES, **reading.STAGES, **serving.STAGES}


@pytest.mark.parametrize("name", [*IN_PROCESS, *LIVING])
def test_stage(name, bench, benchmark, section):
    def measure():
        return IN_PROCESS[name](bench) if name in IN_PROCESS else LIVING[name](bench.quick)
    try:
        took = benchmark.pedantic(measure, rounds=1)
    except SkippedError as error:
        section("stages", {name: {"skipped": str(error)}})
        pytest.skip(str(error))
    section("stages", {name: took.plain() | {"curve_us": list(took.curve_us)}})
    assert took.p50_us > 0
