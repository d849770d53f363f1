"""Caches of entries: dicts and their kin, cachetools' caches. Bytes are given back, the oldest entries first."""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from itertools import islice

from oomguard.adaptors.adaptor import Adaptor, stop_at_s, wanted_bytes
from oomguard.adaptors.heap import NAN
from oomguard.adaptors.locks import NO_LOCK, checked, under
from oomguard.adaptors.size import Size, is_held, size_bytes
from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

ENTRIES_COST = 1.0          # each has to be fetched or made anew
BATCH_MOST = 64             # entries taken while the lock is held once: some tens of microseconds
SAMPLE_COUNT = 16           # entries that the estimate of what is held looks at
SAMPLE_WITHIN = 4096        # among the first so many: walking on would hold the lock too long
NEW_SHARE = 0.2             # weight of the newest mean size
KEYS_FIRST = 256            # a dict's free places at its front are walked past each time, so ever more are read at once
CHANGED_MOST = 5            # times in a row that a mapping may change under our eyes


class Entries(Adaptor):
    """A cache whose entries are given up one by one, by its own order, until the bytes asked for are free.

    A cache that keeps an order of its own (cachetools: `popitem`) says who goes; of any other mapping the first
    goes first: an OrderedDict's least recently used, a dict's oldest. Entries that are in use elsewhere are given
    up, too, but not counted.
    """

    __slots__ = ("_biggest_bytes", "_cache", "_count", "_held_bytes", "_is_exact", "_keys", "_keys_most", "_lock",
                 "_mean_bytes", "_peek", "_size", "_takes_oldest")

    is_divisible = True

    def __init__(
        self, cache: MutableMapping[Any, Any], name: str, *, cost: float = ENTRIES_COST, size: Size | None = None,
        lock: object = None,
    ) -> None:
        """Check what is given.

        Args:
            cache: what to take from; its own `popitem` or `pop` is called, so its bookkeeping stays right.
            size: bytes that an entry's value holds; default: looked at, `size_bytes`.
            lock: which the app takes around the cache. A plain dict or OrderedDict needs none: each step here is
                one step of the interpreter's. Others do; `NO_LOCK` says that one thread alone uses it, or that it
                locks itself.

        Raises:
            UsageError: it is no mapping, or it needs a lock.
        """
        super().__init__(name, cost)
        if not all(hasattr(cache, word) for word in ("pop", "__getitem__", "__iter__", "__len__")):
            raise UsageError(f"{name}: a {type(cache).__name__} is no mapping that entries can be popped from")
        if lock is None and type(cache) not in (dict, OrderedDict):
            raise UsageError(f"{name}: a {type(cache).__name__} needs lock=, the one that the app takes around it "
                             "(or post= the event loop's call_soon_threadsafe; or NO_LOCK, if it locks itself)")
        self._cache, self._lock = cache, NO_LOCK if lock is None else checked(lock)
        self._size: Size = size_bytes if size is None else size
        has_own_size = hasattr(type(cache), "currsize")         # of the type: reading TTLCache's writes
        # A cache that measures by the same function knows what it holds.
        self._is_exact = has_own_size and size is not None and size == getattr(cache, "getsizeof", None)
        self._takes_oldest = has_own_size and hasattr(cache, "popitem")
        self._peek = _peek_of(cache)
        self._mean_bytes = self._held_bytes = NAN
        self._count = 0
        self._biggest_bytes = 0.0
        self._keys: list[Any] = []
        self._keys_most = KEYS_FIRST

    def give(self, request: Request) -> float:
        """Give up entries until about so many bytes are free, the time is over or none is left."""
        until_s, wanted = stop_at_s(request), wanted_bytes(request)
        freed_bytes = self._size_up(self._expired(until_s))
        self._keys, self._keys_most = [], KEYS_FIRST
        while freed_bytes < wanted and now_s() < until_s:
            gone = self._take(self._batch(wanted - freed_bytes), until_s)
            if not gone:
                break
            freed_bytes += self._size_up(gone)
        self._keys = []
        self._give_up_table(until_s)
        return freed_bytes

    def evictable_bytes(self) -> float:
        """Return what the cache holds: exactly where it measures itself, else by a sample; NaN before one was seen.

        Where somebody has the lock, what it was the last time.
        """
        seen: list[Any] = []
        if not under(self._lock, lambda: self._look(seen), 0.0):
            return self._held_bytes
        self._learn([float(self._size(value)) for value in seen])
        if not self._is_exact:
            self._held_bytes = max(self._mean_bytes * self._count, 1.0) if self._count else 0.0     # 0: none at all
        return self._held_bytes

    def _batch(self, left_bytes: float) -> int:
        """Return how many entries to take next: so many that all may be as big as the biggest seen yet."""
        if math.isinf(left_bytes):
            return BATCH_MOST
        return max(1, min(BATCH_MOST, int(left_bytes / self._biggest_bytes))) if self._biggest_bytes else 1

    def _take(self, count: int, until_s: float) -> list[Any]:
        gone: list[Any] = []
        under(self._lock, lambda: self._pop(gone, count), until_s)
        return gone

    def _pop(self, gone: list[Any], count: int) -> None:
        if self._takes_oldest:
            with suppress(KeyError):                        # empty; by time, it may be so at any moment
                while len(gone) < count:
                    gone.append(self._cache.popitem()[1])
            return
        while len(gone) < count:
            if not self._keys and not self._read_keys():
                return
            value = self._cache.pop(self._keys.pop(), _GONE)
            if value is not _GONE:
                gone.append(value)

    def _read_keys(self) -> bool:
        """Note the next keys, the first one last; return whether there is any."""
        for attempt in range(CHANGED_MOST):
            try:
                self._keys = list(islice(self._cache, self._keys_most))
                break
            except RuntimeError:        # a mapping of the app's own changed meanwhile, and says so
                if attempt == CHANGED_MOST - 1:
                    raise
        self._keys_most *= 2
        self._keys.reverse()
        return bool(self._keys)

    def _size_up(self, gone: list[Any]) -> float:
        """Let entries go, outside the lock: what their end does is the app's. Return the bytes."""
        freed_bytes, sizes = 0.0, []
        while gone:
            value = gone.pop()
            sizes.append(float(self._size(value)))
            if not is_held(value, 1):
                freed_bytes += sizes[-1]
            del value
        self._learn(sizes)
        return freed_bytes

    def _expired(self, until_s: float) -> list[Any]:
        """Return the values of the entries that have had their time: they cost nothing."""
        expire = getattr(self._cache, "expire", None)
        gone: list[Any] = []
        if not (self._takes_oldest and callable(expire)):
            return gone

        def take() -> None:
            expired = expire()
            if isinstance(expired, Iterable):           # cachetools before 5.4 told nothing
                gone.extend(value for _key, value in expired)
                del expired

        under(self._lock, take, until_s)
        return gone

    def _give_up_table(self, until_s: float) -> None:
        """Have an emptied dict give up its table, too: it never shrinks by itself."""
        def clear() -> None:
            if not len(self._cache):
                self._cache.clear()

        if isinstance(self._cache, dict):
            under(self._lock, clear, until_s)

    def _look(self, seen: list[Any]) -> None:
        """Count the entries, and take some that are spread over the first ones. Even `len` may write: TTLCache's."""
        self._count = len(self._cache)
        if self._is_exact:
            self._held_bytes = float(self._cache.currsize)  # type: ignore[attr-defined]  # it has one: looked at above
        elif self._peek is not None:
            within = min(self._count, SAMPLE_WITHIN)
            keys = list(islice(self._cache, 0, within, max(1, within // SAMPLE_COUNT)))
            seen.extend(value for key in keys if (value := self._peek(self._cache, key)) is not _GONE)

    def _learn(self, sizes: list[float]) -> None:
        if sizes:
            mean_bytes, old = sum(sizes) / len(sizes), self._mean_bytes
            self._mean_bytes = mean_bytes if old != old else old + NEW_SHARE * (mean_bytes - old)
            self._biggest_bytes = max(self._biggest_bytes, *sizes)


class _Gone:
    """Stands for an entry that is no longer there."""


_GONE = _Gone()


def _peek_of(cache: object) -> Any:
    """Return how to read an entry so that the cache does not take it for used; None where there is no such way."""
    if isinstance(cache, dict):
        return lambda mapping, key: dict.get(mapping, key, _GONE)
    cachetools = sys.modules.get("cachetools")
    base: Any = getattr(cachetools, "Cache", None)
    if base is None or not isinstance(cache, base):
        return None

    def peek(mapping: object, key: object) -> object:
        try:
            return base.__getitem__(mapping, key)
        except KeyError:
            return _GONE

    return peek
