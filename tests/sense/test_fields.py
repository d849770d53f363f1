"""Numbers out of the kernel's tables: what the readable reader takes, and that the C kernel takes the same bits."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.kernel import HAS_KERNEL, native
from oomguard.sense import fields
from oomguard.sense.fields import limit, number, numbers_in, reference_numbers
from oomguard.sense.files import KeptFile

TABLE = b"anon 11\nfile 22\nanon_thp 33\nshmem 44\n"
needs_kernel = pytest.mark.skipif(not HAS_KERNEL, reason="installed without a C compiler")


def bits(numbers: tuple[float, ...]) -> bytes:
    """Return the numbers as they lie in memory, so that NaN equals NaN and 0.0 is not -0.0."""
    return struct.pack(f"{len(numbers)}d", *(float("nan") if each != each else each for each in numbers))


class Table:
    """A file of a table, in memory."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("table")

    def holds(self, text: bytes) -> int:
        """Put a text in; return the descriptor."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, text, 0)
        return self.fd


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """Give a file that is closed with the module."""
    made = Table()
    yield made
    os.close(made.fd)


def test_takes_each_label_in_the_order_asked_for() -> None:
    """Labels are taken by their whole name, wherever they stand."""
    assert numbers_in(TABLE, (b"shmem ", b"anon ")) == (44.0, 11.0)


def test_a_missing_label_is_nan() -> None:
    """A label the kernel does not have is unknown, and the others are still known."""
    anon, kernel = numbers_in(TABLE, (b"anon ", b"kernel "))
    assert anon == 11
    assert kernel != kernel


def test_a_unit_is_left_out() -> None:
    """meminfo's ` kB` is no part of the number, nor is the tab in /proc/PID/status."""
    text = b"MemTotal:    100 kB\nMemFree:      42 kB\nRssAnon:\t    7 kB\n"
    assert numbers_in(text, (b"MemFree:", b"RssAnon:")) == (42.0, 7.0)


def test_a_mark_names_a_place_on_the_line() -> None:
    """Pressure's totals stand behind `total=`, and the averages before it are not taken for them."""
    text = b"some avg10=1.00 avg60=0.30 total=4242\nfull avg10=0.90 total=41\nother 7\n"
    some_us, full_us, other = numbers_in(text, (b"some ", b"full ", b"other "), b"total=")
    assert (some_us, full_us) == (4242.0, 41.0)
    assert other != other


@pytest.mark.parametrize("text", [
    b"", b"\n", b"anon", b"anon x\n", b"anon \n", b"\0\xff", b"anon 1", b"anon -1\n", b"anon 1_0\n", b"anon 1.5\n",
    b"anon 1e3\n", b"anon nan\n", b"anon 1\t\n", b"anon +1\n", b"x anon 1\n", b"anon 12345678901234567890\n",
    b"anon x\nanon 1\n", "anon ٣\n".encode()])
def test_what_is_no_number_is_unknown(text: bytes) -> None:
    """Torn or hostile text gives NaN, and so does a last line without its newline: digits may be missing there."""
    (anon,) = numbers_in(text, (b"anon ",))
    assert anon != anon


def test_limits_and_numbers() -> None:
    """`max` is no limit, a number is one, and anything else is unknown."""
    assert limit(b"max\n") == float("inf")
    assert limit(b"4096\n") == number(b" 4096 ") == 4096
    assert limit(b"9223372036854771712\n") == float(9223372036854771712)
    for text in (b"lots\n", b"-1\n", b""):
        assert limit(text) != limit(text)


HOSTILE = [
    b"", b"\n", b"\n\n\n", b"anon", b"anon 1", b"anon  7\n", b"anon 0\n", b"anon 9999999999999999999\n", b"anon -5\n",
    b"anon 18446744073709551616\n", b"anon 9007199254740993\n", b"an 1\nanon 2\nanon_thp 3\n", b"anon 1\nanon 2\n",
    b"anon\n1\n", b"anon 1 2\n", b"\0anon 1\n", b"anon 1\0\n", b"anon \xb2\n", b"5\n", b"  5 kB\n", b"=5\n", b"a==5\n",
    b"anon 5=6\n", b"a" * 16383 + b"\nanon 3\n", b"x\n" * 8191 + b"anon 12345\n", b"1" * 16384, b"anon \x0b5\n"]
SETS = [(b"anon ",), (b"",), (b"anon ", b"an", b"anon"), (b"an ", b"none ", b"anon_thp ", b"anon "), (b"\n",),
        (b"anon ", b"anon "), tuple(b"anon" + b"x" * n for n in range(24))]


@needs_kernel
@pytest.mark.parametrize("mark", [b"", b"=", b"==", b"total="])
@pytest.mark.parametrize("labels", SETS)
def test_the_kernel_takes_the_same_bits_from_hostile_tables(
        table: Table, labels: tuple[bytes, ...], mark: bytes) -> None:
    """Labels that miss or begin others, huge and negative numbers, no newline, more than the buffer: the same bits."""
    for text in HOSTILE:
        fd = table.holds(text)
        assert bits(native.numbers(fd, labels, mark)) == bits(reference_numbers(fd, labels, mark)), text


names = st.sampled_from([b"a ", b"a", b"ab ", b"abc:", b"", b"total_a ", b"total_", b"a b "])
words = st.one_of(st.integers(-10, 1 << 70).map(lambda n: b"%d" % n), st.binary(max_size=6),
                  st.sampled_from([b"", b" ", b"\t", b"x", b"total=", b" kB"]))
lines = st.builds(lambda name, rest: name + b"".join(rest) + b"\n", names, st.lists(words, max_size=4))
many_lines = st.builds(lambda parts, end: b"".join(parts) + end, st.lists(lines, max_size=12), st.binary(max_size=9))
tables = st.one_of(st.binary(max_size=300), many_lines)


@needs_kernel
@given(text=tables, labels=st.lists(st.one_of(names, st.binary(max_size=4)), min_size=1, max_size=24).map(tuple),
       mark=st.sampled_from([b"", b"total=", b"a", b" ", b"="]))
def test_the_kernel_takes_the_same_bits_as_the_readable_reader(
        table: Table, text: bytes, labels: tuple[bytes, ...], mark: bytes) -> None:
    """Whatever a file holds and whatever is asked for, both readers give the same numbers to the bit."""
    fd = table.holds(text)
    assert bits(native.numbers(fd, labels, mark)) == bits(reference_numbers(fd, labels, mark))


@needs_kernel
@pytest.mark.parametrize("path", ["/proc/meminfo", "/proc/vmstat", "/proc/self/status", "/proc/pressure/memory",
                                  "/proc/self/limits", "/proc/self/maps", "/proc/cpuinfo"])
def test_real_tables_are_taken_alike(table: Table, path: str) -> None:
    """Every label of a real file gives the same number on both sides, 24 at a time."""
    if not os.path.exists(path):
        pytest.skip(f"no {path} here")
    text = Path(path).read_bytes()[:fields.TABLE_BYTES]
    labels = [re.match(rb"[^ \t=:]*[ \t=:]?", line)[0] for line in text.splitlines()]
    fd = table.holds(text)
    for at in range(0, len(labels), 24):
        some = tuple(labels[at:at + 24])
        assert bits(native.numbers(fd, some)) == bits(reference_numbers(fd, some))


@needs_kernel
@pytest.mark.parametrize(("call", "error"), [
    ((-1, (b"a",)), OSError), ((1 << 40, (b"a",)), ValueError), ((0, ()), ValueError), ((0, [b"a"]), ValueError),
    ((0, (b"a",) * 25), ValueError), ((0, ("a",)), TypeError), (("0", (b"a",)), TypeError), ((0,), TypeError),
    ((0, (b"a",), "m"), TypeError), ((0, (b"a",), b"", 1), TypeError)])
def test_wrong_arguments_raise(call: tuple[object, ...], error: type[Exception]) -> None:
    """A bad descriptor, no labels, too many of them, or what is no bytes: an exception."""
    with pytest.raises(error):
        native.numbers(*call)


@pytest.mark.parametrize("read", dict.fromkeys((reference_numbers, fields.numbers)), ids=lambda read: read.__name__)
def test_what_cannot_be_read_raises_its_errno(read: object) -> None:
    """A folder is no table: both readers raise the kernel's own error."""
    fd = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            read(fd, (b"a ",))
    finally:
        os.close(fd)


@needs_kernel
def test_the_bounds_stand_in_both_places() -> None:
    """The bytes and digits that are read at most are the same in C and in Python."""
    source = (Path(fields.__file__).parents[1] / "_kernel.c").read_text()
    for name, value in (("TABLE_BYTES", fields.TABLE_BYTES), ("MAX_DIGITS", fields.DIGITS_MOST)):
        assert re.search(rf"\b{name} = (\d+)", source)[1] == str(value)


def test_without_the_kernel_the_sensors_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept file read by the readable reader gives what it gives by the default one, kept and opened on demand."""
    (tmp_path / "memory.stat").write_bytes(TABLE)
    kept = KeptFile(str(tmp_path / "memory.stat"))
    monkeypatch.setattr(os, "sysconf", lambda _name: 0)
    on_demand = KeptFile(str(tmp_path / "memory.stat"))
    assert (kept.is_kept, on_demand.is_kept) == (True, False)
    labels = (b"shmem ", b"anon ")
    assert kept.numbers(labels) == on_demand.numbers(labels) == (44.0, 11.0)
    monkeypatch.setattr("oomguard.sense.files.numbers", reference_numbers)
    assert kept.numbers(labels) == on_demand.numbers(labels) == (44.0, 11.0)
    kept.close()
