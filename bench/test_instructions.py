"""What a score of the shipped model takes, in instructions and cache misses, that no neighbour changes."""

from __future__ import annotations

from pathlib import Path

import instructions


def test_instructions_of_the_shipped_model(bench, benchmark, section, figure, tmp_path):
    def count():
        instructions.shipped(tmp_path / "input", bench.windows[:instructions.TIMES])
        return instructions.count(instructions.build(Path(tmp_path)), tmp_path / "input", with_caches=True)
    counts = benchmark.pedantic(count, rounds=1)
    section("instructions", {"shipped": counts, "python": instructions.count_python(tmp_path)})
    for stage, one in counts.items():
        figure(f"instructions of one {stage}", one["Ir"], "", how="callgrind, the shipped model, recorded windows")
