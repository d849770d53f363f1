"""One reading of one target at one tick, in the order of the recording's columns (DESIGN 4.9)."""

from __future__ import annotations

from oomguard.typed import NamedTuple

NAN = float("nan")

# made(Kind, fields) is Kind(*fields) without the call of a NamedTuple's own __new__, 0.1 to 0.3 us each at every tick;
# nothing checks the number of fields.
made = tuple.__new__


class Sample(NamedTuple):
    """What the guard knows of a target at one moment. Unknown numbers are NaN.

    Numbers are floats because the window, the features and the recording treat unknown and known alike;
    a float64 holds every byte count below 2^53 exactly. Bytes are whole (recordings hold int64, and replay gives
    the same bits): where arithmetic makes fractions, they are rounded down at its source.

    A NamedTuple and not a dataclass: `dataclasses` imports `inspect`, 1 MB of RSS on the device (measured).
    """

    t_s: float                      # seconds since the run began, CLOCK_BOOTTIME
    constraint: str                 # name of the binding constraint, e.g. `cgroup:/app`, `machine`
    limit_bytes: float              # that constraint's own limit, > 0
    headroom_bytes: float           # (limit - used) + what swap can still take; may be negative for a moment
    used_bytes: float               # of the binding constraint: what the kernel cannot reclaim by itself
    charged_bytes: float = NAN      # used plus page cache and reclaimable slab
    kernel_bytes: float = NAN
    available_bytes: float = NAN    # the machine's MemAvailable
    swap_used_bytes: float = NAN
    swap_free_bytes: float = NAN    # what swap can still take for this constraint
    swap_limit_bytes: float = NAN
    psi_some_us: float = NAN        # cumulative since the counter began
    psi_full_us: float = NAN
    refaults: float = NAN           # cumulative pages
    major_faults: float = NAN       # cumulative
    late_s: float = 0.0             # how late the tick was
    evictable_bytes: float = NAN    # what hooks say they could give back
    phase: str | None = None        # the app's own word, e.g. `playback`
