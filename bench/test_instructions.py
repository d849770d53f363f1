"""What a score of the shipped model takes, in instructions and cache misses, that no neighbour changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import instructions


def test_instructions_of_the_shipped_model(bench, benchmark, section, figure, tmp_path):
    def count():
        instructions.shipped(tmp_path / "input", bench.windows[:instructions.TIMES])
        return instructions.count(instructions.build(Path(tmp_path)), tmp_path / "input", with_caches=True)
    counts = benchmark.pedantic(count, rounds=1)
    section("instructions", {"shipped": counts, "python": instructions.count_python(tmp_path)})
    for stage, one in counts.items():
        figure(f"instructions of one {stage}", one["Ir"], "", how="callgrind, the shipped model, recorded windows")


def test_instructions_on_aarch64(benchmark, section, figure, tmp_path):
    instructions.made(tmp_path / "input")

    def count():
        try:
            return instructions.count_aarch64(tmp_path, tmp_path / "input")
        except (OSError, subprocess.CalledProcessError) as problem:
            pytest.skip(f"no aarch64 compiler or emulator: {problem}")
    counts = benchmark.pedantic(count, rounds=1)
    section("instructions", {"aarch64": counts})
    assert all(one["has_same_bits"] for one in counts.values())
    figure("instructions of one score, made model, aarch64", counts["score"]["Ir"], "",
           how="qemu, clang; the same bits as here")
