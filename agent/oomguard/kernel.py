"""The C kernel where it was built; an install without a compiler works on the readable references instead."""

from __future__ import annotations

try:
    from oomguard import _kernel as native

    HAS_KERNEL = True
except ImportError:
    native = None  # type: ignore[assignment]
    HAS_KERNEL = False

__all__ = ["HAS_KERNEL", "native"]
