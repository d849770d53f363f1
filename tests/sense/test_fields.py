"""Numbers out of the kernel's tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.sense.fields import Fields, limit, number

TABLE = b"anon 11\nfile 22\nanon_thp 33\nshmem 44\n"


def test_takes_each_label_in_the_order_asked_for() -> None:
    """Labels are taken by their whole name, first and every later time alike."""
    fields = Fields((b"shmem ", b"anon "))
    assert [fields.take(TABLE), fields.take(TABLE)] == [[44.0, 11.0], [44.0, 11.0]]


def test_a_missing_label_is_nan() -> None:
    """A label the kernel does not have is unknown, and the others are still known."""
    fields = Fields((b"anon ", b"kernel "))
    for _time in range(2):
        anon, kernel = fields.take(TABLE)
        assert anon == 11
        assert kernel != kernel


def test_learns_anew_when_the_table_changes() -> None:
    """Positions that no longer fit are learned again, not believed."""
    fields = Fields((b"anon ", b"shmem "))
    fields.take(TABLE)
    assert fields.take(b"shmem 5\nnew_one 7\nanon 6\nx 1\ny 2\n") == [6.0, 5.0]


def test_a_unit_is_left_out() -> None:
    """meminfo's ` kB` is no part of the number, also where a label is missing."""
    fields = Fields((b"MemFree:", b"None:"), b" kB")
    for _time in range(2):
        free, none = fields.take(b"MemTotal:    100 kB\nMemFree:      42 kB\n")
        assert free == 42
        assert none != none


@pytest.mark.parametrize("text", [b"", b"\n", b"anon", b"anon x\n", b"anon \n", b"\0\xff", b"anon 1"])
def test_torn_text_never_raises(text: bytes) -> None:
    """Whatever a file holds, a number or unknown comes back."""
    fields = Fields((b"anon ", b"shmem "))
    fields.take(TABLE)
    anon, shmem = fields.take(text)
    assert anon in (1.0, 0.0) or anon != anon
    assert shmem != shmem
    assert fields.take(TABLE) == [11.0, 44.0]


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_give_as_many_numbers_as_labels(first: bytes, second: bytes) -> None:
    """The count of numbers is that of the labels for any two texts after another."""
    fields = Fields((b"a ", b"b ", b"c "))
    assert [len(fields.take(first)), len(fields.take(second)), len(fields.take(first))] == [3, 3, 3]


def test_limits_and_numbers() -> None:
    """`max` is no limit, a number is one, and anything else is unknown."""
    assert limit(b"max\n") == float("inf")
    assert limit(b"4096\n") == number(b" 4096 ") == 4096
    assert limit(b"lots\n") != limit(b"lots\n")


def test_labels_near_the_end_are_taken_from_there() -> None:
    """Version 1 puts its totals last: taken from the end the numbers are the same, a missing one included."""
    text = b"".join(b"x%d 0\n" % n for n in range(20)) + b"total_a 1\ntotal_b 2\n"
    fields = Fields((b"total_b ", b"none ", b"total_a "))
    for _time in range(2):
        last, none, first = fields.take(text)
        assert (last, first) == (2, 1)
        assert none != none
    assert fields.take(b"total_a 3\n")[2] == 3
    assert fields.take(text)[2] == 1
