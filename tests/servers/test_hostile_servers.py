"""Servers that flood, hang, hang up, lie or say nonsense: each hook fails with a reason, and the helper goes on."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import Guarding, faking, free_port, until

from oomguard.act.servers import debts
from oomguard.decide.plan import HookPlan

KINDS = ("redis", "memcached", "webhook", "chromium")
Talk = Callable[[socket.socket], None]


def hook(kind: str, address: str, deadline_s: float = 1.0) -> HookPlan:
    where = f"http://{address}/" if kind == "webhook" else address
    return HookPlan(kind, kind, address=where, deadline_s=deadline_s, policy="allkeys-lru" if kind == "redis" else "")


def hang(connection: socket.socket) -> None:
    """Take everything, and say nothing."""
    while connection.recv(65536):
        pass


def hang_up(connection: socket.socket) -> None:
    """Close without a word."""


def flood(connection: socket.socket) -> None:
    """Never end a line."""
    while True:
        connection.sendall(b"x" * 65536)


def flood_lines(connection: socket.socket) -> None:
    """Never end an answer."""
    while True:
        connection.sendall(b"STAT a 1\r\n" * 1000)


def half(connection: socket.socket) -> None:
    """Begin an answer of each kind, and hang up."""
    connection.recv(4096)
    connection.sendall(b"$1000\r\nused_memory:")


def half_http(connection: socket.socket) -> None:
    """Promise more than comes."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")


def huge(connection: socket.socket) -> None:
    """Announce more than anybody may keep."""
    connection.recv(4096)
    connection.sendall(b"$999999999999\r\n")


def huge_http(connection: socket.socket) -> None:
    """Announce more than anybody may keep, as HTTP."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")


def drip(connection: socket.socket) -> None:
    """Send a byte at a time, for ever."""
    connection.recv(4096)
    connection.settimeout(0.02)
    while True:
        connection.sendall(b"H")
        with contextlib.suppress(TimeoutError):
            if not connection.recv(1):
                return


def garbage(connection: socket.socket) -> None:
    """Say what no protocol knows."""
    connection.recv(4096)
    connection.sendall(bytes(range(256)) * 40 + b"\r\n")


def headers(connection: socket.socket) -> None:
    """Send headers without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"a: b\r\n" * 1000)


def redis_lies(connection: socket.socket) -> None:
    """A Redis that says of itself what cannot be."""
    answer = b"role:master\r\nused_memory:-5\r\nused_memory_rss:1e9\r\ndb0:keys=x,expires=y\r\n"
    while connection.recv(65536):
        connection.sendall(b"$%d\r\n%s\r\n" % (len(answer), answer))


def memcached_lies(connection: socket.socket) -> None:
    """A memcached that holds what cannot be."""
    while connection.recv(65536):
        connection.sendall(b"STAT slab_reassign yes\r\nSTAT total_malloced 99999999999999999999999\r\n"
                           b"STAT limit_maxbytes \xff\r\nSTAT pid 0\r\nEND\r\n")


def devtools_lies(connection: socket.socket) -> None:
    """A browser that names other hosts, and speaks no WebSocket."""
    connection.recv(65536)
    body = b'{"webSocketDebuggerUrl": "ws://192.0.2.1/devtools/browser/x", "freed_bytes": -1}'
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@pytest.mark.parametrize("talk", [hang, hang_up, flood, flood_lines, half, half_http, huge, huge_http, drip, garbage,
                                  headers, redis_lies, memcached_lies, devtools_lies], ids=lambda talk: talk.__name__)
def test_no_answer_of_a_server_is_too_much(guard: Guarding, talk: Talk) -> None:
    """Whatever it sends, each kind of hook fails in time, with a reason, without a figure, and changes nothing."""
    with faking(talk) as fake:
        tickets = {kind: guard.start(hook(kind, fake.address)) for kind in KINDS}
        for kind, ticket in tickets.items():
            outcome = guard.wait(ticket)
            assert not outcome.ok, (kind, outcome)
            assert outcome.why, kind
            assert math.isnan(outcome.freed_bytes)
        assert guard.ask(HookPlan("c", "command", argv=("echo", "5"))).freed_bytes == 5
    assert not debts.any_noted()


def test_floods_leave_nothing_behind_in_the_helper(guard: Guarding) -> None:
    """A hundred hostile conversations cost the helper neither descriptors nor threads, and little memory."""
    with faking(flood) as fake:
        for kind in KINDS:
            guard.wait(guard.start(hook(kind, fake.address)))
        helper = guard.runner.helper_pid

        def state() -> tuple[int, int]:
            return len(os.listdir(f"/proc/{helper}/fd")), len(os.listdir(f"/proc/{helper}/task"))

        until(lambda: state()[1] == 1, "the end of its threads")
        before, before_kb = state(), resident_kb(helper)
        for _ in range(25):
            for ticket in [guard.start(hook(kind, fake.address)) for kind in KINDS]:
                assert not guard.wait(ticket).ok
        until(lambda: all(now <= then for now, then in zip(state(), before, strict=True)),
              "no more descriptors and threads than before")
        assert resident_kb(helper) < before_kb + 4096


def resident_kb(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_there_is_said(guard: Guarding, kind: str) -> None:
    """A port that is closed is told as such, at once."""
    address = f"127.0.0.1:{free_port()}"
    outcome = guard.ask(hook(kind, address, deadline_s=20.0))
    assert not outcome.ok
    assert f"cannot connect to {address}" in outcome.why


def test_too_many_at_once_are_refused(guard: Guarding) -> None:
    """Eight that hang are enough: the ninth is told so, and those eight end in time."""
    with faking(hang) as fake:
        tickets = [guard.start(hook("redis", fake.address, deadline_s=2.0)) for _ in range(9)]
        assert "8 server hooks are under way" in guard.wait(tickets[-1]).why
        assert all(not guard.wait(ticket).ok for ticket in tickets)


def test_a_note_that_is_none_is_set_aside(guard: Guarding, folder: Path) -> None:
    """Nonsense among the notes stops nobody, and is not tried again."""
    owed = folder / debts.FOLDER
    owed.mkdir()
    for name, text in (("a.json", "{"), ("b.json", '{"kind": "../../x"}'), ("c.json", "[" * 9000), ("d.json", "\x00")):
        (owed / name).write_text(text)
    (owed / "e.json").symlink_to("/etc/passwd")
    assert guard.ask(HookPlan("c", "command", argv=("echo", "5"))).freed_bytes == 5
    while debts.any_noted():
        guard.turn()
    assert len(list(owed.glob("*.bad"))) == 5
