"""Stores with a bound on their size, as diskcache's: their bound is lowered, they cull, the bound goes back up.

Files on a disk are no memory that can be short: what a store on a disk takes is page cache, which the kernel reclaims
by itself. A store on a tmpfs (/dev/shm, /run, often /tmp) is memory, every byte, and of no other use than this.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from oomguard.adaptors.adaptor import Adaptor, stop_at_s, wanted_bytes
from oomguard.adaptors.heap import NAN
from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.sense.files import read_if_there
from oomguard.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

STORE_COST = 1.0
STEP_BYTES = 16 << 20       # culled in one go: a store does not stop for a deadline
MEMORY_FILE_SYSTEMS = (b"tmpfs", b"ramfs", b"hugetlbfs")


class Store(Adaptor):
    """A store that culls itself down to `size_limit` bytes of `volume()`: diskcache's Cache and FanoutCache, and kin.

    The limit is lowered for this process alone (an attribute, not the store's saved setting), and only meanwhile.
    """

    __slots__ = ("_is_memory", "_shards", "_store")

    is_divisible = True

    def __init__(self, store: Any, name: str, *, cost: float = STORE_COST) -> None:
        """Look at the store.

        Raises:
            UsageError: it has no `cull`, `size_limit` and `volume`.
        """
        lacking = [word for word in ("cull", "size_limit", "volume") if not hasattr(store, word)]
        if lacking:
            raise UsageError(f"{name}: a {type(store).__name__} has no {', no '.join(lacking)}")
        super().__init__(name, cost)
        self._store: Any = store
        self._shards: Sequence[Any] = getattr(store, "_shards", None) or (store,)   # FanoutCache: each its own limit
        self._is_memory = is_memory(str(getattr(store, "directory", "")))

    def give(self, request: Request) -> float:
        """Cull step by step; the bytes are what the volume fell by, none of them where it lies on a disk."""
        until_s, wanted = stop_at_s(request), wanted_bytes(request)
        before_bytes = left_bytes = float(self._store.volume())
        while before_bytes - left_bytes < wanted and now_s() < until_s:
            step_bytes = min(wanted - (before_bytes - left_bytes), STEP_BYTES)
            self._cull_to(max(left_bytes - step_bytes, 0.0) / max(left_bytes, 1.0))
            was_bytes, left_bytes = left_bytes, float(self._store.volume())
            if left_bytes >= was_bytes:
                break               # empty but for its index; or it never evicts, by its own policy
        return max(before_bytes - left_bytes, 0.0) if self._is_memory is not False else 0.0

    def evictable_bytes(self) -> float:
        """Return the store's volume; 0 on a disk; NaN where it does not say where it lies."""
        if self._is_memory is None:
            return NAN
        return float(self._store.volume()) if self._is_memory else 0.0

    def _cull_to(self, share_ratio: float) -> None:
        for shard in self._shards:
            limit = shard.size_limit
            shard.size_limit = int(float(shard.volume()) * share_ratio)
            try:
                shard.cull()
            finally:
                shard.size_limit = limit


def is_memory(directory: str) -> bool | None:
    """Return whether a folder lies in memory; None where that is not known."""
    if not directory:
        return None
    found, longest = None, -1
    path = os.path.realpath(directory) + "/"
    for line in read_if_there("/proc/self/mounts", 1 << 20).splitlines():
        fields = line.split(b" ")
        if len(fields) < 3:
            continue
        place = os.fsdecode(fields[1].replace(rb"\040", b" ")).rstrip("/") + "/"
        if path.startswith(place) and len(place) >= longest:
            found, longest = fields[2] in MEMORY_FILE_SYSTEMS, len(place)
    return found
