"""The sizer counts what would go with a thing, and is bounded."""

from __future__ import annotations

import mmap
import sys
from collections import deque

import numpy as np
import pytest

from oomguard.adaptors.size import OBJECTS_MOST, is_held, own_bytes, size_bytes

BIG = 1 << 20
SHARED = bytes(BIG)         # a module holds it


class Page:
    """A thing with attributes."""

    def __init__(self, body: object) -> None:
        self.body = body


class Slotted:
    """A thing with slots."""

    __slots__ = ("body",)

    def __init__(self, body: object) -> None:
        self.body = body


def fresh() -> bytes:
    return bytes(bytearray(BIG))


@pytest.mark.parametrize("thing", [
    fresh(), [fresh()], (fresh(),), {"a": fresh()}, {fresh()}, deque([fresh()]), Page(fresh()), Slotted(fresh()),
    Page([{"deep": (Page(fresh()),)}]), np.zeros(BIG, np.uint8), np.zeros(BIG, np.uint8)[::2], mmap.mmap(-1, BIG),
    [np.zeros(BIG, np.uint8)],
], ids=lambda thing: type(thing).__name__)
def test_what_a_thing_holds_is_counted_once(thing: object) -> None:
    """The megabyte is found wherever it is, and hardly more than it."""
    assert BIG <= size_bytes(thing) < 1.01 * BIG


@pytest.mark.parametrize("thing", [
    [SHARED], {"a": SHARED}, Page(SHARED), Slotted(SHARED), Page(sys), Page(Page), [size_bytes],
], ids=lambda thing: type(thing).__name__)
def test_what_others_hold_is_not_counted(thing: object) -> None:
    """It would not go with this thing."""
    assert size_bytes(thing) < BIG / 100


def test_a_cycle_ends() -> None:
    """A thing that refers to itself is counted once."""
    cycle: list[object] = [fresh()]
    cycle.append(cycle)
    assert BIG <= size_bytes(cycle) < 1.01 * BIG


def test_a_big_container_is_taken_by_a_sample() -> None:
    """A million numbers: about right, within the bound."""
    numbers = [float(n) for n in range(1_000_000)]
    true_bytes = sys.getsizeof(numbers) + len(numbers) * sys.getsizeof(1.0)
    assert size_bytes(numbers) == pytest.approx(true_bytes, rel=0.05)
    table = {str(n): {"n": [float(n), "x" * (n % 7)]} for n in range(100_000)}
    one = sys.getsizeof("12345") + sys.getsizeof({"n": 1}) + sys.getsizeof([1.0, "x"]) + sys.getsizeof(1.0)
    assert size_bytes(table) == pytest.approx(sys.getsizeof(table) + 100_000 * one, rel=0.3)


def test_the_rest_is_taken_to_be_like_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound of the walk the size is extrapolated, not cut off; a stalled machine has time for the walk."""
    monkeypatch.setattr("oomguard.adaptors.size.WALK_MOST_S", 10.0)
    deep: object = None
    for _ in range(10 * OBJECTS_MOST):
        deep = (deep, bytes(bytearray(1000)))
    seen = size_bytes(deep)
    assert seen > OBJECTS_MOST * 300                    # the chain is walked as far as the bound


def test_things_that_lie_about_themselves_do_no_harm() -> None:
    """A __sizeof__ that raises counts as nothing."""
    class Broken:
        def __sizeof__(self) -> int:
            raise RuntimeError

    assert own_bytes(Broken()) == 0
    closed = mmap.mmap(-1, 4096)
    closed.close()
    assert size_bytes(closed) < 1000


def test_is_held_tells_one_holder_from_two() -> None:
    """The pair: one variable; and a list besides."""
    value = fresh()
    assert not is_held(value, 1)
    holder = [value]
    assert is_held(value, 1)
    assert holder
