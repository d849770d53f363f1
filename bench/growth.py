"""How cost grows: with trees, depth, different features, blocks in the window. Instructions beside microseconds."""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from random import Random

import instructions
from oomguard import features, forest
from oomguard.measure import inputs, stages
from oomguard.window import Window

TREES, DEPTHS = (8, 32, 128, 512, 2048), (1, 2, 3, 4, 5, 6, 8, 10)
FEATURES, BLOCKS = (1, 4, 16, 64), (31, 60, 120, 240, 303)
WINDOWS, TIMES = 64, 128


def measure() -> dict[str, list[dict[str, float]]]:
    """Return, for each thing that grows, its values with the instructions and microseconds of a walk or a score."""
    windows = inputs.windows(WINDOWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = instructions.build(folder)

        def of_forest(**shape) -> dict[str, float]:
            return _cost(program, folder, inputs.made_forest(**shape), windows, "walk")
        return {
            "trees": [{"x": n} | of_forest(trees=n) for n in TREES],
            "depth": [{"x": n} | of_forest(depth=n) for n in DEPTHS],
            "different features": [{"x": n} | of_forest(most_features=n) for n in FEATURES],
            "blocks in the window": [
                {"x": n} | _cost(program, folder, inputs.made_forest(), full_to(n), "features") for n in BLOCKS]}


def full_to(blocks: int) -> list[Window]:
    """Return windows of so many seconds, a sample each."""
    rng, made = Random(inputs.SEED), []
    for _ in range(WINDOWS):
        window = Window.in_memory()
        for sample in inputs.random_run(rng, blocks, cadence_s=1.0):
            window.push(sample)
        made.append(window)
    return made


def _cost(program: Path, folder: Path, data: bytes, windows: list[Window], stage: str) -> dict[str, float]:
    instructions.write_input(folder / "input", data, windows=windows)
    counted = instructions.count(program, folder / "input", TIMES)[stage]["Ir"]
    everywhere = [-math.inf] * features.COUNT, [math.inf] * features.COUNT
    model = stages.Model("made", "", forest.Forest(data, *everywhere, ((),) * 5), inputs.NEVER_REACHED, 0.9, {})
    bench = stages.Bench(model, windows, inputs.facts(), stages.load_rules(stages.shipped_pack()), stages.QUICK)
    return {"instructions": counted, "us": stages.STAGES[stage](bench).p50_us}


if __name__ == "__main__":
    for what, points in measure().items():
        for point in points:
            sys.stdout.write(f"{what}: {point}\n")
