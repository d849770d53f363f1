"""What all adaptors have in common: a hook that knows its name, its cost and, where it can tell, what it holds."""

from __future__ import annotations

import math

from oomguard.adaptors.heap import NAN, resident_bytes, trim
from oomguard.clock import now_s
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

STOP_RATIO = 0.8            # of a deadline: what is under way then has time to end
MINIMUM_BYTES = 1 << 20     # as Guard.hook's


class Adaptor:
    """A hook: call it with a request, and it gives memory back and returns the bytes, or None where it cannot tell.

    `cost` is what a byte given back costs the app's users, beside the other hooks'; 1 is a cache that has to be
    filled anew. `minimum_bytes` and `deadline_s` are as in `Guard.hook`.
    """

    __slots__ = ("cost", "deadline_s", "minimum_bytes", "name")

    is_divisible = False        # gives about what is asked for, and goes on where it was when asked again

    def __init__(self, name: str, cost: float, *, minimum_bytes: int = MINIMUM_BYTES, deadline_s: float = 5.0) -> None:
        self.name, self.cost = name, cost
        self.minimum_bytes, self.deadline_s = minimum_bytes, deadline_s

    def give(self, request: Request) -> float | None:
        """Let go of about so many bytes; return how many, or None: not known."""
        raise TypeError(f"{request.target}: {type(self).__name__} does not say how it gives memory back")

    def __call__(self, request: Request) -> float | None:
        """Give, then trim the C library's heap, for small things leave their pages there.

        Returns: what `give` says; where it cannot say, what this process's memory fell by.
        """
        before_bytes = resident_bytes()
        given_bytes = self.give(request)
        trim()
        if given_bytes is not None:
            return given_bytes
        fell_bytes = before_bytes - resident_bytes()
        return None if fell_bytes != fell_bytes else max(fell_bytes, 0.0)

    def evictable_bytes(self) -> float:
        """Return what could be given back now; NaN: unknown. Waits for nobody."""
        return NAN

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} cost {self.cost:g}>"


def wanted_bytes(request: Request) -> float:
    """Return how much is asked for; infinity where all is."""
    return math.inf if request.release_all else float(request.needed_bytes)


def stop_at_s(request: Request) -> float:
    """Return when to stop, by clock.now_s."""
    return now_s() + STOP_RATIO * request.deadline_s
