"""Changes of level: a thread-safe queue with a descriptor that becomes readable, for threads and event loops."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from oomguard.act.wake import Wake
from oomguard.forecast import Forecast
from oomguard.typed import NamedTuple

KEPT_MOST = 256             # changes that nobody has taken yet; the oldest go first


def close_copy(wake: Wake) -> None:
    """Close a forked child's copy, past the lock, which a thread of the parent may have held for ever."""
    with suppress(OSError):
        os.close(wake.fd)
    wake.fd = -1


class LevelChange(NamedTuple):
    """The level went from `was` to `level`; with the reading that showed it. Bytes are NaN once the target is gone."""

    level: int                          # 0…5
    was: int                            # 0…5
    at_s: float                         # CLOCK_BOOTTIME
    limit_bytes: float                  # of the binding constraint
    used_bytes: float
    headroom_bytes: float
    forecast: Forecast | None           # None: no model, or it abstains
    time_to_limit_s: float | None       # None: never, or no forecast


OnLevel = Callable[[LevelChange], object]


class Levels:
    """The changes of level since it was made, each to be taken once. Ends when the guard stops.

    Threads iterate, or `get`. An event loop watches `fileno()` and takes all with `pending()`.
    """

    def __init__(self) -> None:
        self._changes: deque[LevelChange] = deque(maxlen=KEPT_MOST)
        self._ready = threading.Condition()
        self._wake: Wake | None = None
        self.is_ended = False

    def get(self, timeout_s: float | None = None) -> LevelChange | None:
        """Return the next change; wait for it.

        Args:
            timeout_s: how long at most; None: for ever, 0: not at all.

        Returns:
            None once the time is over, or the guard has stopped and every change was taken.
        """
        with self._ready:
            self._ready.wait_for(lambda: self._changes or self.is_ended, timeout_s)
            change = self._changes.popleft() if self._changes else None
            self._calm()
            return change

    def pending(self) -> list[LevelChange]:
        """Return the changes that wait, oldest first, at once; the descriptor is not readable afterwards."""
        with self._ready:
            changes = list(self._changes)
            self._changes.clear()
            self._calm()
            return changes

    def __iter__(self) -> Iterator[LevelChange]:
        while (change := self.get()) is not None:
            yield change

    def fileno(self) -> int:
        """Return a descriptor that is readable while changes wait, and once when the guard has stopped."""
        with self._ready:
            if self._wake is None:
                self._wake = Wake()
                if self._changes or self.is_ended:
                    self._wake.set()
            return self._wake.fd

    def close(self) -> None:
        """Take no more; whoever waits in `get` goes on."""
        self._end()
        with self._ready:
            self._changes.clear()
            if self._wake is not None:
                self._wake.close()

    def __enter__(self) -> Levels:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._wake is not None:
            self._wake.close()

    def _calm(self) -> None:
        if self._wake is not None and self._wake.fd >= 0 and not self._changes:
            self._wake.clear()

    def _put(self, change: LevelChange) -> None:
        with self._ready:
            if not self.is_ended:
                self._changes.append(change)
                self._alert()

    def _end(self) -> None:
        with self._ready:
            if not self.is_ended:
                self.is_ended = True
                self._alert()

    def _alert(self) -> None:
        if self._wake is not None:
            self._wake.set()
        self._ready.notify_all()

    def _forget(self) -> None:
        """Become another queue in a forked child: threads that held our locks are gone, the descriptor is shared."""
        wake, self._wake = self._wake, None
        self._ready, self.is_ended = threading.Condition(), True
        self._changes.clear()
        if wake is not None:
            close_copy(wake)


class Audience:
    """The queues of one life of a guard. Its methods are called under QUIET."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: list[weakref.ref[Levels]] = []

    def join(self) -> Levels:
        """Return a queue of the changes from now on; who drops it leaves."""
        levels = Levels()
        self._queues = [each for each in self._queues if each() is not None] + [weakref.ref(levels)]
        return levels

    def tell(self, change: LevelChange) -> None:
        """Put the change into every queue."""
        for levels in self._present():
            levels._put(change)

    def end(self) -> None:
        """End every queue: no more changes will come."""
        for levels in self._present():
            levels._end()

    def forget(self) -> None:
        """In a forked child: the queues were the parent's."""
        for levels in self._present():
            levels._forget()

    def _present(self) -> list[Levels]:
        return [levels for each in self._queues if (levels := each()) is not None]
