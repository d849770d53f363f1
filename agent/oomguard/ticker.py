"""An absolute schedule on CLOCK_BOOTTIME that says when the next tick is due and how late each one was."""

from __future__ import annotations

from collections.abc import Callable

from oomguard.clock import now_s


class Ticker:
    """Ticks at start, start + cadence, start + 2 cadences …; a missed tick is skipped, never replayed.

    The loop waits `timeout_s()` in epoll and then asks `tick()`. After a standby or a SIGSTOP of an hour the
    next tick comes once, says that it is an hour late, and the one after it stands on the old grid again.
    """

    __slots__ = ("_cadence_s", "_clock", "_index", "_start_s", "skipped")

    def __init__(self, cadence_s: float, clock: Callable[[], float] = now_s) -> None:
        """Start the schedule now: the first tick is due at once.

        Args:
            cadence_s: Seconds between ticks, above 0.
            clock: Returns seconds; never goes back, stands still at worst.

        Raises:
            ValueError: The cadence is not a positive, finite number.
        """
        if not 0 < cadence_s < float("inf"):
            raise ValueError(f"cadence_s: {cadence_s!r} is not a positive number of seconds")
        self._cadence_s, self._clock = cadence_s, clock
        self._start_s, self._index = clock(), 0
        self.skipped = 0            # ticks that were missed since the start

    @property
    def cadence_s(self) -> float:
        """Seconds between two ticks."""
        return self._cadence_s

    @property
    def due_s(self) -> float:
        """When the next tick is due. A product and not a sum: no drift after 10^6 ticks."""
        return self._start_s + self._index * self._cadence_s

    def timeout_s(self) -> float:
        """Return how long to wait for the next tick: 0 when it is due, never more than one cadence.

        epoll rounds it up to the next millisecond, so that a wait never ends before the tick is due.
        """
        return min(max(self.due_s - self._clock(), 0.0), self._cadence_s)

    def tick(self) -> float | None:
        """Return how late the tick is in seconds (0 or more), or None when none is due yet."""
        t_s = self._clock()
        late_s = t_s - self.due_s
        if late_s < -2 * self._cadence_s:   # the clock went back: a restored checkpoint, a time namespace;
            self._start_s, self._index, late_s = t_s, 0, 0.0    # twice, as one cadence ahead is the rule
        if late_s < 0:
            return None
        missed = int(late_s / self._cadence_s)
        self._index += missed + 1
        if self.due_s <= t_s:               # the division rounded down at the edge of a tick
            self._index += 1
            missed += 1
        self.skipped += missed
        return late_s
