"""The device profile: static facts of the machine and of the app's own bound."""

from __future__ import annotations

from oomguard.typed import NamedTuple

NAN = float("nan")
BOUND_KINDS = ("evicts", "refuses", "aborts")


class Profile(NamedTuple):
    """Static facts, joined with every sample. Unknown numbers are NaN, unknown words are empty."""

    device_type: str = "generic"
    sdk_version: str = ""
    ram_bytes: float = NAN
    swap_bytes: float = NAN
    cores: float = NAN
    cache_capacity_bytes: float = NAN    # the app's own cap on its cache (maxmemory …): a plateau by design
    buffer_capacity_bytes: float = NAN
    heap_limit_bytes: float = NAN        # -Xmx, --max-old-space-size …
    bound_kind: str = ""                 # what happens at the smaller of the two: evicts, refuses or aborts
    limit_bytes: float = NAN             # the device's own limit for the app, where it has one
