"""The demo app's sizes and pace: so that leak and cache together go over the limit, and the leak alone does not."""

from __future__ import annotations

from typing import NamedTuple

from oomguard.errors import UsageError
from oomguard.units import format_bytes

LIMIT_BYTES = 96 << 20
PLANNED_S = 90.0
SMALLEST_LIMIT_BYTES = 32 << 20     # below it the interpreter itself is most of what is used
SHORTEST_S = 15.0
_INTERPRETER_BYTES = 9 << 20        # anonymous and kernel memory of a Python that does nothing yet
_PAGE_BYTES = 4096


class Shape(NamedTuple):
    """What the app does within its planned time.

    Requests follow Zipf's law, so a cache fills ever more slowly. With these figures leak and cache reach the
    limit at about 60 % of the planned time, and used is at two thirds of it after 30 of 90 s, when the model
    first speaks; at the planned end the leak and a third of that cache are at 90 %, the leak and the
    smallest cache at 82 %. (Simulated, and seen.)
    """

    planned_s: float
    image_bytes: int                # of one decoded image
    smallest_cache_bytes: int       # the app keeps so much whatever it is told: most hits come from it
    leak_bytes: int                 # lost by the planned end
    images: int = 4096              # in the catalogue
    zipf: float = 1.2               # the n-th most wanted image is asked for in proportion to 1 / n ** zipf
    requests: int = 4200            # by the planned end

    @classmethod
    def of(cls, limit_bytes: int, planned_s: float) -> Shape:
        """Return the shape for a limit and a planned time. Raises UsageError where they are too small."""
        if limit_bytes < SMALLEST_LIMIT_BYTES:
            least = format_bytes(SMALLEST_LIMIT_BYTES)
            raise UsageError(f"a limit of {format_bytes(limit_bytes)} is too small to show anything: {least} at least")
        if not planned_s >= SHORTEST_S:
            raise UsageError(f"{planned_s:g} s is too short to show anything: {SHORTEST_S:g} s at least")
        smallest_cache_bytes = limit_bytes // 12
        leak_bytes = int(0.82 * limit_bytes) - smallest_cache_bytes - _INTERPRETER_BYTES
        return cls(planned_s, limit_bytes // 1024 // _PAGE_BYTES * _PAGE_BYTES, smallest_cache_bytes, leak_bytes)
