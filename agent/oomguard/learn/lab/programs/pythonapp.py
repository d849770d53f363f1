"""A Python program: dicts, lists, bytes and mmaps, in the mix its seed says, with a cache of mmaps beside them."""

from __future__ import annotations

import sys

from oomguard.learn.lab.programs._orders import STEP_BYTES, OrderedProgram

SCRIPT = r"""
import gc, mmap, random, sys
from collections import OrderedDict, deque
seed, bound, step = map(int, sys.argv[1:])
rng = random.Random(seed)
# Half text, half noise in each page: what is swapped or compressed is like what apps have.
pool = b"".join(b"user=%07d;state=ok;" % i + rng.randbytes(20) for i in range(28000))
middle = 10 ** rng.uniform(2.5, 4.8)            # bytes; the middle size differs from seed to seed
mapped_share = rng.uniform(0.2, 0.9)            # of the bytes: what goes back to the system when dropped
dict_share = rng.random()

def piece(size):
    at = rng.randrange(len(pool) - size)
    return pool[at:at + size]

def mapped(size):
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block[:] = piece(size)
    return block, size

def make():
    if mapped_now < mapped_share * held:
        return mapped(rng.randrange(32, 65) << 12)
    size = min(max(int(rng.lognormvariate(0, 0.8) * middle), 64), 60000)
    if rng.random() < dict_share:
        fields = {"name": piece(64), "at": rng.random(), "body": piece(size), "tags": [rng.random() for _ in range(8)]}
        return fields, size + 1000
    return piece(size), size + 33

data, held, asked, serial, mapped_now = OrderedDict(), 0, 0, 0, 0
cache, kept = deque(), 0

def drop(is_last):
    global held, mapped_now
    value, size = data.popitem(is_last)[1]
    held -= size + 250
    if isinstance(value, mmap.mmap):
        mapped_now -= size

def insert():
    global held, serial, mapped_now
    value, size = make()
    serial += 1
    data["key:%09d" % serial] = (value, size)
    held += size + 250
    if isinstance(value, mmap.mmap):
        mapped_now += size
    while held > bound:                         # least recently used first
        drop(False)
    return size + 250

print("ready", flush=True)
for line in iter(sys.stdin.readline, ""):
    want, keep, churn = map(int, line.split())
    stop = min(want, asked + step)
    if asked >= want and asked > bound:         # full: it goes on storing, slowly
        for _ in range(8):
            insert()
    while asked < stop:
        asked += insert()
    while asked > want and asked > held:
        asked = max(want, held)
    while held > want and data:
        drop(True)
        asked = held
    while kept + (256 << 10) <= min(keep, kept + step):
        cache.append(mapped(256 << 10)[0])
        kept += 256 << 10
    while kept > keep:
        cache.popleft().close()
        kept -= 256 << 10
    while churn > 0:                            # rings: only the collector frees them
        ring = [piece(4000)]
        ring.append(ring)
        churn -= 4200
    print(min(asked, want) if asked - want < 300000 else asked, kept, flush=True)
"""


class Driver(OrderedProgram):
    """Drives it; past its bound it evicts what is oldest."""

    # Measured, Python 3.11 in a v1 cgroup: 6.4 MiB, 0.94 to 1.0 held; 1.0 kept.
    base_bytes = 6.4 * (1 << 20)
    charge_ratio = 0.97
    bound_kind = "evicts"
    has_cache = True
    goes_on_at_bound = True

    def command(self) -> list[str]:
        """Return the interpreter of the lab with the script."""
        return [sys.executable, "-I", "-S", "-c", SCRIPT, str(self.spec.seed), str(self.bound_bytes), str(STEP_BYTES)]
