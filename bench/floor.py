"""The kernel in a loop of C: what a score costs with no Python at all."""

from __future__ import annotations

import ctypes
import subprocess
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LOOP, HORIZONS = 64, 5      # a loop is short enough to be seldom preempted
_POINTER = ctypes.sizeof(ctypes.c_void_p)
# As in setup.py, so that the floor is the same code.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-DPy_LIMITED_API=0x030B0000", "-shared", "-fPIC"]


class Floor:
    """Calls into the loop; keeps alive what it points at."""

    def __init__(self, forest, pairs, rows):
        with tempfile.TemporaryDirectory() as folder:
            library = f"{folder}/floor.so"
            headers = f"-I{sysconfig.get_path('include')}"
            subprocess.run(["cc", *FLAGS, headers, str(HERE / "floor.c"), "-o", library, "-lm"], check=True)
            self._library = ctypes.PyDLL(library)
        self._kept = (forest, pairs, rows)
        self._n = len(pairs)
        pointers = ctypes.c_void_p * self._n
        self._windows = pointers(*(_address(window) for window, _facts in pairs))
        self._facts = pointers(*(_address(facts) for _window, facts in pairs))
        self._rows = (ctypes.c_float * (len(rows) // 4)).from_buffer_copy(rows)
        self._out = (ctypes.c_double * (HORIZONS * self._n))()
        self._forest = ctypes.c_void_p(id(forest))
        for name in ("floor_ns", "walk_ns", "cold_ns"):
            getattr(self._library, name).restype = ctypes.c_int64

    def score_us(self) -> list[float]:
        """Return the microseconds of one score in a loop of C, each over LOOP windows, until all were scored."""
        return [self._library.floor_ns(self._forest, ctypes.byref(self._windows, at * _POINTER),
                                       ctypes.byref(self._facts, at * _POINTER), ctypes.c_int64(LOOP),
                                       ctypes.byref(self._out, at * HORIZONS * 8)) / LOOP / 1000
                for at in range(0, self._n - LOOP + 1, LOOP)]

    def walk_us(self) -> list[float]:
        """Return the microseconds of one walk in a loop of C, each over LOOP rows, until all were walked."""
        width = len(self._rows) // self._n * 4
        return [self._library.walk_ns(self._forest, ctypes.byref(self._rows, at * width), ctypes.c_int64(LOOP),
                                      self._out) / LOOP / 1000
                for at in range(0, self._n - LOOP + 1, LOOP)]

    def cold_us(self, n: int) -> list[float]:
        """Return the microseconds of single scores, windows and forest flushed out of every cache before each."""
        n = min(n, self._n)
        took = (ctypes.c_int64 * n)()
        self._library.cold_ns(self._forest, self._windows, self._facts, ctypes.c_int64(n), self._out, took)
        return [ns / 1000 for ns in took]

    def forecasts(self) -> list[float]:
        """Return what the last loop of scores wrote."""
        return list(self._out[:HORIZONS * self._n])


def _address(buffer) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
