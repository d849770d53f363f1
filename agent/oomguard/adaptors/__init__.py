"""Hooks over what Python programs use as caches: each gives back bytes, says how much it holds and what that costs.

Imported only when used: `guard.adopt(cache, ...)`, or `oomguard.adaptors` by name. Nothing here imports the library
that it adapts; who has a pyarrow pool or a torch cache has imported it.
"""

from __future__ import annotations

from oomguard.adaptors.adaptor import Adaptor
from oomguard.adaptors.choose import adaptor_for
from oomguard.adaptors.entries import Entries
from oomguard.adaptors.kept import Kept
from oomguard.adaptors.libraries import ArrowPool, Torch
from oomguard.adaptors.locks import NO_LOCK
from oomguard.adaptors.memo import Memo
from oomguard.adaptors.posted import Posted
from oomguard.adaptors.process import Garbage, Malloc
from oomguard.adaptors.size import size_bytes
from oomguard.adaptors.stores import Store

__all__ = ["NO_LOCK", "Adaptor", "ArrowPool", "Entries", "Garbage", "Kept", "Malloc", "Memo", "Posted", "Store",
           "Torch", "adaptor_for", "size_bytes"]
