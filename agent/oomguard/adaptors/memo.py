"""Functions that remember: functools.lru_cache and cache, and what else has a `cache_clear`. All or nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import islice

from oomguard.adaptors.adaptor import Adaptor
from oomguard.adaptors.heap import NAN
from oomguard.adaptors.size import Size, size_bytes
from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

MEMO_COST = 2.0             # twice an entry's: however little is asked for, everything goes
SAMPLE_COUNT = 16
PER_LINK = 3                # referents of a bounded cache for each result: the link's type, the key, the result
TAIL_COUNT = 16             # referents after those: the dict, the function and its like
LOOK_SHARE = 0.001          # of the time, at most, goes into looking: a cache of 100,000 takes 10 ms


class Memo(Adaptor):
    """A remembering function. Its cache is cleared, wholly: there is no way to take single results from it.

    Where that is too much, cachetools.cached with an LRUCache remembers as well, and gives up results one by one.
    """

    __slots__ = ("_function", "_look_again_s", "_mean_bytes", "_size")

    def __init__(self, function: Callable[..., object], name: str = "", *, cost: float = MEMO_COST,
                 size: Size | None = None) -> None:
        """Check the function.

        Args:
            name: default: the function's own.
            size: bytes that one result holds; default: looked at, `size_bytes`.

        Raises:
            UsageError: it has no `cache_clear` and `cache_info`.
        """
        if not callable(getattr(function, "cache_clear", None)) or not callable(getattr(function, "cache_info", None)):
            raise UsageError(f"{function!r} is not of functools.lru_cache's kind: no cache_clear and cache_info")
        super().__init__(name or str(getattr(function, "__qualname__", "")), cost)
        self._function: Any = function
        self._size: Size = size_bytes if size is None else size
        self._mean_bytes, self._look_again_s = NAN, 0.0

    def give(self, request: Request) -> float | None:
        """Clear the cache, however little is asked for; the bytes are by a sample of what it held."""
        del request             # all or nothing
        self._look_again_s = 0.0
        held_bytes = self.evictable_bytes()
        self._function.cache_clear()
        return None if held_bytes != held_bytes else held_bytes

    def evictable_bytes(self) -> float:
        """Return about what the cache holds: how many results, times the mean of a sample; NaN: nobody tells."""
        count = int(self._function.cache_info().currsize)
        began_s = now_s()
        if count and began_s >= self._look_again_s:
            results = _results_of(self._function, count)
            self._mean_bytes = sum(float(self._size(each)) for each in results) / len(results) if results else NAN
            self._look_again_s = now_s() + (now_s() - began_s) / LOOK_SHARE
        return self._mean_bytes * count if count else 0.0


def _results_of(function: object, count: int) -> list[object]:
    """Return a sample of what a function remembers; empty where it does not tell.

    functools' own hides its results, but tells the garbage collector of them: an unbounded one by a dict; a bounded one
    by link type, key, result, link type, key, result ... before its dict of links. That list takes 24 bytes a result,
    for a moment.
    """
    referents = gc.get_referents(function)
    own = getattr(function, "__dict__", None)
    tables = [each for each in referents[-TAIL_COUNT:] if isinstance(each, dict) and each is not own]
    if not tables:
        return []
    step = max(1, count // SAMPLE_COUNT)
    results = list(islice(tables[-1].values(), 0, None, step))
    if results and type(results[0]).__name__ != "_lru_list_elem":
        return results
    starts = range(0, PER_LINK * count, PER_LINK * step)
    return [referents[start + at + 2] for start in starts for at in _type_at(referents, start)]


def _type_at(referents: list[object], start: int) -> list[int]:
    """Return where, from here, the next link begins; empty where this is not as it is in CPython 3.11 to 3.13."""
    return [at for at in range(PER_LINK) if isinstance(referents[start + at], type)][:1]
