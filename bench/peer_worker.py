"""One peer at work in its own environment: `peer_worker.py NAME FOLDER`, then one order a line on standard input.

    run FIRST COUNT   -> nanoseconds of COUNT single calls over rows in turn, a few more before to warm up, as JSON
    near FIRST COUNT  -> the same over NEAR rows again and again, so that the second-level cache holds them all
    loop FIRST COUNT  -> the same by the peer's C interface, from a loop of C; null where it has none here
    check COUNT       -> the class probabilities of the first rows

FOLDER holds trees.json, rows.f32 and c_loops.so; bench/peers.py writes them. A call is the peer's documented one for
one row that is there already as the array it likes best, with one thread.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"      # before anything is imported that reads them

import numpy as np  # noqa: E402

from same_trees import (  # noqa: E402
    Ensemble,
    base_in_leaves,
    histogram_booster,
    lightgbm_text,
    onnx_bytes,
    xgboost_document,
)

WARM_UP = 24
NEAR = 32


class Peer:
    """What is timed: `call(argument)` for each of `arguments`; `loop` where its C interface can be called."""

    advice = ""                 # what its own documentation says for one row, and that we did

    def __init__(self, folder: Path):
        self.folder = folder
        self.given = json.loads((folder / "trees.json").read_text())
        self.model = Ensemble.of(self.given)
        self.rows = np.fromfile(folder / "rows.f32", np.float32).reshape(-1, self.model.features)
        self.arguments = self.as_arguments()
        self.open()

    def as_arguments(self):
        return [np.ascontiguousarray(row[None, :]) for row in self.rows]

    def classes(self, row):
        """Return the class probabilities that a call gave."""
        return np.asarray(self.call(row), np.float64).reshape(-1)

    def loop_ns(self, _first: int, _count: int):
        """Return what its C interface took, None where none is called here."""

    def c_loops(self):
        loops = ctypes.CDLL(str(self.folder / "c_loops.so"))
        for each in ("loop_xgboost", "loop_lightgbm", "loop_tl2cgen", "loop_lleaves"):
            getattr(loops, each).restype = ctypes.c_int64
        return loops


class XGBoost(Peer):
    package, advice = "xgboost-cpu", "inplace_predict, which makes no DMatrix; nthread=1; validate_features=False"

    def open(self):
        import xgboost
        self.booster = xgboost.Booster({"nthread": 1})
        self.booster.load_model(bytearray(json.dumps(xgboost_document(self.model)).encode()))
        self.core = xgboost.core._LIB

    def call(self, row):
        return self.booster.inplace_predict(row, validate_features=False)

    def loop_ns(self, first, count):
        handle = self.booster.handle
        rows = self.rows[first:].ctypes.data_as(ctypes.c_void_p)
        return self.c_loops().loop_xgboost(self.core.XGBoosterPredictFromDense, handle, rows, ctypes.c_int64(count),
                                           ctypes.c_int64(self.model.features))


class Gtil(Peer):
    package, advice = "treelite", "gtil.predict with nthread=1"

    def open(self):
        import treelite
        import treelite.gtil
        self.gtil = treelite.gtil
        path = self.folder / "gtil.json"
        path.write_text(json.dumps(xgboost_document(self.model)))
        self.imported = treelite.frontend.load_xgboost_model(str(path), format_choice="use_suffix")

    def call(self, row):
        return self.gtil.predict(self.imported, row, nthread=1)


class OnnxRuntime(Peer):
    package, advice = "onnxruntime", "intra- and inter-op threads 1, sequential, all graph optimisations, spinning off"

    def open(self):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(onnx_bytes(self.model), options, providers=["CPUExecutionProvider"])

    def call(self, row):
        return self.session.run(["p"], {"x": row})[0]


class LightGBM(Peer):
    package = "lightgbm"
    advice = "the same trees as its text file; predict with num_threads=1, predict_disable_shape_check; float64 rows"

    def as_arguments(self):
        return [np.ascontiguousarray(row[None, :], dtype=np.float64) for row in self.rows]

    def open(self):
        import lightgbm
        self.core = lightgbm.basic._LIB
        self.booster = lightgbm.Booster(model_str=lightgbm_text(self.model), params={"verbose": -1})

    def call(self, row):
        return self.booster.predict(row, num_threads=1, predict_disable_shape_check=True)

    def loop_ns(self, first, count):
        fast = ctypes.c_void_p()
        rows = np.ascontiguousarray(self.rows[first:first + count], dtype=np.float64)
        done = self.core.LGBM_BoosterPredictForMatSingleRowFastInit(
            self.booster._handle, ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(1),
            ctypes.c_int(self.model.features), ctypes.c_char_p(b"num_threads=1"), ctypes.byref(fast))
        if done:
            return None
        took = self.c_loops().loop_lightgbm(
            self.core.LGBM_BoosterPredictForMatSingleRowFast, fast, rows.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(count), ctypes.c_int64(self.model.features))
        self.core.LGBM_FastConfigFree(fast)
        return took


class ScikitLearn(Peer):
    package = "scikit-learn"
    advice = "HistGradientBoostingClassifier with the same trees; assume_finite=True; one OpenMP thread; float64 rows"

    def as_arguments(self):
        return [np.ascontiguousarray(row[None, :], dtype=np.float64) for row in self.rows]

    def open(self):
        import sklearn
        sklearn.set_config(assume_finite=True)
        self.fitted = histogram_booster(self.model)

    def call(self, row):
        return self.fitted.predict_proba(row)


class Tl2cgen(Peer):
    package = "tl2cgen"
    advice = "compiled by gcc as its guide has it; Predictor with nthread=1; a DMatrix per row: predict takes no other"

    def open(self):
        import tl2cgen
        import treelite
        self.tl2cgen = tl2cgen
        path = self.folder / "tl2cgen.json"
        path.write_text(json.dumps(xgboost_document(base_in_leaves(self.model), has_bases=False)))
        imported = treelite.frontend.load_xgboost_model(str(path), allow_unknown_field=True)
        self.library = self.folder / "tl2cgen.so"
        tl2cgen.export_lib(imported, toolchain="gcc", libpath=str(self.library), params={"parallel_comp": 4})
        self.predictor = tl2cgen.Predictor(str(self.library), nthread=1, verbose=False)

    def call(self, row):
        return self.predictor.predict(self.tl2cgen.DMatrix(row))

    def loop_ns(self, first, count):
        predict = ctypes.CDLL(str(self.library)).predict
        entries = np.ascontiguousarray(self.rows[first:first + count])
        return self.c_loops().loop_tl2cgen(predict, entries.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(count),
                                           ctypes.c_int64(self.model.features))


class Lleaves(Peer):
    package, advice = "lleaves", "the same trees as a LightGBM text file, compiled; predict with n_jobs=1; float64 rows"

    def as_arguments(self):
        return [np.ascontiguousarray(row[None, :], dtype=np.float64) for row in self.rows]

    def open(self):
        import lleaves
        path = self.folder / "lleaves.txt"
        path.write_text(lightgbm_text(self.model, has_lone_leaves=False))
        self.compiled = lleaves.Model(model_file=str(path))
        self.compiled.compile()

    def call(self, row):
        return self.compiled.predict(row, n_jobs=1)

    def loop_ns(self, first, count):
        root = ctypes.cast(self.compiled._c_entry_func, ctypes.c_void_p)
        rows = np.ascontiguousarray(self.rows[first:first + count], dtype=np.float64)
        return self.c_loops().loop_lleaves(root, rows.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(count),
                                           ctypes.c_int64(self.model.features))


def our_forest(folder: Path, calibration):
    """Return the forest with its ranges open, so that it abstains from nothing."""
    from oomguard import features, forest
    everywhere = [-np.inf] * features.COUNT, [np.inf] * features.COUNT
    return forest.Forest((folder / "forest.bin").read_bytes(), *everywhere, calibration)


class Oomguard(Peer):
    """Ourselves, from the window: our features are counted, the peers are given theirs."""

    package, advice = "oomguard", "Scorer.score(window): features and calibration are counted"

    def as_arguments(self):
        from oomguard.measure.stages import prepare, scorers
        from oomguard.window import Window
        data = (self.folder / "windows.bin").read_bytes()
        size = len(data) // len(self.rows)
        windows = [Window(bytearray(data[at:at + size])) for at in range(0, len(data), size)]
        bench = prepare(1, windows)[0]
        model = bench.model._replace(forest=our_forest(self.folder, self.given["calibration"]))
        return scorers(bench._replace(model=model))

    def open(self):
        self.rows = ()          # the windows hold them

    def call(self, pair):
        return pair[0].score(pair[1])

    def classes(self, _pair):
        return np.array([])


class OomguardRow(Peer):
    """Ourselves as the peers are asked: the features are there, the summed leaves of one row come back."""

    package, advice = "oomguard", "Forest.margins of one row: what the peers do, but for the softmax of six numbers"

    def as_arguments(self):
        from array import array
        return [(row.tobytes(), array("d", bytes(8 * self.model.classes))) for row in self.rows]

    def open(self):
        self.compiled = our_forest(self.folder, ((),) * 5).compiled

    def call(self, pair):
        self.compiled.margins(*pair)
        return pair[1]

    def classes(self, pair):
        margins = np.array(self.call(pair))
        powers = np.exp(margins - margins.max())
        return powers / powers.sum()


PEERS = {"oomguard": Oomguard, "oomguard, features given": OomguardRow, "xgboost": XGBoost, "treelite GTIL": Gtil,
         "onnxruntime": OnnxRuntime, "lightgbm": LightGBM, "scikit-learn": ScikitLearn, "tl2cgen": Tl2cgen,
         "lleaves": Lleaves}


def timed(peer: Peer, arguments, warm_up: int) -> list[int]:
    """Return the nanoseconds of single calls, row after row."""
    call, took = peer.call, []
    for row in arguments:
        start_ns = time.perf_counter_ns()
        call(row)
        took.append(time.perf_counter_ns() - start_ns)
    return took[warm_up:]


def in_turn(peer: Peer, first: int, count: int) -> list[int]:
    """Time rows that were not looked at for long."""
    n = len(peer.arguments)
    return timed(peer, [peer.arguments[at % n] for at in range(first - WARM_UP, first + count)], WARM_UP)


def near(peer: Peer, first: int, count: int) -> list[int]:
    """Time a few rows again and again."""
    rows = peer.arguments[first:first + NEAR]
    return timed(peer, rows * (count // NEAR + 1), NEAR)


def main(name: str, folder: str) -> None:
    """Open the peer, say so, and obey until standard input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)               # what a library prints is no answer
    peer = PEERS[name](Path(folder))

    def answer(said) -> None:
        out.write(json.dumps(said) + "\n")
        out.flush()
    answer({"version": version(peer.package), "advice": peer.advice, "python": sys.version.split()[0]})
    for line in sys.stdin:
        order, *numbers = line.split()
        if order == "run":
            answer(in_turn(peer, *map(int, numbers)))
        elif order == "near":
            answer(near(peer, *map(int, numbers)))
        elif order == "loop":
            answer(peer.loop_ns(*map(int, numbers)))
        elif order == "check":
            answer([peer.classes(argument).tolist() for argument in peer.arguments[:int(numbers[0])]])


if __name__ == "__main__":
    main(*sys.argv[1:])
