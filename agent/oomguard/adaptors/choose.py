"""Which adaptor fits what an app holds: from a cache, a function, a connection, a module to a hook."""

from __future__ import annotations

import sys
from collections import deque
from types import ModuleType
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from oomguard.adaptors.adaptor import Adaptor
from oomguard.adaptors.entries import Entries
from oomguard.adaptors.kept import Kept
from oomguard.adaptors.libraries import ArrowPool, Torch
from oomguard.adaptors.locks import NO_LOCK
from oomguard.adaptors.memo import Memo
from oomguard.adaptors.posted import Post, Posted
from oomguard.adaptors.process import Garbage, Malloc
from oomguard.adaptors.size import Size
from oomguard.adaptors.stores import Store
from oomguard.errors import UsageError
from oomguard.typed import Any


def adaptor_for(
    what: Any, name: str = "", *, cost: float | None = None, size: Size | None = None, lock: object = None,
    post: Post | None = None,
) -> Adaptor:
    """Return the adaptor for what an app holds.

    Args:
        what: an adaptor; a remembering function; a mapping, deque or list; a store; a connection of sqlite3; a pool
            of pyarrow's; or the module gc, pyarrow, torch or numpy.
        name: of the hook; needed for what has no name of its own.
        cost: of a byte given back; default: the adaptor's.
        size: bytes that one value holds; default: looked at.
        lock: which the app takes around it.
        post: has the work done in the one thread that may do it: `loop.call_soon_threadsafe`.

    Raises:
        UsageError: nothing fits, or what was given does not do.
    """
    if post is not None and lock is None:
        lock = NO_LOCK                          # one thread alone touches it
    adaptor = what if isinstance(what, Adaptor) else _made(what, name, size, lock)
    if not (name or adaptor.name):
        raise UsageError(f"a {type(what).__name__} has no name of its own: give name=, as rules shall call it")
    adaptor.name = name or adaptor.name
    adaptor.cost = adaptor.cost if cost is None else cost
    if post is not None:
        return Posted(adaptor, post)
    if type(adaptor).__name__ == "Sqlite" and sys.modules["oomguard.adaptors.sqlite"].is_bound(what):
        raise UsageError(f"{adaptor.name}: this connection is for the thread that opened it: open it with "
                         "check_same_thread=False, or give post=, which has work done in that thread")
    return adaptor


def _made(what: Any, name: str, size: Size | None, lock: object) -> Adaptor:
    if isinstance(what, ModuleType):
        return _for_module(what)
    if callable(what) and hasattr(what, "cache") and hasattr(what, "cache_lock"):      # cachetools.cached
        own = what.cache_lock if what.cache_lock is not None else lock
        return Entries(what.cache, name or str(what.__qualname__), size=size, lock=own)
    if callable(what) and hasattr(what, "cache_clear"):
        return Memo(what, name, size=size)
    if hasattr(what, "cull") and hasattr(what, "volume"):
        return Store(what, name)
    if "sqlite3" in sys.modules and isinstance(what, sys.modules["sqlite3"].Connection):
        from oomguard.adaptors.sqlite import Sqlite  # brings sqlite3, which the app has

        return Sqlite(what, name, lock=lock)
    if hasattr(what, "release_unused"):
        return ArrowPool(what, name)
    if isinstance(what, (WeakValueDictionary, WeakKeyDictionary, WeakSet)):
        raise UsageError(f"{name}: weak references hold nothing: adopt what keeps their values alive, or gc")
    if isinstance(what, (deque, list)):
        return Kept(what, name, size=size, lock=lock)
    if hasattr(what, "pop") and hasattr(what, "keys"):
        return Entries(what, name, size=size, lock=lock)
    raise UsageError(f"nothing here fits a {type(what).__name__}: write the hook yourself, with guard.hook")


def _for_module(module: ModuleType) -> Adaptor:
    ways: dict[str, type[Garbage | ArrowPool | Torch | Malloc]] = {
        "gc": Garbage, "pyarrow": ArrowPool, "torch": Torch}
    if module.__name__ in ways:
        return ways[module.__name__]()
    if module.__name__ == "numpy":              # its own cache holds arrays up to 1 KiB and is not for others to empty
        return Malloc("numpy")
    raise UsageError(f"nothing here fits the module {module.__name__}: gc, pyarrow, torch and numpy do")
