"""What an adaptor claims and what the process really gives back: `python yields.py KIND` prints both, for a test.

Each kind fills something, lets half of it be asked for, and reads this process's memory before and after.
"""

import gc
import json
import os
import sqlite3
import sys
import tempfile
from collections import OrderedDict, deque
from functools import cache, lru_cache
from weakref import WeakValueDictionary

from oomguard import adaptors
from oomguard.act.hooks import Request
from oomguard.adaptors.heap import resident_bytes
from oomguard.sense.files import read_if_there

MIB = 1 << 20
HELD = 64                                   # MiB that each kind claims
KEEP: list = []                             # what lives on between the pieces, as an app's own things do


def blocks(kib: int):
    """Yield blocks of so many KiB, each page written, HELD MiB in all."""
    return (bytes(bytearray(b"x") * (kib << 10)) for _ in range(HELD * 1024 // kib))


def of_dict(kib: int = 64):
    """Values of 64 KiB in a plain dict."""
    return adaptors.Entries(dict(enumerate(blocks(kib))), "dict")


def of_small():
    """Many small values: lists of numbers and strings, in an OrderedDict."""
    return adaptors.Entries(OrderedDict((n, {"id": n, "name": f"user {n}", "tags": [str(n), str(n + 1), n * 1.5]})
                                        for n in range(HELD * MIB // 700)), "small")


def of_numpy():
    """Arrays of 100 KiB, between each of which something else lives on."""
    import numpy

    pool = {}
    for n in range(HELD * 10):
        pool[n] = numpy.ones(12_800)
        KEEP.append(numpy.ones(2_000))
    return adaptors.Entries(pool, "arrays")


def of_lru_cache():
    """A bounded functools.lru_cache."""
    render = lru_cache(maxsize=100_000)(lambda n: bytes(bytearray(b"x") * (64 << 10)))
    for n in range(HELD * 16):
        render(n)
    return adaptors.Memo(render, "render")


def of_cache():
    """An unbounded functools.cache."""
    render = cache(lambda n: bytes(bytearray(b"x") * (64 << 10)))
    for n in range(HELD * 16):
        render(n)
    return adaptors.Memo(render, "render")


def of_cachetools():
    """A cachetools.LRUCache with a lock."""
    import threading

    import cachetools

    pool = cachetools.LRUCache(maxsize=1 << 30)
    pool.update(enumerate(blocks(64)))
    return adaptors.Entries(pool, "lru", lock=threading.Lock())


def of_ttl():
    """A cachetools.TTLCache, half of whose time is over."""
    import threading

    import cachetools

    now = [0.0]
    pool = cachetools.TTLCache(maxsize=1 << 30, ttl=10, timer=lambda: now[0])
    pool.update(enumerate(blocks(64)))
    now[0] = 5.0
    return adaptors.Entries(pool, "ttl", lock=threading.Lock())


def of_kept():
    """A weak pool and the deque that keeps it alive; half of the values are in cycles."""
    class Tile:
        def __init__(self, data: bytes, is_cycle: int) -> None:
            self.data, self.myself = data, self if is_cycle else None

    pool, keep = WeakValueDictionary(), deque()
    for n, block in enumerate(blocks(64)):
        tile = pool[n] = Tile(block, n % 2)
        keep.append(tile)
    del tile
    KEEP.append(pool)
    gc.disable()
    return adaptors.Kept(keep, "tiles")


def of_gc():
    """Blocks in reference cycles."""
    gc.disable()
    for block in blocks(64):
        cycle = [block]
        cycle.append(cycle)
    return adaptors.Garbage()


def of_malloc():
    """Free blocks between blocks in use."""
    free = []
    for block in blocks(64):
        free.append(block)
        KEEP.append(bytes(8 << 10))
    free.clear()
    return adaptors.Malloc()


def of_pyarrow():
    """A table that was dropped, its pool as pyarrow chose it."""
    import pyarrow

    columns = [pyarrow.array(range(n, n + 8192)) for n in range(HELD * 16)]
    KEEP.extend(columns[::64])
    columns.clear()
    return adaptors.ArrowPool()


def of_sqlite():
    """A connection that has read a table of HELD MiB."""
    from oomguard.adaptors.sqlite import Sqlite

    with tempfile.NamedTemporaryFile(delete=False) as file:
        connection = sqlite3.connect(file.name, check_same_thread=False)
    connection.execute(f"PRAGMA cache_size = -{2 * HELD * 1024}")
    connection.execute("CREATE TABLE t (block BLOB)")
    connection.executemany("INSERT INTO t VALUES (?)", ((block,) for block in blocks(64)))
    connection.commit()
    os.unlink(file.name)
    return Sqlite(connection, "database")


def of_store():
    """A diskcache on a tmpfs: its memory is not this process's, so the file system's is read."""
    import diskcache

    store = diskcache.Cache(tempfile.mkdtemp(dir="/dev/shm"), size_limit=1 << 40)
    KEEP.append(store)
    for n, block in enumerate(blocks(64)):
        store[n] = block
    return adaptors.Store(store, "store")


def of_torch():
    """CPU tensors that were dropped, others between them."""
    import torch

    tensors = [torch.ones(16_000) for _ in range(HELD * 16)]
    KEEP.extend(tensors[::8])
    tensors.clear()
    return adaptors.Torch()


def shared_bytes() -> float:
    """Return what the machine's tmpfs take."""
    line = next(line for line in read_if_there("/proc/meminfo").splitlines() if line.startswith(b"Shmem:"))
    return float(line.split()[1]) * 1024


if __name__ == "__main__":
    kind, share = sys.argv[1], float(sys.argv[2])
    adaptor = globals()[f"of_{kind}"]()
    read = shared_bytes if kind == "store" else resident_bytes
    evictable_bytes = adaptor.evictable_bytes()
    before_bytes = read()
    asked_bytes = int(share * HELD * MIB)
    claimed_bytes = adaptor(Request(3, asked_bytes, release_all=share >= 1, deadline_s=30.0))
    seen_bytes = before_bytes - read()
    print(json.dumps({"evictable": evictable_bytes, "asked": asked_bytes, "claimed": claimed_bytes,
                      "seen": seen_bytes, "left": adaptor.evictable_bytes()}))
    if kind == "store":
        import shutil

        shutil.rmtree(KEEP[0].directory)
