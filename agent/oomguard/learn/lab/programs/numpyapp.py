"""A numpy program: arrays of float32 that are loaded and dropped, and copies that come and go."""

from __future__ import annotations

import sys

from oomguard.learn.lab.programs._orders import STEP_BYTES, OrderedProgram

SCRIPT = r"""
import sys
import numpy
seed, step = map(int, sys.argv[1:])
rng = numpy.random.default_rng(seed)
pool = rng.standard_normal(1 << 18, dtype=numpy.float32)
pool[::2] = numpy.round(pool[::2])                      # half of it is easy to compress
middle = int(2.0 ** rng.uniform(14, 19))                # elements: 64 KiB to 2 MiB
arrays, held, kept = [], 0, 0
cache = []

def load(size):
    array = numpy.tile(pool, size // len(pool) + 1)[:size].copy()
    array *= numpy.float32(rng.uniform(0.5, 2.0))
    return array

print("ready", flush=True)
for line in iter(sys.stdin.readline, ""):
    want, keep, churn = map(int, line.split())
    stop = min(want, held + step)
    while held < stop:
        # Never past the wish by much: the last one is cut.
        array = load(min(max(int(middle * rng.lognormal(0, 0.5)), 4096), max((stop - held) // 4, 4096)))
        arrays.append(array)
        held += array.nbytes
    while held > want and arrays:
        held -= arrays.pop().nbytes
    while kept + (1 << 20) <= min(keep, kept + step):
        cache.append(load(1 << 18))
        kept += 1 << 20
    while kept > keep:
        cache.pop()
        kept -= 1 << 20
    while churn > 0:
        work = load(min(churn // 8 + 4096, 1 << 19))
        work = numpy.sqrt(numpy.abs(work))
        churn -= 2 * work.nbytes
    print(min(held, want), kept, flush=True)
"""


class Driver(OrderedProgram):
    """Drives it."""

    # Measured, numpy 2.4 in a v1 cgroup: 15.5 MiB, 1.01.
    base_bytes = 15.5 * (1 << 20)
    charge_ratio = 1.01
    needs = ()
    has_cache = True

    def command(self) -> list[str]:
        """Return the interpreter of the lab, which has numpy, with the script."""
        return [sys.executable, "-I", "-c", SCRIPT, str(self.spec.seed), str(STEP_BYTES)]

    def environment(self) -> dict[str, str]:
        """Return settings: no threads of a BLAS; arrays of 128 KiB and more are given back when dropped."""
        return {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}
