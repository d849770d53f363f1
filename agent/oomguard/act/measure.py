"""What a release really gave: the rise of headroom in the samples that follow it."""

from __future__ import annotations

SETTLE_S = 3.0      # allocators and the kernel give back over some ticks after a hook has returned


class Measurement:
    """The greatest rise of headroom from its least since just before a release, until 3 s after its hook ended.

    The target goes on growing meanwhile, so the greatest rise is a lower bound of what was freed; and it is
    an upper one where somebody else gave memory back in that time. Samples of another binding constraint are
    left out, since their headroom is another quantity. A next release ends it early: ask for the result.
    """

    __slots__ = ("_before_bytes", "_constraint", "_over_s", "_rise_bytes", "settle_s")

    def __init__(self, constraint: str, headroom_bytes: float, settle_s: float = SETTLE_S) -> None:
        """Take the moment before: the last sample's binding constraint and headroom."""
        self._constraint, self._before_bytes = constraint, headroom_bytes
        self._rise_bytes = self._over_s = float("nan")
        self.settle_s = settle_s

    def ended(self, t_s: float) -> None:
        """Say when the hook ended; the settling time counts from here."""
        self._over_s = t_s + self.settle_s

    def see(self, t_s: float, constraint: str, headroom_bytes: float) -> bool:
        """Take a sample in; return whether the measurement is over (it never is before `ended`)."""
        if constraint == self._constraint and not t_s > self._over_s:
            if headroom_bytes < self._before_bytes:     # a slow hook: what the target took meanwhile is no less given
                self._before_bytes = headroom_bytes
            rise = headroom_bytes - self._before_bytes
            if rise == rise and not rise <= self._rise_bytes:
                self._rise_bytes = rise
        return t_s >= self._over_s

    def freed_bytes(self) -> float:
        """Return the greatest rise seen, at least 0; NaN when no fitting sample was seen."""
        return max(self._rise_bytes, 0.0) if self._rise_bytes == self._rise_bytes else self._rise_bytes

    def missing_bytes(self, expected_bytes: float) -> float:
        """Return how much of what is expected of the release the samples do not show yet, at least 0."""
        return max(expected_bytes - self._rise_bytes, 0.0) if self._rise_bytes > 0 else expected_bytes
