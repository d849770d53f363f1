"""Functions that remember: functools.lru_cache and cache, and what else has a `cache_clear`. All or nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import islice
from types import FunctionType

from oomguard.adaptors.adaptor import Adaptor
from oomguard.adaptors.heap import NAN
from oomguard.adaptors.size import Size, size_bytes
from oomguard.errors import UsageError
from oomguard.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

MEMO_COST = 2.0             # twice an entry's: however little is asked for, everything goes
SAMPLE_COUNT = 16


class Memo(Adaptor):
    """A remembering function. Its cache is cleared, wholly: there is no way to take single results from it.

    Where that is too much, cachetools.cached with an LRUCache remembers as well, and gives up results one by one.
    """

    __slots__ = ("_function", "_size")

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

    def give(self, request: Request) -> float | None:
        """Clear the cache, however little is asked for; the bytes are by a sample of what it held."""
        del request             # all or nothing
        held_bytes = self.evictable_bytes()
        self._function.cache_clear()
        return None if held_bytes != held_bytes else held_bytes

    def evictable_bytes(self) -> float:
        """Return about what the cache holds: how many results, times the mean of a sample; NaN: nobody tells."""
        count = int(self._function.cache_info().currsize)
        if not count:
            return 0.0
        results = _results_of(self._function, count)
        return sum(float(self._size(result)) for result in results) / len(results) * count if results else NAN


def _results_of(function: object, count: int) -> list[object]:
    """Return a sample of what a function remembers; empty where it does not tell.

    functools' own hides its results, but tells the garbage collector of them: an unbounded one as a dict, a bounded
    one as key, result, key, result ... before its dict of links. A list of that takes 16 bytes a result, for a moment.
    """
    referents = [each for each in gc.get_referents(function) if not isinstance(each, (type, FunctionType))]
    tables = [each for each in referents if isinstance(each, dict) and each is not getattr(function, "__dict__", None)]
    if not tables:
        return []
    step = max(1, count // SAMPLE_COUNT)
    results = list(islice(tables[-1].values(), 0, None, step))
    if results and type(results[0]).__name__ != "_lru_list_elem":
        return results
    return referents[1:2 * count:2 * step]
