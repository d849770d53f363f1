"""The other adaptors, each in pairs: what goes and what stays; what fits and what is refused."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import types
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

import diskcache
import pyarrow
import pytest
from adapting import ask

from oomguard.adaptors import ArrowPool, Garbage, Kept, Malloc, Memo, Store, Torch, heap
from oomguard.adaptors.sqlite import Sqlite, is_bound
from oomguard.adaptors.stores import is_memory
from oomguard.errors import UsageError

BLOCK = 100 << 10


def block() -> bytes:
    return bytes(bytearray(BLOCK))


class Tile:
    """A thing that can be weakly referenced."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.other: object = None


@pytest.mark.parametrize("maxsize", [None, 1000])
def test_a_memo_goes_wholly_and_is_estimated(maxsize: int | None) -> None:
    """However little is asked for; then nothing is left, and the function works on."""
    render = functools.lru_cache(maxsize)(lambda n, m=0: block())
    for n in range(30):
        render(n)
        render(n, m=1)
    memo = Memo(render, "render")
    assert memo.evictable_bytes() == pytest.approx(60 * BLOCK, rel=0.02)
    assert memo(ask(1)) == pytest.approx(60 * BLOCK, rel=0.02)
    assert (memo.evictable_bytes(), memo(ask(1))) == (0, 0)
    assert len(render(1)) == BLOCK


def test_a_memo_takes_the_function_s_name_and_the_user_s_sizer() -> None:
    """Its qualified name; size= of a result."""
    @functools.cache
    def thumbnail(n: int) -> int:
        return n

    thumbnail(1000)
    memo = Memo(thumbnail, size=lambda result: 1 << 20)
    assert memo.name.endswith("thumbnail")
    assert memo.evictable_bytes() == 1 << 20
    with pytest.raises(UsageError, match="cache_clear"):
        Memo(block)


def test_a_memo_is_cleared_while_others_call_it() -> None:
    """Nobody fails, and every answer is right."""
    square = functools.lru_cache(500)(lambda n: [n * n, block()[:1000]])
    memo, stop, wrong = Memo(square, "square"), threading.Event(), []

    def use() -> None:
        while not stop.is_set():
            wrong.extend(n for n in range(300) if square(n)[0] != n * n)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        memo(ask(1))
        memo.evictable_bytes()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_kept_values_go_oldest_first_and_only_the_dead_are_counted() -> None:
    """What is in use stays in the weak pool and counts for nothing; a cycle counts once it is collected."""
    pool: weakref.WeakValueDictionary[int, Tile] = weakref.WeakValueDictionary()
    keep: deque[Tile] = deque()
    for n in range(20):
        tile = pool[n] = Tile(block())
        tile.other = tile if n % 2 else None
        keep.append(tile)
    del tile
    in_use = [pool[0], pool[1]]
    kept = Kept(keep, "tiles")
    assert kept.evictable_bytes() == pytest.approx(20 * BLOCK, rel=0.02)
    freed = kept(ask(5 * BLOCK))
    assert freed >= 5 * BLOCK
    assert 19 in pool
    assert 2 not in pool
    kept(ask(1, release_all=True))
    assert sorted(pool) == [0, 1]
    assert (len(in_use), len(keep), kept(ask(1)), kept.evictable_bytes()) == (2, 0, 0, 0)


def test_kept_lists_and_values_without_weak_references() -> None:
    """A list does, and bytes that nobody else holds are freed; a set does not do."""
    keep: list[Any] = [block() for _ in range(10)]
    assert 3 * BLOCK <= Kept(keep, "blocks")(ask(3 * BLOCK)) <= 4 * BLOCK
    with pytest.raises(UsageError, match="neither"):
        Kept(set(), "set")  # type: ignore[arg-type]


def test_garbage_is_collected_and_what_lives_stays() -> None:
    """A cycle dies, a living thing does not; the claim is a number from 0."""
    gc.disable()
    try:
        dead, alive = Tile(block()), Tile(block())
        dead.other, alive.other = dead, alive
        watched = weakref.ref(dead)
        del dead
        assert watched() is not None
        claimed = Garbage()(ask(1))
        assert watched() is None
        assert alive.other is alive
        assert claimed is not None
        assert claimed >= 0
    finally:
        gc.enable()


def test_malloc_says_where_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another C library: refused at once with the reason; trims elsewhere say False. With glibc it works."""
    if heap.has_trim():
        assert heap.trim()
        assert Malloc()(ask(1)) is not None
    monkeypatch.setattr(heap, "_c_library", [types.SimpleNamespace()])
    with pytest.raises(UsageError, match="glibc"):
        Malloc()
    assert not heap.trim()
    assert heap.free_bytes() != heap.free_bytes()
    Garbage()(ask(1))


def test_a_pyarrow_pool_is_released_and_data_stays() -> None:
    """The default pool, or a given one; what is no pool is refused."""
    numbers = pyarrow.array(range(10_000))
    before = pyarrow.default_memory_pool().bytes_allocated()
    assert ArrowPool()(ask(1)) is not None
    assert ArrowPool(pyarrow.system_memory_pool(), "system")(ask(1)) is not None
    assert pyarrow.default_memory_pool().bytes_allocated() == before
    assert numbers[9_999].as_py() == 9_999
    with pytest.raises(UsageError, match="release_unused"):
        ArrowPool(object())


def fake_device(is_used: bool) -> Any:
    """Return torch.cuda as it is where a device is, or is not, in use."""
    device = types.SimpleNamespace(
        emptied=0, is_integrated=0, is_available=lambda: True, is_initialized=lambda: is_used, device_count=lambda: 2,
        memory_reserved=lambda device: 100, memory_allocated=lambda device: 30)
    device.empty_cache = lambda: setattr(device, "emptied", device.emptied + 1)
    device.get_device_properties = lambda number: types.SimpleNamespace(is_integrated=device.is_integrated)
    return device


@pytest.mark.parametrize("is_used", [True, False])
def test_torch_empties_what_is_in_use_and_wakes_no_device(is_used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device in use has its cache emptied, and pinned memory with it; an unused one is left asleep."""
    device, pinned = fake_device(is_used), []
    torch = types.SimpleNamespace(cuda=device, _C=types.SimpleNamespace(_host_emptyCache=lambda: pinned.append(1)))
    monkeypatch.setitem(sys.modules, "torch", torch)  # type: ignore[arg-type]
    adaptor = Torch()
    assert adaptor(ask(1)) is not None
    assert (device.emptied, len(pinned)) == ((1, 1) if is_used else (0, 0))
    assert adaptor.evictable_bytes() != adaptor.evictable_bytes()       # a discrete device's is no memory of ours
    device.is_integrated = 1
    assert adaptor.evictable_bytes() == 140 or not is_used


@pytest.mark.parametrize("library", ["torch", "pyarrow"])
def test_a_library_that_is_not_imported_stays_so(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is imported to find that it keeps nothing."""
    monkeypatch.delitem(sys.modules, library, raising=False)
    with pytest.raises(UsageError, match="not imported"):
        (Torch if library == "torch" else ArrowPool)()
    assert library not in sys.modules


def test_a_connection_is_shrunk_by_whoever_may_use_it() -> None:
    """One for all threads: shrunk from another one, in the middle of a query too. A bound one says it is bound."""
    shared, bound = sqlite3.connect(":memory:", check_same_thread=False), sqlite3.connect(":memory:")
    assert (is_bound(shared), is_bound(bound)) == (False, True)
    shared.execute("CREATE TABLE t (n)")
    shared.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(1000)))
    rows = shared.execute("SELECT n FROM t ORDER BY n")
    assert next(rows) == (0,)
    said: list[float | None] = []
    thread = threading.Thread(target=lambda: said.append(Sqlite(shared, "db")(ask(1))))
    thread.start()
    thread.join()
    assert said[0] is not None
    assert [n for (n,) in rows] == list(range(1, 1000))
    with pytest.raises(UsageError, match=r"no sqlite3\.Connection"):
        Sqlite(object(), "db")  # type: ignore[arg-type]
    shared.close()
    bound.close()


def test_a_connection_s_lock_is_taken_and_not_waited_for_beyond_the_deadline() -> None:
    """Held by somebody: nothing is shrunk and 0 is claimed; free: it is."""
    connection, lock = sqlite3.connect(":memory:", check_same_thread=False), threading.Lock()
    adaptor = Sqlite(connection, "db", lock=lock)
    with lock:
        assert adaptor(ask(1, deadline_s=0.02)) == 0
    assert adaptor(ask(1)) is not None
    assert not lock.locked()
    connection.close()


@pytest.fixture
def memory_folder() -> Iterator[str]:
    """A folder on a tmpfs."""
    if not os.path.ismount("/dev/shm"):
        pytest.skip("no tmpfs to keep a store on")
    folder = tempfile.mkdtemp(dir="/dev/shm")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", [diskcache.Cache, diskcache.FanoutCache])
def test_a_store_in_memory_is_culled_and_its_limit_is_as_it_was(kind: Any, memory_folder: str) -> None:
    """About a third goes, the limit is restored here and was never changed for other processes."""
    with kind(memory_folder, size_limit=1 << 30) as store:
        for n in range(300):
            store[n] = block()
        adaptor = Store(store, "store")
        assert adaptor.evictable_bytes() == store.volume() >= 300 * BLOCK
        limit = store.size_limit
        freed = adaptor(ask(100 * BLOCK))
        assert 100 * BLOCK <= freed <= 180 * BLOCK
        assert store.volume() <= 210 * BLOCK
        assert store.size_limit == limit
        with kind(memory_folder) as other:
            assert other.size_limit == limit


def test_a_store_on_a_disk_is_no_memory(tmp_path: Any) -> None:
    """It has nothing to give: 0, so it is not asked; asked all the same, it claims nothing."""
    store = types.SimpleNamespace(directory="/proc", size_limit=10, volume=lambda: 1000, cull=lambda: None)
    adaptor = Store(store, "store")
    assert adaptor.evictable_bytes() == 0
    assert adaptor(ask(100)) == 0
    assert (is_memory("/proc"), is_memory(""), store.size_limit) == (False, None, 10)
    with pytest.raises(UsageError, match="no volume"):
        Store(types.SimpleNamespace(cull=1, size_limit=1), "store")


def test_a_store_that_never_evicts_ends_the_release(memory_folder: str) -> None:
    """diskcache's policy none: one try, nothing claimed; and a cull that raises leaves the limit as it was."""
    with diskcache.Cache(memory_folder, eviction_policy="none", size_limit=1 << 30) as store:
        for n in range(20):
            store[n] = block()
        assert Store(store, "store")(ask(BLOCK)) == 0
        assert len(store) == 20

    def fail() -> None:
        raise OSError("disk full")

    broken = types.SimpleNamespace(directory="", size_limit=10, volume=lambda: 1000, cull=fail)
    with pytest.raises(OSError, match="disk full"):
        Store(broken, "store")(ask(100))
    assert broken.size_limit == 10
