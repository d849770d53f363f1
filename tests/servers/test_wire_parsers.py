"""Whatever bytes a server sends, in whatever pieces: each parser gives a value or a ServerError."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.act.servers import http, memcached, resp, websocket
from oomguard.act.servers.ask import ServerError
from oomguard.act.servers.stream import Stream
from oomguard.decide.addresses import split_address, split_url

CUTS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def stream(data: bytes, cuts: list[int] | None = None) -> Stream:
    """Return a stream that gives data in pieces."""
    def pieces() -> Iterator[bytes]:
        at, i = 0, 0
        while at < len(data):
            step = cuts[i % len(cuts)] if cuts else len(data)
            yield data[at:at + step]
            at, i = at + step, i + 1
        while True:
            yield b""

    source = pieces()
    return Stream(lambda: next(source))


class Talk(memcached.Memcached):
    """A memcached that has said everything already."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        Stream.__init__(self, stream(data, cuts)._receive)

    def send(self, data: bytes) -> None:
        """Send nothing."""


REPLIES: st.SearchStrategy[resp.Reply] = st.recursive(
    st.none() | st.integers(-2**63, 2**63 - 1) | st.binary(max_size=40)
    | st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=20),
    lambda inner: st.lists(inner, max_size=4), max_leaves=8)


def encoded(reply: resp.Reply, depth: int = 0) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    if isinstance(reply, str):
        return b"+%s\r\n" % reply.encode()
    return b"*%d\r\n" % len(reply) + b"".join(encoded(one) for one in reply)


def depth_of(reply: resp.Reply) -> int:
    return 1 + max(map(depth_of, reply), default=0) if isinstance(reply, list) else 0


@given(REPLIES, CUTS, st.binary(max_size=5))
def test_every_reply_is_read_as_it_was_written(reply: resp.Reply, cuts: list[int], more: bytes) -> None:
    """However it is cut, and whatever follows; too deep a nesting is refused."""
    source = stream(encoded(reply) + more, cuts)
    if depth_of(reply) > resp.DEPTH_MAX:
        with pytest.raises(ServerError):
            resp.read_reply(source)
    else:
        assert resp.read_reply(source) == reply
        assert source.rest(100) == more


HOSTILE = st.lists(st.sampled_from([b"*", b"$", b":", b"-", b"+", b"\r\n", b"9", b"-1", b"1", b"STAT ", b"END", b"a ",
                                    b"\xff", b"\0", b"HTTP/1.1 ", b"200 ", b"Content-Length: ", b"\x81", b"\x7f",
                                    b"\xfe"]) | st.binary(max_size=12), max_size=30).map(b"".join)


def read_http(source: Stream) -> bytes:
    return http.read_body(source, http.read_head(source), 1000)


@pytest.mark.parametrize("read", [resp.read_reply, read_http, websocket.read_frame], ids=["resp", "http", "websocket"])
@given(data=HOSTILE, cuts=CUTS)
def test_any_bytes_give_a_value_or_a_reason(read: Callable[[Stream], object], data: bytes, cuts: list[int]) -> None:
    """Nothing else is raised, and nothing waits for ever."""
    try:
        read(stream(data, cuts))
    except ServerError as error:
        assert str(error)


@given(HOSTILE, CUTS)
def test_any_bytes_are_stats_or_a_reason(data: bytes, cuts: list[int]) -> None:
    """memcached's statistics, too; and whatever they say, a class to take from is one that they name."""
    try:
        stats = Talk(data, cuts).stats()
    except ServerError as error:
        assert str(error)
    else:
        choice = memcached.richest_class(stats, set())
        assert not choice or f"{choice}:total_pages" in stats


@given(st.dictionaries(st.text("abcxyz:019_", min_size=1), st.text("019 .x", max_size=9), max_size=9), CUTS)
def test_stats_are_read_as_they_were_written(told: dict[str, str], cuts: list[int]) -> None:
    """Names and values, values with spaces included."""
    data = "".join(f"STAT {name} {value}\r\n" for name, value in told.items()).encode() + b"END\r\n"
    assert Talk(data, cuts).stats() == told


@given(st.sampled_from([websocket.TEXT, websocket.PONG]),
       st.binary(max_size=125) | st.binary(min_size=125, max_size=70_000), st.binary(min_size=4, max_size=4))
def test_a_frame_of_ours_is_what_a_server_unmasks(kind: int, data: bytes, key: bytes) -> None:
    """Header, length in its shortest form, key and masked bytes are as RFC 6455 has them."""
    frame = websocket.write_frame(kind, data, key)
    short = frame[1] & 127
    at = {126: 4, 127: 10}.get(short, 2)
    length = short if short < 126 else int.from_bytes(frame[2:at], "big")
    assert (frame[0], frame[1] >> 7, length) == (128 | kind, 1, len(data))
    assert frame[at:at + 4] == key
    assert bytes(byte ^ key[i % 4] for i, byte in enumerate(frame[at + 4:])) == data


@given(st.binary(max_size=300), st.booleans(), CUTS)
def test_a_servers_frame_is_read_as_it_was_written(data: bytes, is_last: bool, cuts: list[int]) -> None:
    """In one piece or many."""
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    frame = websocket.read_frame(stream(bytes([websocket.TEXT | (128 if is_last else 0)]) + length + data, cuts))
    assert (frame.kind, frame.is_last, frame.data) == (websocket.TEXT, is_last, data)


@pytest.mark.parametrize("frame", [
    b"\xc1\x00", b"\x83\x00", b"\x81\x80", b"\x89\x7e\x00\x7e" + b"x" * 126, b"\x09\x00", b"\x8b\x00",
    b"\x81\x7f" + b"\xff" * 8, b"\x81\x7f" + (5 << 20).to_bytes(8, "big")])
def test_frames_that_are_not_allowed(frame: bytes) -> None:
    """Extensions, reserved kinds, masks, long or split control frames, and more than four MiB."""
    with pytest.raises(ServerError):
        websocket.read_frame(stream(frame + b"\0" * 200))


@given(st.text(max_size=40) | st.text("htp:/.[]@?#1280 ax", max_size=30).map("http://".__add__))
def test_addresses_and_urls_are_parts_or_a_value_error(text: str) -> None:
    """Whatever a rule says, what comes out can be connected to."""
    for split in (split_address, split_url):
        try:
            host, port, *_ = split(text)
        except ValueError as error:
            assert str(error)
        else:
            assert host
            assert 0 < port < 65536
            assert "/" not in host
