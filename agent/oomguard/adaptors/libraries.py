"""Caching allocators of libraries: pyarrow's memory pools and torch's. What they hold free, and nobody's data."""

from __future__ import annotations

import sys
from collections.abc import Callable

from oomguard.adaptors.adaptor import Adaptor
from oomguard.adaptors.heap import NAN
from oomguard.errors import UsageError
from oomguard.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

ALLOCATOR_COST = 0.02       # nothing is lost; the next allocations ask the kernel again


class ArrowPool(Adaptor):
    """A pyarrow memory pool: `release_unused`. Pools do not say how much they keep unused."""

    __slots__ = ("_pool",)

    def __init__(self, pool: Any = None, name: str = "pyarrow", *, cost: float = ALLOCATOR_COST) -> None:
        """Look at the pool; None: pyarrow's default one.

        Raises:
            UsageError: it has no `release_unused`, or pyarrow was not imported.
        """
        super().__init__(name, cost)
        if pool is None:
            pool = _imported("pyarrow").default_memory_pool()
        if not callable(getattr(pool, "release_unused", None)):
            raise UsageError(f"{name}: a {type(pool).__name__} has no release_unused")
        self._pool: Any = pool

    def give(self, request: Request) -> None:
        """Release what is unused, however little is asked for."""
        del request
        self._pool.release_unused()


class Torch(Adaptor):
    """torch's caching allocators, those that are in use: CUDA and XPU, Apple's, and pinned host memory.

    A discrete device's memory is not this machine's: the guard sees of it what falls in the process's own, pinned
    memory above all; on a device that shares its memory (Jetson, Apple) all of it. CPU tensors have no cache: they
    come from malloc, and what can be given back of them the trim gives that ends every release.
    """

    __slots__ = ("_torch",)

    def __init__(self, name: str = "torch", *, cost: float = ALLOCATOR_COST) -> None:
        """Raises UsageError where torch was not imported."""
        super().__init__(name, cost)
        self._torch: Any = _imported("torch")

    def give(self, request: Request) -> None:
        """Empty what caches are in use, however little is asked for."""
        del request
        for empty in self._ways():
            empty()

    def evictable_bytes(self) -> float:
        """Return what the CUDA allocator keeps on devices that share this machine's memory; NaN: there is none."""
        cuda = getattr(self._torch, "cuda", None)
        if cuda is None or not cuda.is_available() or not cuda.is_initialized():
            return NAN
        kept = [cuda.memory_reserved(device) - cuda.memory_allocated(device) for device in range(cuda.device_count())
                if getattr(cuda.get_device_properties(device), "is_integrated", 0)]
        return float(sum(kept)) if kept else NAN

    def _ways(self) -> list[Callable[[], object]]:
        """Return the calls that empty a cache here; a device that nothing has used is not woken for it."""
        ways: list[Callable[[], object]] = []
        for kind in ("cuda", "xpu"):
            device = getattr(self._torch, kind, None)
            if device is not None and device.is_available() and device.is_initialized():
                ways.append(device.empty_cache)
        apple = getattr(getattr(self._torch, "backends", None), "mps", None)
        if apple is not None and apple.is_available():
            ways.append(self._torch.mps.empty_cache)
        pinned = getattr(getattr(self._torch, "_C", None), "_host_emptyCache", None)
        if ways and callable(pinned):           # torch 2.5; without a device nothing is pinned
            ways.append(pinned)
        return ways


def _imported(library: str) -> Any:
    """Return a library that the app has imported. Raises UsageError."""
    if library not in sys.modules:
        raise UsageError(f"{library} is not imported: it keeps nothing that could be given back")
    return sys.modules[library]
