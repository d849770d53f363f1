"""How many bytes would go if one thing went: a walk that is deep enough and bounded in time.

Only what nobody else holds is counted: memory that others refer to does not come back.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from oomguard.clock import now_s
from oomguard.typed import Any

OBJECTS_MOST = 2000         # looked at in one walk; about 1 ms
WALK_MOST_S = 0.005
CHILDREN_MOST = 64          # of one container; more are taken by sample
_LEAVES = (str, bytes, bytearray, int, float, complex, bool, type(None), range)
_OTHERS = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)     # never an entry's own

Size = Callable[[Any], float]


def size_bytes(thing: object) -> float:
    """Return the bytes that go with this thing: its own, and those of what only it refers to.

    Big containers are taken by a sample of their children. What is out of reach by time or count is taken to be
    like the rest.
    """
    until_s = now_s() + WALK_MOST_S
    seen: set[int] = set()
    waiting: list[tuple[object, float]] = [(thing, 1.0)]    # with how many things like it each one stands for
    total = looked_at = 0.0
    count = 0
    while waiting:
        if count >= OBJECTS_MOST or (not count % 64 and now_s() >= until_s):
            return total * (1 + sum(weight for _each, weight in waiting) / looked_at) if looked_at else total
        each, weight = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        count += 1
        looked_at += weight
        total += weight * own_bytes(each)
        if not isinstance(each, _LEAVES):
            children, stand_for = _children(each)
            waiting.extend((child, weight * stand_for) for child in children)
        del each
    return total


def own_bytes(thing: object) -> float:
    """Return a thing's own bytes; data that the interpreter does not see included, for the libraries known here."""
    known = _FOREIGN.get(type(thing).__module__.partition(".")[0])
    try:
        foreign = float(known(thing)) if known is not None else 0.0
    except Exception:  # noqa: BLE001  another library's object in a state of its own: then what the interpreter sees
        foreign = 0.0
    try:
        return foreign + sys.getsizeof(thing, 0)
    except Exception:  # noqa: BLE001  a __sizeof__ of the app's own
        return foreign


def _children(thing: object) -> tuple[list[object], float]:
    """Return what only this thing refers to, and how many of its children each of them stands for."""
    try:
        kept, count = _sample(thing)
    except (RuntimeError, IndexError):      # changed by another thread meanwhile
        return [], 1.0
    own = _held_once(kept)
    return own, max(1.0, count / len(kept)) if kept else 1.0


def _sample(thing: object) -> tuple[list[object], int]:
    if isinstance(thing, dict):
        step = max(1, len(thing) // CHILDREN_MOST)
        keys = list(islice(dict.keys(thing), 0, None, step))
        return [*keys, *(dict.get(thing, key) for key in keys)], 2 * len(thing)
    if isinstance(thing, (list, tuple)):
        step = max(1, len(thing) // CHILDREN_MOST)
        return list(thing[::step]), len(thing)
    if isinstance(thing, (set, frozenset, deque)):
        return list(islice(thing, 0, None, max(1, len(thing) // CHILDREN_MOST))), len(thing)
    base = getattr(thing, "base", None) if type(thing).__module__ == "numpy" else None
    if base is not None:                    # a view: what it looks into goes with it
        return [base], 1
    if not gc.is_tracked(thing):
        return [], 0
    referents = [each for each in gc.get_referents(thing) if not isinstance(each, _OTHERS)]
    step = max(1, len(referents) // CHILDREN_MOST)
    return referents[::step], len(referents)


def _held_once(children: Sequence[object]) -> list[object]:
    """Return those that only their parent, and this list, hold."""
    return [each for each in children if sys.getrefcount(each) <= _HELD_ONCE]


def is_held(thing: object, holders: int) -> bool:
    """Return whether somebody holds a thing besides so many: the caller's own variable counts as one."""
    return sys.getrefcount(thing) > holders + 2     # the argument of this call, and of that one


_HELD_ONCE = 4              # parent, list, loop variable, getrefcount's argument: CPython; tests/adaptors/test_size.py


def _torch_bytes(thing: Any) -> float:
    if not hasattr(thing, "untyped_storage") or thing.device.type != "cpu":
        return 0.0
    return float(thing.untyped_storage().nbytes())


def _picture_bytes(thing: Any) -> float:
    return float(thing.size[0] * thing.size[1] * len(thing.getbands()))


def _arrow_bytes(thing: Any) -> float:
    if hasattr(thing, "get_total_buffer_size"):
        return float(thing.get_total_buffer_size())
    return float(getattr(thing, "size", 0) if type(thing).__name__ == "Buffer" else getattr(thing, "nbytes", 0))


_FOREIGN: dict[str, Callable[[Any], float]] = {
    "mmap": len, "torch": _torch_bytes, "PIL": _picture_bytes, "pyarrow": _arrow_bytes,
    "polars": lambda frame: frame.estimated_size(),
}
