"""What can kill the target: bounds, each with its own limit and its own used, and which of them is nearest.

A cgroup is killed when *any* group up its tree is full, whoever filled it, or when the machine is. So every
one of them is a constraint, and the binding one, with the least headroom, is chosen anew at every tick.
"""

from __future__ import annotations

from collections.abc import Iterable

from oomguard.sense.sample import NAN
from oomguard.typed import NamedTuple

MACHINE = "machine"
PROFILE = "profile"


class Constraint(NamedTuple):
    """One bound at one moment. Unknown numbers are NaN; a bound that cannot be reached is none."""

    name: str                       # `cgroup:/path`, `machine`, `profile`
    limit_bytes: float
    used_bytes: float               # what the kernel cannot reclaim by itself
    headroom_bytes: float           # limit - used + swap_free; negative for a moment before a kill
    charged_bytes: float = NAN      # used, and page cache
    kernel_bytes: float = NAN
    swap_used_bytes: float = NAN
    swap_free_bytes: float = NAN    # what swap can still take here
    swap_limit_bytes: float = NAN


UNKNOWN = Constraint("unknown", NAN, NAN, NAN)


def binding(constraints: Iterable[Constraint]) -> Constraint:
    """Return the constraint with the least known headroom, UNKNOWN where there is none."""
    nearest, least_bytes = UNKNOWN, float("inf")
    for constraint in constraints:
        if constraint.headroom_bytes < least_bytes:
            nearest, least_bytes = constraint, constraint.headroom_bytes
    return nearest


def profile_constraint(limit_bytes: float, own_bytes: float, swapped_bytes: float) -> Constraint:
    """Return the device's own limit for the app.

    Its footprint counts wherever it lies, so swap is no way out.
    """
    used_bytes = own_bytes + swapped_bytes
    return Constraint(PROFILE, limit_bytes, used_bytes, limit_bytes - used_bytes,
                      swap_used_bytes=swapped_bytes, swap_free_bytes=0.0, swap_limit_bytes=0.0)
