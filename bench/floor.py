"""The kernel in a loop of C: what a score costs with no Python at all."""

from __future__ import annotations

import ctypes
import subprocess
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
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
        self._out = (ctypes.c_double * (16 * self._n))()
        self._forest = ctypes.c_void_p(id(forest))
        for name in ("floor_ns", "walk_ns"):
            getattr(self._library, name).restype = ctypes.c_int64

    def score_us(self) -> float:
        """Return the microseconds of one score in a loop over all windows."""
        n = ctypes.c_int64(self._n)
        return self._library.floor_ns(self._forest, self._windows, self._facts, n, self._out) / self._n / 1000

    def walk_us(self) -> float:
        """Return the microseconds of one walk in a loop over all rows."""
        return self._library.walk_ns(self._forest, self._rows, ctypes.c_int64(self._n), self._out) / self._n / 1000

    def forecasts(self) -> list[float]:
        """Return what the last loop of scores wrote."""
        return list(self._out[:5 * self._n])


def _address(buffer) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
