"""Entries are given up by bytes, in the cache's own order, under the app's own lock."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, UserDict
from collections.abc import Callable, MutableMapping
from typing import Any

import cachetools
import pytest
from adapting import ask

from oomguard.adaptors import NO_LOCK, Entries
from oomguard.errors import UsageError

KIB = 1 << 10
BLOCK = 100 * KIB


def block(n: int = 0) -> bytes:
    return bytes(bytearray(BLOCK))


def filled(cache: MutableMapping[Any, Any], count: int = 100) -> Any:
    for n in range(count):
        cache[n] = block()
    return cache


CACHES: dict[str, Callable[[], MutableMapping[Any, Any]]] = {
    "dict": dict, "OrderedDict": OrderedDict, "UserDict": UserDict,
    "LRUCache": lambda: cachetools.LRUCache(1000), "FIFOCache": lambda: cachetools.FIFOCache(1000),
    "LFUCache": lambda: cachetools.LFUCache(1000), "TTLCache": lambda: cachetools.TTLCache(1000, 1000),
    "RRCache": lambda: cachetools.RRCache(1000),
    "TLRUCache": lambda: cachetools.TLRUCache(1000, ttu=lambda _key, _value, now: now + 1000),
}


@pytest.mark.parametrize("kind", CACHES)
def test_so_many_bytes_go_and_the_rest_stays(kind: str) -> None:
    """Asked for ten of a hundred blocks, about ten go; the count is of bytes."""
    cache = filled(CACHES[kind]())
    entries = Entries(cache, kind, lock=threading.Lock())
    freed = entries(ask(10 * BLOCK))
    assert 10 * BLOCK <= freed <= 12 * BLOCK
    assert len(cache) == 100 - round(freed / BLOCK)


@pytest.mark.parametrize("kind", CACHES)
def test_all_go_when_all_is_asked_for_and_none_from_an_empty_one(kind: str) -> None:
    """The pair: a hundred blocks; and the same cache once more."""
    cache = filled(CACHES[kind]())
    entries = Entries(cache, kind, lock=threading.Lock())
    assert entries(ask(1, release_all=True)) >= 100 * BLOCK
    assert len(cache) == 0
    assert entries(ask(1, release_all=True)) == 0
    assert entries.evictable_bytes() == 0


@pytest.mark.parametrize("kind", [kind for kind in CACHES if kind != "UserDict"])
def test_what_is_held_is_known_and_looking_does_not_count_as_use(kind: str) -> None:
    """evictable_bytes is about the truth, and an LRU's order is as it was."""
    cache = filled(CACHES[kind]())
    entries = Entries(cache, kind, lock=threading.Lock())
    before = list(cache)
    assert 100 * BLOCK <= entries.evictable_bytes() <= 101 * BLOCK
    assert list(cache) == before
    if kind == "LRUCache":
        cache[0]
        entries.evictable_bytes()
        assert cache.popitem()[0] == 1


def test_the_least_recently_used_go_first() -> None:
    """An OrderedDict's front; a cachetools.LRUCache's own choice."""
    ordered, lru = filled(OrderedDict()), filled(cachetools.LRUCache(1000))
    ordered.move_to_end(0)
    lru[0]
    for cache in (ordered, lru):
        Entries(cache, "cache", lock=NO_LOCK)(ask(50 * BLOCK))
        assert 0 in cache
        assert 1 not in cache
        assert 99 in cache


def test_entries_in_use_are_given_up_but_not_counted() -> None:
    """The memory of what the app holds does not come back, so it is no bytes freed; unused ones are counted."""
    cache = filled({}, 10)
    in_use = [cache[n] for n in range(5)]
    assert Entries(cache, "cache")(ask(1, release_all=True)) == pytest.approx(5 * BLOCK, rel=0.01)
    assert len(in_use) == 5


def test_big_and_small_entries_do_not_mislead() -> None:
    """A thousand small ones, then big ones: not more than one big one too many goes."""
    cache: dict[int, bytes] = {n: bytes(bytearray(KIB)) for n in range(1000)}
    cache.update({1000 + n: bytes(bytearray(1 << 20)) for n in range(50)})
    entries = Entries(cache, "cache")
    entries.evictable_bytes()                   # as the guard has it asked, before it ever asks for anything
    freed = entries(ask(4 << 20))
    assert 4 << 20 <= freed <= 5.1 * (1 << 20)
    assert 1049 in cache


def test_the_user_s_sizer_is_believed() -> None:
    """size= says what a value holds: a handle to something that Python does not see."""
    cache = {n: n for n in range(1000, 1010)}
    entries = Entries(cache, "handles", size=lambda value: 1 << 20)
    assert entries.evictable_bytes() == 10 << 20
    cache = {n: [n] for n in range(1000, 1010)}
    assert Entries(cache, "handles", size=lambda value: 1 << 20)(ask(3 << 20)) == 3 << 20
    assert len(cache) == 7


def test_a_cache_that_measures_itself_is_believed() -> None:
    """size= the cache's own getsizeof: currsize is exact."""
    cache: Any = filled(cachetools.LRUCache(1 << 30, getsizeof=len))
    assert Entries(cache, "lru", size=cache.getsizeof, lock=NO_LOCK).evictable_bytes() == 100 * BLOCK


def test_expired_entries_go_first() -> None:
    """They cost nothing, and are counted; the fresh ones stay if that was enough."""
    now = [0.0]
    cache: Any = cachetools.TTLCache(1000, 10, timer=lambda: now[0])
    filled(cache, 50)
    now[0] = 8.0
    cache.update({100 + n: block() for n in range(50)})
    now[0] = 12.0
    freed = Entries(cache, "ttl", lock=threading.Lock())(ask(10 * BLOCK))
    assert freed == pytest.approx(50 * BLOCK, rel=0.01)
    assert sorted(cache) == list(range(100, 150))


def test_the_table_of_an_emptied_dict_goes_too() -> None:
    """A dict does not shrink when entries are popped; an emptied one is cleared."""
    cache = dict.fromkeys(range(100000))
    Entries(cache, "cache", size=lambda value: 10)(ask(1, release_all=True))
    assert cache.__sizeof__() < 1000


@pytest.mark.parametrize(("cache", "lock", "because"), [
    (cachetools.LRUCache(10), None, "needs lock="),
    (UserDict(), None, "needs lock="),
    (set(), None, "no mapping"),
    ({}, type("Odd", (), {"acquire": lambda self: True, "release": lambda self: None})(), "cannot be tried"),
    ({}, object(), "is no lock"),
], ids=["cachetools", "own class", "no mapping", "odd lock", "no lock"])
def test_what_cannot_be_safe_is_refused(cache: Any, lock: object, because: str) -> None:
    """At once, with what to do."""
    with pytest.raises(UsageError, match=because):
        Entries(cache, "cache", lock=lock)


def test_an_event_loop_s_lock_is_refused() -> None:
    """It is not for threads; the error says what is."""
    import asyncio

    with pytest.raises(UsageError, match="call_soon_threadsafe"):
        Entries({}, "cache", lock=asyncio.Lock())


@pytest.mark.parametrize("lock", [threading.Lock(), threading.RLock(), threading.Condition()],
                         ids=lambda lock: type(lock).__name__)
def test_a_lock_that_somebody_keeps_is_not_waited_for_beyond_the_deadline(lock: Any) -> None:
    """Nothing goes, nothing hangs; once the lock is free, it does."""
    cache = filled({}, 10)
    entries = Entries(cache, "cache", lock=lock)
    taken, done = threading.Event(), threading.Event()

    def keep() -> None:
        with lock:
            taken.set()
            done.wait()

    keeper = threading.Thread(target=keep)
    keeper.start()
    taken.wait()
    assert entries(ask(BLOCK, deadline_s=0.05)) == 0
    known = entries.evictable_bytes()
    done.set()
    keeper.join()
    assert known != known       # never seen
    assert len(cache) == 10
    assert entries(ask(BLOCK)) >= BLOCK


def test_an_entry_s_end_may_take_the_lock() -> None:
    """Values die outside the lock: what their end does is the app's."""
    lock, ended = threading.Lock(), []

    class Picture:
        def __del__(self) -> None:
            with lock:
                ended.append(1)

    cache = {n: Picture() for n in range(10)}
    Entries(cache, "cache", lock=lock)(ask(1, release_all=True))
    assert len(ended) == 10


@pytest.mark.parametrize("kind", CACHES)
def test_threads_that_use_the_cache_meanwhile_notice_nothing(kind: str) -> None:
    """Four threads read and write as apps do; the cache is evicted and measured all the while; nobody fails."""
    cache: Any = CACHES[kind]()
    lock: Any = contextlib.nullcontext() if kind in ("dict", "OrderedDict") else threading.Lock()
    entries = Entries(cache, kind, lock=None if kind in ("dict", "OrderedDict") else lock)
    problems: list[BaseException] = []
    stop = threading.Event()

    def use(first: int) -> None:
        try:
            while not stop.is_set():
                for n in range(first, first + 50):
                    with lock:
                        if cache.get(n) is None:
                            cache[n] = bytes(bytearray(10 * KIB))
        except BaseException as error:  # noqa: BLE001  told below
            problems.append(error)

    threads = [threading.Thread(target=use, args=(50 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    freed = 0.0
    while freed < 3_000 * KIB and not problems:
        freed += entries(ask(500 * KIB)) or 0.0
        entries.evictable_bytes()
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
