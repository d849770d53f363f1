"""Strong references that keep the values of a weak pool alive: let go, oldest first; only what died is counted."""

from __future__ import annotations

import gc
import weakref
from collections import deque

from oomguard.adaptors.adaptor import Adaptor, stop_at_s, wanted_bytes
from oomguard.adaptors.locks import NO_LOCK, checked, under, unforked
from oomguard.adaptors.size import Size, is_held, size_bytes
from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

KEPT_COST = 0.5             # what is in use stays; what is not may be wanted again
SAMPLE_COUNT = 16


class Kept(Adaptor):
    """A deque or list of the newest values of a `WeakValueDictionary`, which keeps them from dying.

    What somebody else uses outlives it and stays in the weak pool. What is in a cycle dies when garbage is collected;
    that is done where letting go did not give enough.
    """

    __slots__ = ("_keep", "_lock", "_size")

    is_divisible = True

    def __init__(self, keep: deque[Any] | list[Any], name: str, *, cost: float = KEPT_COST, size: Size | None = None,
                 lock: object = None) -> None:
        """Check what is given.

        Args:
            keep: the references, the oldest first.
            size: bytes that a value holds; default: looked at, `size_bytes`.
            lock: which the app takes around `keep`; each step here is one of the interpreter's, so it may go without.

        Raises:
            UsageError: it is neither a deque nor a list.
        """
        super().__init__(name, cost)
        if not isinstance(keep, (deque, list)):
            raise UsageError(f"{name}: a {type(keep).__name__} is neither a deque nor a list")
        self._keep = keep
        self._size: Size = size_bytes if size is None else size
        self._lock = NO_LOCK if lock is None else checked(lock)

    def give(self, request: Request) -> float:
        """Let values go until so many bytes have died, the time is over, or none is left."""
        until_s, wanted = stop_at_s(request), wanted_bytes(request)
        freed_bytes, round_bytes = 0.0, wanted
        while freed_bytes < wanted and now_s() < until_s:
            alive: list[tuple[weakref.ref[Any], float]] = []
            dead_bytes, is_empty = self._let_go(round_bytes, alive, until_s)
            freed_bytes += dead_bytes
            if alive and freed_bytes < wanted:
                freed_bytes += _died(alive)
            if is_empty:
                break
            round_bytes = max(wanted - freed_bytes, 2 * round_bytes)    # a collection costs: ever fewer of them
        return freed_bytes

    def _let_go(
        self, round_bytes: float, alive: list[tuple[weakref.ref[Any], float]], until_s: float,
    ) -> tuple[float, bool]:
        """Let so many bytes go; note what stays alive. Return the bytes that died at once, and whether none is left."""
        dead_bytes = let_go_bytes = 0.0
        gone: list[Any] = []
        while let_go_bytes < round_bytes and now_s() < until_s:
            if not under(self._lock, lambda: self._take(gone), until_s) or not gone:
                return dead_bytes, True
            value = gone.pop()
            bytes_ = float(self._size(value))
            let_go_bytes += bytes_
            if not is_held(value, 1):
                dead_bytes += bytes_
            elif type(value).__weakrefoffset__:
                alive.append((weakref.ref(value), bytes_))
            del value
        return dead_bytes, False

    def evictable_bytes(self) -> float:
        """Return what the references hold, by a sample, what is in use elsewhere included."""
        kept = list(self._keep)
        sample = kept[::max(1, len(kept) // SAMPLE_COUNT)]
        return sum(float(self._size(value)) for value in sample) / len(sample) * len(kept) if kept else 0.0

    def _take(self, gone: list[Any]) -> None:
        if self._keep:
            gone.append(self._keep.popleft() if isinstance(self._keep, deque) else self._keep.pop(0))


def _died(alive: list[tuple[weakref.ref[Any], float]]) -> float:
    """Return the bytes of those that die with their cycles, or have died by now."""
    with unforked():
        gc.collect()
    return sum(bytes_ for each, bytes_ in alive if each() is None)
