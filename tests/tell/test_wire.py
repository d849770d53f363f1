"""The lines of the control protocol: bounded, hostile until parsed."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.tell.wire import REPLY_MAX_BYTES, Lines, WireError, decode, encode, refusal

HOSTILE = {
    "not UTF-8": (b'{"op": "\xff"}', "not UTF-8 at byte 8"),
    "half an object": (b'{"op": "sta', "not JSON"),
    "empty": (b"", "not JSON"),
    "a list": (b"[1, 2]", "this is a list"),
    "a number": (b"7", "this is a int"),
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "infinity": (b'{"a": -Infinity}', "-Infinity is not JSON"),
    "deep lists": (b"[" * 60_000, "nested too deep"),
    "deep objects": (b'{"a":' * 10_000, "nested too deep"),
    "an endless number": (b'{"a": ' + b"9" * 60_000 + b"}", "not JSON"),
    "two objects": (b"{}{}", "not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "not JSON"),
    "NUL": (b'{"a": "\x00"}', "not JSON"),
}


@pytest.mark.parametrize(("line", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_line_is_refused_with_a_reason(line, reason):
    """Each line that is no message raises WireError, with a short text that says why, and nothing else."""
    with pytest.raises(WireError) as caught:
        decode(line)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_request_is_decoded():
    """A plain request, with text beyond ASCII, arrives as it was sent."""
    assert decode('{"op": "status", "id": "ä"}'.encode()) == {"op": "status", "id": "ä"}


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(line):
    """No line raises anything but WireError."""
    with suppress(WireError):
        assert isinstance(decode(line), dict)


known = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | known | st.text()
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                           max_leaves=20)


@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values))
def test_what_is_encoded_decodes_to_the_same(message):
    """encode and decode are inverse, and a message is one line whatever text it holds."""
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line[:-1]) == message


def test_unknown_numbers_become_null():
    """NaN and infinity, which JSON lacks, are null at any depth."""
    nan, inf = float("nan"), float("inf")
    assert json.loads(encode({"a": nan, "b": [1.5, inf, {"c": -inf}], "d": (nan,)})) == {
        "a": None, "b": [1.5, None, {"c": None}], "d": [None]}


def test_an_answer_too_large_is_refused_by_its_size():
    """An answer beyond the limit is an error that names its size; one below is not."""
    with pytest.raises(WireError, match=f"more than {REPLY_MAX_BYTES}"):
        encode({"a": "x" * REPLY_MAX_BYTES})
    assert len(encode({"a": "x" * (REPLY_MAX_BYTES - 100)})) < REPLY_MAX_BYTES


def test_a_refusal_says_no_and_why():
    """The refusal line has the version, the caller's id, ok false and the reason."""
    assert json.loads(refusal("because", 7)) == {"v": 1, "id": 7, "ok": False, "error": "because"}


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b""))), st.data())
def test_lines_come_out_whole_however_they_are_cut(wanted, data):
    """Whatever the chunks a stream arrives in, the same lines come out."""
    stream, got, lines = b"".join(line + b"\n" for line in wanted), [], Lines(64)
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        got += lines.feed(stream[:cut])
        stream = stream[cut:]
    assert got == wanted
    assert lines.pending_bytes == 0


@pytest.mark.parametrize("chunks", [[b"x" * 65], [b"x" * 40, b"x" * 40], [b"x" * 65 + b"\n"],
                                    [b"{}\n" + b"x" * 65]])
def test_a_line_too_long_is_refused_and_forgotten(chunks):
    """A line over the limit raises, ended or not, and its bytes are not kept."""
    lines = Lines(64)
    with pytest.raises(WireError, match="longer than 64 bytes"):
        for chunk in chunks:
            lines.feed(chunk)
    assert lines.pending_bytes == 0


def test_a_line_of_exactly_the_limit_passes():
    """The limit itself is allowed."""
    assert Lines(64).feed(b"x" * 64 + b"\n") == [b"x" * 64]
