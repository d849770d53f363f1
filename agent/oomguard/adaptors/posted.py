"""For what only one thread may touch: an event loop's caches, a connection of one thread. Asked there, in slices."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from oomguard.adaptors.adaptor import STOP_RATIO, Adaptor, stop_at_s, wanted_bytes
from oomguard.adaptors.heap import NAN
from oomguard.clock import now_s
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

SLICE_S = 0.004             # of the owner's time at once: an event loop has others to serve

Post = Callable[[Callable[[], None]], object]


class Posted(Adaptor):
    """Another adaptor, whose work is done where `post` takes it: `loop.call_soon_threadsafe`, a thread's `queue.put`.

    What can be divided is asked again and again for a little, so that the owner goes on in between.
    """

    __slots__ = ("_inner", "_is_asked", "_known_bytes", "_post")

    def __init__(self, inner: Adaptor, post: Post) -> None:
        super().__init__(inner.name, inner.cost, minimum_bytes=inner.minimum_bytes, deadline_s=inner.deadline_s)
        self._inner, self._post = inner, post
        self._known_bytes, self._is_asked = NAN, False

    def give(self, request: Request) -> float | None:
        """Have it done there, and wait for it until the time is over. Raises what the work raised."""
        if not self._inner.is_divisible:
            return self._ask(request, stop_at_s(request))
        until_s, wanted = stop_at_s(request), wanted_bytes(request)
        freed_bytes = 0.0
        while freed_bytes < wanted and now_s() < until_s:
            needed = request.needed_bytes if math.isinf(wanted) else math.ceil(wanted - freed_bytes)
            piece = self._ask(request._replace(needed_bytes=needed, deadline_s=SLICE_S / STOP_RATIO), until_s)
            if not piece:
                break
            freed_bytes += piece
        return freed_bytes

    def evictable_bytes(self) -> float:
        """Return what the other one last said, and have it asked again."""
        if not self._is_asked:
            self._is_asked = True
            self._post(self._look)
        return self._known_bytes

    def _look(self) -> None:
        try:
            self._known_bytes = self._inner.evictable_bytes()
        finally:
            self._is_asked = False

    def _ask(self, request: Request, until_s: float) -> float | None:
        """Raises TimeoutError where the owner did not come to it."""
        answer = _Answer(self._inner, request)
        self._post(answer)
        if not answer.is_there.wait(max(until_s - now_s(), 0.0)) and not answer.withdraw():
            raise TimeoutError("the thread that owns it did not come to it in time")
        if answer.error is not None:
            raise answer.error
        return answer.given_bytes


class _Answer:
    """What is posted: does the work once, unless it was withdrawn before."""

    __slots__ = ("_inner", "_lock", "_request", "error", "given_bytes", "is_there")

    def __init__(self, inner: Adaptor, request: Request) -> None:
        self._inner, self._request = inner, request
        self._lock = threading.Lock()           # held while it works, and for ever once it is withdrawn or done
        self.is_there = threading.Event()
        self.given_bytes: float | None = 0.0
        self.error: Exception | None = None

    def __call__(self) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            self.given_bytes = self._inner.give(self._request)
        except Exception as error:  # noqa: BLE001  raised in the thread that asked; the owner's must not fail
            self.error = error
        self.is_there.set()

    def withdraw(self) -> bool:
        """See that it is not done any more; return whether it was done after all."""
        self._lock.acquire(blocking=False)
        return self.is_there.is_set()
