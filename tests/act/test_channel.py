"""The channel: whatever arrives is a message or a HelperError."""

from __future__ import annotations

import json
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.act import channel
from oomguard.act.link import read_message
from oomguard.errors import HelperError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = ["ticket", "ok", "freed_bytes", "duration_s", "why", "hello", "pid", "started_ticks", "do", "x"]
likely = st.dictionaries(st.sampled_from(KEYS), json_values)


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode())
       | likely.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_only_ever_a_helper_error(data: bytes) -> None:
    """No bytes that arrive, and no JSON that is not a message, raise anything else."""
    try:
        read_message(channel.decode(data))
    except HelperError:
        return


@pytest.mark.parametrize("data", [
    b"", b"[]", b"null", b"\xff\xfe", b"{", b"[" * 60_000, b'{"a":' * 10_000, b"1" * 5_000,
    b'{"ticket":1e999}', b'{"ticket":NaN}', b"{}" + b" " * channel.MESSAGE_MAX_BYTES,
    b'{"ticket":true,"ok":true}',
    b'{"ticket":1,"ok":true,"freed_bytes":-1,"duration_s":1,"why":""}',
    b'{"ticket":1,"ok":true,"freed_bytes":1' + b"0" * 400 + b',"duration_s":1,"why":""}',
    b'{"ticket":1,"ok":1,"freed_bytes":1,"duration_s":1,"why":""}', b'{"hello":1,"pid":1}', b'{"hello":2}',
    b'{"ticket":' + b"[" * 900 + b"]" * 900 + b"}",
])
def test_hostile_records(data: bytes) -> None:
    """Deep, long, huge, negative, mistyped, foreign: each is refused."""
    with pytest.raises(HelperError):
        read_message(channel.decode(data))


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans() | st.none(), max_size=8))
def test_messages_round_trip(message: dict[str, object]) -> None:
    """What is written is what is read."""
    assert channel.decode(channel.encode(message)) == message


@pytest.mark.parametrize("message", [{"a": "x" * 70_000}, {"a": float("nan")}, {"a": object()}])
def test_what_does_not_fit_is_refused_by_the_sender(message: dict[str, object]) -> None:
    """Too long, or not JSON: the sender hears of it."""
    with pytest.raises(HelperError):
        channel.encode(message)


def test_records_keep_their_boundaries() -> None:
    """Two messages sent at once are read as two, then nothing, then the end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        channel.send(theirs.fileno(), {"a": 1})
        channel.send(theirs.fileno(), {"b": "x" * 60_000})
        assert channel.receive(ours.fileno()) == {"a": 1}
        assert channel.receive(ours.fileno()) == {"b": "x" * 60_000}
        with pytest.raises(BlockingIOError):
            channel.receive(ours.fileno())
        theirs.close()
        assert channel.receive(ours.fileno()) is None


def test_a_record_longer_than_allowed_is_refused_not_cut() -> None:
    """A peer that sends more than 64 KiB speaks nonsense."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        os.write(theirs.fileno(), b'{"a":"' + b"x" * 70_000 + b'"}')
        with pytest.raises(HelperError, match="longer"):
            channel.receive(ours.fileno())


def test_sending_to_nobody_is_a_helper_error() -> None:
    """A closed peer, and a full one, are told apart."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            ours.setblocking(False)
            with pytest.raises(HelperError, match="does not read"):
                for _ in range(10_000):
                    channel.send(ours.fileno(), {"a": "x" * 1000})
        with pytest.raises(HelperError, match="gone"):
            channel.send(ours.fileno(), {"a": 1})
