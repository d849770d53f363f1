"""Memory that nobody needs and the process keeps all the same: garbage in cycles, and what `free` left in the heap."""

from __future__ import annotations

import gc

from oomguard.adaptors.adaptor import Adaptor
from oomguard.adaptors.heap import NAN, free_bytes, has_trim
from oomguard.adaptors.locks import unforked
from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

TRIM_COST = 0.01            # nothing is lost; pages are faulted in anew where the heap grows again
GARBAGE_COST = 0.02         # the interpreter stands still for as long as it takes
LOOK_SHARE = 0.001          # of the time, at most, goes into asking malloc what it keeps


class Garbage(Adaptor):
    """Collects reference cycles. The interpreter stands still meanwhile: about 0.1 s per million objects."""

    __slots__ = ()

    def __init__(self, name: str = "gc", *, cost: float = GARBAGE_COST) -> None:
        super().__init__(name, cost)

    def give(self, request: Request) -> None:
        """Collect, however little is asked for."""
        del request
        with unforked():        # a child forked halfway through would never collect again
            gc.collect()


class Malloc(Adaptor):
    """Gives back the free pages within glibc's heap: what numpy, images and small objects left there.

    Not with another C library, and without effect where another allocator (jemalloc, tcmalloc) stands before glibc's.
    """

    __slots__ = ("_floor_bytes", "_known_bytes", "_look_again_s")

    def __init__(self, name: str = "malloc", *, cost: float = TRIM_COST) -> None:
        """Raises UsageError where the C library is not glibc."""
        super().__init__(name, cost)
        self._floor_bytes, self._known_bytes, self._look_again_s = 0.0, NAN, 0.0
        if not has_trim():
            raise UsageError("malloc_trim is glibc's, and this C library is another: nothing here can trim its heap")

    def give(self, request: Request) -> None:
        """Leave it to the trim that ends every release."""

    def __call__(self, request: Request) -> float | None:
        """Trim; the bytes are what this process's memory fell by."""
        fell_bytes = super().__call__(request)
        self._floor_bytes = free_bytes()    # free, yet given back already, or on pages that are not all free
        self._look_again_s = 0.0
        return fell_bytes

    def evictable_bytes(self) -> float:
        """Return what has become free in the heap since the last trim; asked rarely where asking takes long."""
        began_s = now_s()
        if began_s < self._look_again_s:
            return self._known_bytes
        free = free_bytes()
        self._look_again_s = now_s() + (now_s() - began_s) / LOOK_SHARE
        self._floor_bytes = min(self._floor_bytes, free)
        self._known_bytes = free - self._floor_bytes
        return self._known_bytes
