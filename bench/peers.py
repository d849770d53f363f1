"""The peers beside us: same trees, same rows, one run, in turns; ratios with intervals.

Each peer works in a process of its own (peer_worker.py), in the environment that suits it, under .cache/peers. All
wait while one calls: 64 single calls a turn, in an order shuffled every round, so that neighbours strike all alike.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from oomguard import features, forest
from oomguard.errors import BundleError
from oomguard.measure.inputs import SEED, made_forest
from oomguard.measure.timing import Figures
from oomguard.trust.bundle import load_shipped
from same_trees import Ensemble, grown

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".cache" / "peers"
# tl2cgen (2024) fails on NumPy 2, lleaves on llvmlite 0.45: they have an environment of older things.
PACKAGES = {
    "new": ("numpy", "xgboost-cpu", "treelite", "onnx", "onnxruntime", "lightgbm", "scikit-learn",
            "libmempressure"),
    "old": ("numpy<2", "treelite<4.4", "tl2cgen==1.0.0", "lleaves==1.3.0", "llvmlite<0.45", "lightgbm<4.6")}
WHERE = {"oomguard": "", "oomguard, features given": "", "xgboost": "new", "treelite GTIL": "new", "onnxruntime": "new",
         "lightgbm": "new", "scikit-learn": "new", "tl2cgen": "old", "lleaves": "old"}
NOT_HAD = {"emlearn": "takes scikit-learn's forests, decision trees and small nets, not a boosted model; its trees "
                      "hold integers of 16 bits, so not this model's thresholds"}
ROUNDS, CALLS_A_TURN, CHECKED = 64, 64, 256
RESAMPLES = 2000
CLOSE = 1e-5        # class probabilities of the same trees in float32


# -- environments and what they are given ----------------------------------------------------------------------------

def interpreter(environment: str) -> str:
    """Return the Python of a peers' environment; make it where it is not there."""
    if not environment:
        return sys.executable
    folder = ENVIRONMENTS / environment
    stamp = folder / "packages"
    wanted = "\n".join(PACKAGES[environment])
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *PACKAGES[environment]], check=True)
        stamp.write_text(wanted)
    return str(folder / "bin" / "python")


def ensemble() -> tuple[Ensemble, bytes, list, str]:
    """Return the trees all walk, their forest file, the calibration, and which model it is."""
    try:
        bundle = load_shipped()
        trees = grown(forest.unpack(bundle.forest), features.COUNT, forest.CLASSES)
        return trees, bundle.forest, list(bundle.calibration), bundle.model_id
    except (ValueError, BundleError):       # none is shipped, or one of another kind, which not all peers could take
        data = made_forest()
        return grown(forest.unpack(data), features.COUNT, forest.CLASSES), data, [()] * 5, "made"


def give(folder: Path, windows, rows: np.ndarray) -> tuple[Ensemble, str]:
    """Write what the workers read."""
    model, data, calibration, name = ensemble()
    (folder / "trees.json").write_text(json.dumps(model._asdict() | {"calibration": calibration}))
    (folder / "forest.bin").write_bytes(data)
    rows.tofile(folder / "rows.f32")
    with (folder / "windows.bin").open("wb") as file:
        for window in windows:
            file.write(bytes(window.buffer))
    loops = str(folder / "c_loops.so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(HERE / "c_loops.c"), "-o", loops], check=True)
    return model, name


class Worker:
    """One peer's process."""

    def __init__(self, name: str, folder: Path):
        argv = [interpreter(WHERE[name]), str(HERE / "peer_worker.py"), name, str(folder)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(argv, **pipes, text=True)
        self.name, self.turns = name, {"run": [], "near": [], "loop": []}
        line = self.process.stdout.readline()
        if not line:
            raise ValueError(self.process.communicate()[1].strip().splitlines()[-1])
        self.hello = json.loads(line)

    def ask(self, *words):
        """Send one order, return its answer."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()
        self.process.stderr.close()


@contextmanager
def at_work(folder: Path, names) -> Iterator[tuple[list[Worker], dict[str, str]]]:
    """Give the workers that came up, and why others did not."""
    workers, missing = [], dict(NOT_HAD)
    with ExitStack() as stack:
        for name in names:
            try:
                workers.append(Worker(name, folder))
                stack.callback(workers[-1].close)
            except (ValueError, OSError, subprocess.CalledProcessError) as problem:
                missing[name] = str(problem)[:300]
        yield workers, missing


# -- measuring -------------------------------------------------------------------------------------------------------

def measure(windows, rows: np.ndarray, names=tuple(WHERE), rounds: int = ROUNDS) -> dict:
    """Return each peer's figures, its ratio to our score and to our walk of one row, and who could not be had."""
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _model, model = give(folder, windows, rows)
        with at_work(folder, names) as (workers, missing):
            wrong = _disagreement(workers)
            for turn in range(rounds):
                for worker in rng.sample(workers, len(workers)):
                    first = turn * CALLS_A_TURN % (len(rows) - CALLS_A_TURN)
                    for kind, turns in worker.turns.items():
                        turns.append(worker.ask(kind, first, CALLS_A_TURN))
    medians = {kind: {worker.name: [statistics.median(turn) for turn in worker.turns[kind]] for worker in workers}
               for kind in ("run", "near")}
    told = {}
    for worker in workers:
        loops = worker.turns["loop"]
        told[worker.name] = worker.hello | {
            "differs_by": wrong.get(worker.name),
            "c_loop_us": None if None in loops else round(statistics.median(loops) / CALLS_A_TURN / 1000, 4)}
        for kind, said in (("run", "in_turn"), ("near", "near")):
            figures = Figures.of([ns for turn in worker.turns[kind] for ns in turn])
            ours = medians[kind]
            told[worker.name][said] = figures.plain() | {
                "curve_us": list(figures.curve_us), "over_score": ratio(ours[worker.name], ours["oomguard"]),
                "over_walk": ratio(ours[worker.name], ours["oomguard, features given"])}
    return {"model": model, "rounds": rounds, "calls_a_turn": CALLS_A_TURN, "rows": len(rows), "peers": told,
            "missing": missing}


def ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """Return the median over rounds of theirs / ours, with the 95 % interval of a bootstrap over rounds."""
    each = np.array(theirs) / np.array(ours)
    rng = np.random.default_rng(SEED)
    medians = np.median(rng.choice(each, (RESAMPLES, len(each))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return {"ratio": round(float(np.median(each)), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def _disagreement(workers: list[Worker]) -> dict[str, float]:
    """Return by how much each peer's class probabilities differ from ours. Raises ValueError beyond rounding."""
    said = {worker.name: np.array(worker.ask("check", CHECKED)) for worker in workers}
    ours = said["oomguard, features given"]
    found = {name: float(np.abs(classes - ours).max()) for name, classes in said.items() if classes.size}
    for name, difference in found.items():
        if not difference < CLOSE:
            raise ValueError(f"{name} walks other trees: its probabilities differ by {difference:g}")
    return found


if __name__ == "__main__":
    from oomguard.measure import stages
    from windows import recorded_windows, rows_of

    recorded = recorded_windows()
    made_rows = rows_of(stages.prepare(1, recorded)[0].pairs)
    result = measure(recorded, made_rows, rounds=int(sys.argv[1]) if sys.argv[1:] else ROUNDS)
    for each, one in result["peers"].items():
        for kind in ("in_turn", "near"):
            sys.stdout.write(f"{each:<26}{kind:<8} p50 {one[kind]['p50_us']:8.2f} p99 {one[kind]['p99_us']:9.2f} "
                             f"{one[kind]['over_score']} C {one['c_loop_us']} {one['version']}\n")
    sys.stdout.write(json.dumps(result["missing"], indent=1) + "\n")
