"""Remote hooks: what the wire takes, what clients come to, and docs/protocol.md replayed against a real guard."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.act.hooks import Hook, Outcome, Request
from oomguard.act.runner import Runner
from oomguard.clock import now_s
from oomguard.decide.plan import TargetPlan
from oomguard.remotes import Remotes
from oomguard.tell import remote
from oomguard.tell.control import ControlServer
from oomguard.tell.log import Log
from oomguard.tell.remote import HOOKS_MAX, HOOKS_PER_CLIENT
from oomguard.tell.wire import WireError, decode, encode

MIB = 1 << 20
PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


# The wire


def test_a_registration_in_full() -> None:
    """Every key is read; what is missing has the stated default."""
    full = {"name": "image-cache", "cost": 0, "deadline_s": 60, "minimum_bytes": 0, "evictable_bytes": 5, "target": "t"}
    assert remote.registration(full) == ("image-cache", 0.0, 60.0, 0, 5.0, "t")
    brief = remote.registration({"name": "a", "later": "key"})
    assert brief[:4] == ("a", 1.0, 5.0, MIB)
    assert math.isnan(brief.evictable_bytes)
    assert brief.target == ""


@pytest.mark.parametrize("wrong", [
    {}, {"name": None}, {"name": ""}, {"name": 7}, {"name": "x" * 65}, {"name": "a b"}, {"name": "-a"},
    {"name": "\u00e9"}, {"name": "a\n"}, {"name": "a", "cost": -1}, {"name": "a", "cost": "1"},
    {"name": "a", "cost": True}, {"name": "a", "cost": 1e7}, {"name": "a", "cost": 10 ** 400},
    {"name": "a", "deadline_s": 0}, {"name": "a", "deadline_s": 61}, {"name": "a", "minimum_bytes": -1},
    {"name": "a", "evictable_bytes": []},
    {"name": "a", "target": 5},
])
def test_a_registration_that_is_none(wrong: dict[str, object]) -> None:
    """Each value out of its range is refused with a text that says what is allowed."""
    with pytest.raises(WireError, match=r"is a number from|is 1 to 64|is the name of one"):
        remote.registration(wrong)


@pytest.mark.parametrize(("read", "wrong"), [
    (remote.released, {}), (remote.released, {"ticket": 1.5}), (remote.released, {"ticket": 0}),
    (remote.released, {"ticket": 1, "freed_bytes": -1}), (remote.released, {"ticket": 1, "error": 5}),
    (remote.gauge, {"hook": "a"}), (remote.gauge, {"hook": "a", "evictable_bytes": "1"}),
    (remote.phase, {}), (remote.phase, {"phase": ""}), (remote.phase, {"phase": "x" * 65}),
    (remote.phase, {"phase": "a\x1b[2J"}), (remote.phase, {"phase": 5}),
    (remote.wanted, {"bytes": 0}), (remote.wanted, {"bytes": "most"}), (remote.wanted, {"bytes": True}),
    (remote.wanted, {"bytes": None}), (remote.wanted, {"hook": ""}), (remote.wanted, {"target": []}),
])
def test_other_messages_that_are_none(read: Callable[[Any], object], wrong: dict[str, object]) -> None:
    """The same for the other operations."""
    with pytest.raises(WireError):
        read(wrong)


@given(st.dictionaries(
    st.sampled_from(["name", "hook", "cost", "deadline_s", "minimum_bytes", "evictable_bytes", "target", "ticket",
                     "error", "freed_bytes", "phase", "bytes"]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)))
def test_whatever_comes_is_read_or_refused(message: dict[str, object]) -> None:
    """No value makes a reader do anything but return finite figures or raise WireError; what it returns can be sent."""
    for read in (remote.registration, remote.released, remote.gauge, remote.phase, remote.wanted):
        with contextlib.suppress(WireError):
            assert decode(encode({"read": read(message)}).rstrip(b"\n"))


# Clients of one process, with a loop of the test's own: only the targets are fakes


class FakeGuard:
    """A target that is there."""

    def __init__(self, name: str, pids: tuple[int, ...]) -> None:
        self.name, self.sensor, self.asked = name, self, []
        self._pids, self.problem = pids, ""

    def pids(self) -> tuple[int, ...]:
        """The target's processes."""
        return self._pids

    def release(self, action: Any, because: str) -> str:
        """Note what was asked for."""
        self.asked.append((action, because))
        return self.problem


class FakeGuards:
    """Targets, and the hooks that join."""

    def __init__(self, **pids: tuple[int, ...]) -> None:
        self.targets = [TargetPlan(name, "system" if name == "system" else "pid") for name in pids]
        self.by_name = {name: FakeGuard(name, each) for name, each in pids.items()}
        self.hooks: list[Hook] = []
        self.phases: dict[str, str | None] = {}
        self.join, self.part = self.hooks.append, self.hooks.remove

    def set_phase(self, target: str, phase: str | None) -> None:
        """Note it."""
        self.phases[target] = phase


class Loop:
    """Server, remotes and runner in a loop that the test turns."""

    def __init__(self, path: str, guards: FakeGuards, *, dry_run: bool = False, clock: Any = now_s) -> None:
        self.peers: list[Peer] = []
        self.poller, self.guards, self.runner = select.epoll(), guards, Runner(dry_run=dry_run)
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        log = Log(self.write_fd, is_journal=True)
        self.remotes = Remotes(guards, self.runner, self._send, log.event)  # type: ignore[arg-type]
        self.server = ControlServer(path, self.remotes.operations(), self.poller, log, on_gone=self.remotes.gone,
                                    clock=clock)
        self.log = log

    def _send(self, client_id: int, message: Any) -> bool:
        return self.server.send(client_id, message)

    def settle(self) -> None:
        """Serve until nothing is ready."""
        while ready := self.poller.poll(0):
            for fd, events in ready:
                assert self.server.handle(fd, events)

    def outcomes(self, after_s: float = 0.0) -> list[Outcome]:
        """Serve, and return what came of requests by now, or in so many seconds."""
        self.settle()
        return self.runner.poll(now_s() + after_s)

    def logged(self) -> str:
        """Return the log since the last look."""
        try:
            return os.read(self.read_fd, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        """Let go of everything."""
        for peer in self.peers:
            peer.socket.close()
        self.server.close()
        self.runner.close()
        self.log.close()
        self.poller.close()
        os.close(self.read_fd)
        os.close(self.write_fd)


class Peer:
    """A client that speaks when the test says so."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.socket = loop, socket.socket(socket.AF_UNIX)
        self.socket.connect(loop.server.path)
        self.socket.setblocking(False)
        loop.peers.append(self)
        loop.settle()

    def say(self, **message: object) -> Any:
        """Send a request and return its answer."""
        self.socket.send(json.dumps(message).encode() + b"\n")
        return self.heard()[-1]

    def heard(self) -> list[Any]:
        """Return what came meanwhile."""
        self.loop.settle()
        try:
            return [json.loads(line) for line in self.socket.recv(1 << 20).splitlines()]
        except (BlockingIOError, ConnectionResetError):
            return []

    def register(self, name: str = "a", **more: object) -> Any:
        """Register a hook that must be taken, and return the guard's own object of it."""
        assert self.say(op="register", name=name, **more)["ok"]
        return self.loop.guards.hooks[-1]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Loop]]:
    """Make loops: made(target=(pid, …), …)."""
    loops: list[Loop] = []

    def make(dry_run: bool = False, clock: Any = now_s, **pids: tuple[int, ...]) -> Loop:
        guards = FakeGuards(**(pids or {"app": ()}))
        loops.append(Loop(str(tmp_path / f"{len(loops)}.sock"), guards, dry_run=dry_run, clock=clock))
        return loops[-1]

    yield make
    for loop in loops:
        loop.close()


@pytest.fixture
def loop(made: Callable[..., Loop]) -> Loop:
    """A loop with one target."""
    return made()


@pytest.fixture
def peer(loop: Loop) -> Peer:
    """A client of it."""
    return Peer(loop)


ASK = Request(level=3, needed_bytes=5 * MIB, reason="because")


def test_a_hook_is_asked_and_answers(loop: Loop, peer: Peer) -> None:
    """The request goes out as documented; the answer is the outcome, under its ticket, with the time it took."""
    hook = peer.register("image-cache", cost=2, deadline_s=3, minimum_bytes=7, evictable_bytes=9 * MIB)
    assert (hook.name, hook.cost, hook.deadline_s, hook.minimum_bytes, hook.evictable_bytes, hook.targets) == (
        "image-cache", 2.0, 3.0, 7, 9 * MIB, ("app",))
    ticket = loop.runner.start(hook, ASK)
    assert peer.heard() == [{
        "v": 1, "event": "release", "hook": "image-cache", "ticket": ticket, "level": 3, "needed_bytes": 5 * MIB,
        "all": False, "deadline_s": 3.0, "reason": "because"}]
    assert loop.outcomes() == []
    assert peer.say(op="released", ticket=ticket, freed_bytes=4 * MIB)["result"] == {"ticket": ticket}
    [outcome] = loop.outcomes()
    assert (outcome.hook, outcome.ok, outcome.freed_bytes, outcome.ticket) == ("image-cache", True, 4 * MIB, ticket)
    assert outcome.duration_s > 0
    assert hook.calls == 1


@pytest.mark.parametrize(("answer", "ok", "why"), [
    ({"freed_bytes": None}, True, ""), ({}, True, ""), ({"error": "no lock to be had"}, False, "no lock to be had"),
    ({"error": "x" * 1000}, False, "x" * 200), ({"error": ""}, True, "")])
def test_what_an_answer_may_hold(loop: Loop, peer: Peer, answer: dict[str, object], ok: bool, why: str) -> None:
    """Nothing about bytes is fine; an error is a failure of the hook, in its own words, cut short."""
    ticket = loop.runner.start(hook := peer.register(), ASK)
    peer.say(op="released", ticket=ticket, **answer)
    [outcome] = loop.outcomes()
    assert (outcome.ok, outcome.why, hook.failures) == (ok, why, int(not ok))
    assert math.isnan(outcome.freed_bytes)


def test_a_client_that_hangs_fails_at_its_deadline(loop: Loop, peer: Peer) -> None:
    """Not a moment before; its late answer is refused, and after three such failures it is on hold."""
    hook = peer.register(deadline_s=1)
    for turn in range(3):
        ticket = loop.runner.start(hook, ASK)
        assert loop.outcomes(0.5) == []
        [outcome] = loop.outcomes(1.5)
        assert (outcome.ok, outcome.why) == (False, "deadline of 1 s passed")
        assert hook.is_on_hold(now_s()) is (turn == 2)
        assert "is over: its deadline has passed" in peer.say(op="released", ticket=ticket, freed_bytes=1)["error"]
        assert loop.outcomes() == []


def test_a_client_that_dies_takes_its_hooks_along(loop: Loop, peer: Peer) -> None:
    """What is under way fails at once with the reason, and is no fault of the hook; the log names what went."""
    hook, other = peer.register("a"), peer.register("b")
    loop.runner.start(hook, ASK)
    peer.socket.close()
    [outcome] = loop.outcomes()
    assert (outcome.ok, outcome.why, hook.failures) == (False, "its client is gone", 0)
    assert loop.guards.hooks == []
    assert "event=hooks-gone" in loop.logged()
    loop.runner.start(other, ASK)           # chosen before, asked after
    [outcome] = loop.outcomes()
    assert (outcome.ok, outcome.why) == (False, "its client is gone")


def test_a_hook_that_was_taken_back_is_asked_no_more(loop: Loop, peer: Peer) -> None:
    """Its request fails with that reason, its answer is nobody's, and the client's other hook is asked as before."""
    hook, other = peer.register("a"), peer.register("b")
    ticket = loop.runner.start(hook, ASK)
    assert [message.get("event") for message in peer.heard()] == ["release"]
    assert peer.say(op="unregister", hook="a")["ok"]
    assert [outcome.why for outcome in loop.outcomes()] == ["it was taken back"]
    assert "none of yours" in peer.say(op="released", ticket=ticket)["error"]
    assert loop.guards.hooks == [other]


def test_nobody_answers_for_another(loop: Loop, peer: Peer) -> None:
    """A ticket is its client's own: another one's answer, true or false, changes nothing."""
    other = Peer(loop)
    hook = peer.register()
    other.register("b")
    ticket = loop.runner.start(hook, ASK)
    assert "none of yours" in other.say(op="released", ticket=ticket, freed_bytes=1 << 50)["error"]
    assert "not registered on this connection" in other.say(op="gauge", hook="a", evictable_bytes=1)["error"]
    assert "not registered on this connection" in other.say(op="unregister", hook="a")["error"]
    assert loop.outcomes() == []


def test_a_dry_run_asks_nobody(made: Callable[..., Loop]) -> None:
    """The outcome is there, the client hears nothing."""
    loop = made(dry_run=True)
    peer = Peer(loop)
    loop.runner.start(peer.register(), ASK)
    assert [outcome.why for outcome in loop.outcomes()] == ["dry run"]
    assert peer.heard() == []


def test_workers_may_share_a_name(loop: Loop, peer: Peer) -> None:
    """Each has a hook of its own under the rules' one word; the name is free again when its bearer is gone."""
    others = [Peer(loop) for _ in range(2)]
    hooks = [each.register("cache") for each in (peer, *others)]
    assert [hook.name for hook in hooks] == ["cache", "cache:2", "cache:3"]
    assert all(hook.answers_to("cache") and hook.answers_to("any") and not hook.answers_to("c") for hook in hooks)
    loop.runner.start(hooks[1], ASK)
    assert others[0].heard()[0]["hook"] == "cache"
    others[0].socket.close()
    loop.settle()
    assert others[1].register("other").name == "other"
    assert Peer(loop).register("cache").name == "cache:2"


def test_names_that_are_taken(loop: Loop, peer: Peer) -> None:
    """`any` stands for every hook, and a hook of the guard's own is nobody else's."""
    loop.guards.hooks.append(Hook.from_call("pressure", lambda _request: None, is_inline=True))
    for name in ("any", "pressure"):
        assert "hook of the guard's own" in peer.say(op="register", name=name)["error"]


def test_to_register_again_changes_the_figures(loop: Loop, peer: Peer) -> None:
    """It is the same hook, with what was learned about it; another target needs another registration."""
    hook = peer.register(cost=1)
    hook.yield_bytes = 5.0
    assert peer.say(op="register", name="a", cost=3, evictable_bytes=7)["ok"]
    assert loop.guards.hooks == [hook]
    assert (hook.cost, hook.evictable_bytes, hook.yield_bytes) == (3.0, 7.0, 5.0)


def test_gauge_and_phase_reach_the_guard(loop: Loop, peer: Peer) -> None:
    """Bytes are the hook's, the phase is the target's; both can be taken back, and go with the client."""
    hook = peer.register()
    assert peer.say(op="gauge", hook="a", evictable_bytes=5)["ok"]
    assert hook.evictable_bytes == 5
    assert peer.say(op="gauge", hook="a", evictable_bytes=None)["ok"]
    assert math.isnan(hook.evictable_bytes)
    assert peer.say(op="state", phase="playback")["result"] == {"target": "app", "phase": "playback"}
    assert loop.guards.phases == {"app": "playback"}
    later = Peer(loop)
    later.say(op="state", phase="menu")
    peer.socket.close()
    loop.settle()
    assert loop.guards.phases == {"app": "menu"}        # somebody else said so last
    later.socket.close()
    loop.settle()
    assert loop.guards.phases == {"app": None}


@pytest.mark.parametrize(("pids", "named", "target"), [
    ({"one": ()}, "", "one"),
    ({"one": (), "two": (os.getpid(),)}, "", "two"),
    ({"outer": (1, 2, os.getpid()), "inner": (os.getpid(),)}, "", "inner"),
    ({"one": (), "system": ()}, "", "system"),
    ({"one": (), "two": (os.getpid(),)}, "one", "one"),
    ({"one": (), "two": ()}, "", "pid "),
    ({"one": (), "two": ()}, "three", "there is no target 'three'; there are one, two"),
])
def test_which_target_is_meant(
    made: Callable[..., Loop], pids: dict[str, tuple[int, ...]], named: str, target: str,
) -> None:
    """The one named, the innermost one around the client, the only one, the whole system; else an error."""
    peer = Peer(made(**pids))
    answer = peer.say(op="register", name="a", **({"target": named} if named else {}))
    assert answer["result"]["target"] == target if answer["ok"] else target in answer["error"]
    assert answer["ok"] is (target in pids)


def test_an_operator_asks_within_the_bounds(loop: Loop, peer: Peer) -> None:
    """The guard is handed the action and who wants it; what it says against it goes back."""
    guard = loop.guards.by_name["app"]
    assert peer.say(op="release")["result"] == {"target": "app", "hook": "any"}
    assert peer.say(op="release", hook="a", bytes=5)["ok"]
    [(first, because), (second, _)] = guard.asked
    assert (first.hook, first.release, second.hook, second.release) == ("any", ("needed", 0.0), "a", ("bytes", 5.0))
    assert because == f"asked for by pid {os.getpid()}, uid {os.geteuid()}"
    guard.problem = "a hook is at work"
    assert peer.say(op="release", bytes="all")["error"] == "nothing was asked for: a hook is at work"
    loop.guards.by_name.clear()
    assert "is not there now" in peer.say(op="release")["error"]


def test_hooks_are_bounded(made: Callable[..., Loop]) -> None:
    """So many a client, so many in all; one that leaves makes room."""
    loop = made(clock=iter(range(1 << 20)).__next__)        # a second a message: as slow as may be
    peers = [Peer(loop) for _ in range(HOOKS_MAX // HOOKS_PER_CLIENT + 1)]
    for peer in peers[:-1]:
        for number in range(HOOKS_PER_CLIENT):
            peer.register(f"h{number}")
    assert "a client has at most 64 hooks" in peers[0].say(op="register", name="more")["error"]
    assert "there are 1024 remote hooks already" in peers[-1].say(op="register", name="more")["error"]
    peers[0].socket.close()
    assert peers[-1].say(op="register", name="more")["ok"]


def test_hostile_clients_leave_nothing_behind(loop: Loop) -> None:
    """Those who register and vanish, flood, send half a line, no UTF-8, 100 KB or lies leave no hook, file, ticket."""
    hostile = (b'{"op":"register","name":"a"}\n', b'{"op":"register","name":"a"}\n' * 200, b'{"op":"register","na',
               b"\xff\xfe\n", b"x" * 100_000, b'{"op":"released","ticket":1,"freed_bytes":1e308}\n',
               b'{"op":"register","name":"a","cost":1e400}\n', b'{"op":"gauge","hook":"a","evictable_bytes":-1}\n')
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(400):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(loop.server.path)
            client.setblocking(False)
            client.send(hostile[turn % len(hostile)])
            loop.settle()
            if loop.guards.hooks and turn % 2 == 0:
                loop.runner.start(loop.guards.hooks[0], ASK)
        loop.outcomes()
        loop.logged()
    assert loop.guards.hooks == []
    assert loop.runner.in_flight == 0
    assert loop.remotes._owners == {}
    assert len(os.listdir("/proc/self/fd")) == before


def test_all_clients_together_hold_a_bounded_amount(loop: Loop) -> None:
    """Many half lines, each within its own bound, come to no more than the bound of all; the greediest goes."""
    peers = [Peer(loop) for _ in range(140)]
    for peer in peers:
        peer.socket.send(b"x" * 65_000)
        loop.settle()
    assert loop.server.clients < 140
    assert loop.server._held_bytes <= 8 << 20
    assert "all clients together" in loop.logged()
    for peer in peers:
        peer.socket.close()
    loop.settle()
    assert loop.server._held_bytes == 0


# A real guard


class Real:
    """A running `oomguard run` on the whole system, without a model."""

    def __init__(self, folder: str) -> None:
        self.speakers: list[Speaker] = []
        self.path, self.errors = f"{folder}/s", open(f"{folder}/errors", "wb")  # noqa: SIM115  as long as the guard
        self.log = Path(folder) / "log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("OOMGUARD_")}
        command = ["run", "--target", "system", "--model", "none", "--cadence", "100ms", "--socket", self.path,
                   "--log-json", str(self.log), "--runtime-dir", f"{folder}/rt"]
        self.process = subprocess.Popen([sys.executable, "-m", "oomguard", *command], stderr=self.errors,
                                        env=environ | {"RUNTIME_DIRECTORY": f"{folder}/rt"})
        until(self.log, '"event":"guarding"')

    def close(self) -> None:
        """End it."""
        for speaker in self.speakers:
            speaker.file.close()
            speaker.socket.close()
        self.process.terminate()
        self.process.wait()
        self.errors.close()


def until(log: Path, text: str) -> str:
    """Wait for a text in a log; return all of the log."""
    give_up_s = time.monotonic() + 20
    while not log.exists() or text not in log.read_text():
        assert time.monotonic() < give_up_s, log.read_text() if log.exists() else "no log"
        time.sleep(0.01)
    return log.read_text()


@pytest.fixture
def real() -> Iterator[Real]:
    """A guard that ends with the test."""
    with tempfile.TemporaryDirectory(prefix="og-") as folder:
        guard = Real(folder)
        yield guard
        guard.close()


class Speaker:
    """A client that waits for answers."""

    def __init__(self, real: Real) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        real.speakers.append(self)
        self.socket.settimeout(20)
        self.socket.connect(real.path)
        self.file = self.socket.makefile("rb")

    def say(self, line: str) -> None:
        """Send a line."""
        self.socket.sendall(line.encode() + b"\n")

    def hear(self) -> Any:
        """Return the next line."""
        return json.loads(self.file.readline())


VARYING = ("t_s", "freed_bytes", "duration_s", "requested_bytes", "claimed_bytes")


def like(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with figures that no two runs share put down to their kind."""
    return {key: "number" if key in VARYING and (value is None or isinstance(value, (int, float))) else
            re.sub(r"pid \d+, uid \d+|(?<=op is one of ).*", "…", value) if isinstance(value, str) else value
            for key, value in message.items()}


def test_the_transcript_of_the_page_is_what_a_guard_says(real: Real) -> None:
    """Each line said gets the lines heard, key by key, in this order on each connection."""
    [transcript] = re.findall(r"^```transcript\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    ends = {name: Speaker(real) for name in "AB"}
    lines = transcript.splitlines()
    assert len(lines) > 20
    until(real.log, '"event":"guarding"')
    for line in lines:
        end, text = ends[line[0]], line[3:]
        if line[1] == ">":
            end.say(text)
        else:
            assert like(end.hear()) == like(json.loads(text))


def test_the_page_names_every_operation(real: Real) -> None:
    """What a guard takes stands in one of the two tables, and nothing else does."""
    speaker = Speaker(real)
    speaker.say("{}")
    taken = speaker.hear()["error"].removeprefix("op is one of ").split(", ")
    tables = PAGE[PAGE.index("## What an app may ask"):PAGE.index("## Bounds")]
    assert sorted(taken) == sorted(set(re.findall(r"^\| `(\w+)` \|.*\|.*\|$", tables, re.MULTILINE)) - {"op"})


def test_the_page_states_the_bounds_of_the_code() -> None:
    """Every number of the table is the code's own."""
    from oomguard.tell import connection, control, wire

    assert f"| clients | {control.CLIENTS_MAX} |" in PAGE
    assert f"| a line | {wire.REQUEST_MAX_BYTES >> 10} KiB |" in PAGE
    assert f"{connection.MESSAGES_PER_S:.0f} a second, {connection.BURST:.0f} at once" in PAGE
    assert f"one client | {control.BACKLOG_MAX_BYTES >> 10} KiB |" in PAGE
    assert f"together | {control.HELD_MAX_BYTES >> 20} MiB |" in PAGE
    assert f"{HOOKS_PER_CLIENT} a client, {HOOKS_MAX:,} together" in PAGE


def test_a_client_that_lies_is_found_out(real: Real) -> None:
    """It claims a gigabyte, the samples show nothing: the report says so."""
    liar = Speaker(real)
    liar.say('{"op":"register","name":"liar"}')
    assert liar.hear()["ok"]
    liar.say('{"op":"subscribe","events":["release"]}')
    assert liar.hear()["ok"]
    liar.say('{"op":"release","hook":"liar","bytes":1048576}')
    asked = [liar.hear(), liar.hear()]
    ticket = next(message["ticket"] for message in asked if "ticket" in message)
    liar.say(json.dumps({"op": "released", "ticket": ticket, "freed_bytes": 1 << 40}))
    assert liar.hear()["ok"]
    report = liar.hear()
    assert (report["event"], report["claimed_bytes"], report["ok"]) == ("release", 1 << 40, True)
    assert "the samples show" in report["why"]


def test_a_frozen_client_costs_the_guard_nothing_but_the_hook(real: Real) -> None:
    """A client stopped by SIGSTOP fails at its deadline; the guard ticks on, and its end takes the hook along."""
    hello = b'{"op":"register","name":"frozen","deadline_s":0.2}\n'
    code = (f"import socket, time; s = socket.socket(socket.AF_UNIX); s.connect({real.path!r}); s.sendall({hello!r});"
            "s.recv(999); print(1, flush=True); time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
    operator = Speaker(real)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGSTOP)
        operator.say('{"op":"release","hook":"frozen","bytes":"all"}')
        assert operator.hear()["ok"]
        until(real.log, "deadline of 0.2 s passed")
    finally:
        child.kill()
        child.communicate()
    until(real.log, '"event":"hooks-gone"')
    operator.say('{"op":"status"}')
    assert operator.hear()["result"]["targets"][0]["hooks"] == []


def test_a_reload_keeps_the_hooks_of_clients(real: Real) -> None:
    """Rules may change under them; they and the phase stay."""
    app = Speaker(real)
    app.say('{"op":"register","name":"kept"}')
    assert app.hear()["ok"]
    done = subprocess.run([sys.executable, "-m", "oomguard", "reload", "--socket", real.path],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    app.say('{"op":"status"}')
    assert [hook["name"] for hook in app.hear()["result"]["targets"][0]["hooks"]] == ["kept"]
