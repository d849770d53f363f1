"""The control server against real sockets: what it answers, whom it refuses, what it survives."""

import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import threading
from contextlib import suppress

import pytest

from oomguard.errors import NotPermittedError, UsageError
from oomguard.tell import control, door
from oomguard.tell.client import NobodyListensError, RefusedError, ask, follow
from oomguard.tell.connection import BURST, Client
from oomguard.tell.control import BACKLOG_MAX_BYTES, CLIENTS_MAX, ControlServer
from oomguard.tell.door import AlreadyListeningError
from oomguard.tell.log import Log
from oomguard.tell.peer import Peer, may_speak, peer_of


class Daemon:
    """A server with the loop a daemon gives it, one turn at a time or on a thread."""

    def __init__(self, path, **options):
        self.epoll = select.epoll()
        self.log_read, self.log_write = os.pipe()
        os.set_blocking(self.log_read, False)
        self.log = Log(self.log_write, is_journal=True)
        self.gone = []
        handlers = {"status": lambda request, client: {"targets": [], "asked_by": client.peer.pid},
                    "broken": lambda request, client: 1 / 0, "echo": lambda request, client: {"got": request},
                    "odd": lambda request, client: {"odd": object()}, "no": self.say_no}
        self.server = ControlServer(path, handlers, self.epoll, self.log, on_gone=self.gone.append, **options)
        self.is_ending = False

    def say_no(self, request, client):
        """Be a handler that refuses."""
        raise UsageError("there is no such target")

    def turn(self, timeout_s=0.0):
        """Serve what is ready; return how many descriptors were."""
        ready = self.epoll.poll(timeout_s)
        for fd, events in ready:
            assert self.server.handle(fd, events)
        return len(ready)

    def settle(self):
        """Serve until nothing is ready."""
        for _turn in range(10_000):
            if not self.turn():
                return
        raise AssertionError("the loop spins")

    def run(self):
        """Serve until told to end."""
        while not self.is_ending:
            self.turn(0.05)

    def logged(self):
        """Return the log since the last look."""
        try:
            return os.read(self.log_read, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def close(self):
        """Let go of everything."""
        self.server.close()
        self.log.close()
        self.epoll.close()
        os.close(self.log_read)
        os.close(self.log_write)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "control.sock")


@pytest.fixture
def daemon(path):
    made = Daemon(path)
    yield made
    made.close()


@pytest.fixture
def running(daemon):
    """The daemon's loop on a thread, for clients that block."""
    thread = threading.Thread(target=daemon.run)
    thread.start()
    yield daemon
    daemon.is_ending = True
    thread.join()


def connect(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(path)
    return connection


def exchange(daemon, connection, data):
    """Send bytes, let the daemon serve, and return the lines that came back."""
    connection.sendall(data)
    daemon.settle()
    return received(connection)


def received(connection):
    connection.setblocking(False)
    data = b""
    try:
        while chunk := connection.recv(1 << 16):
            data += chunk
    except (BlockingIOError, ConnectionResetError):
        pass
    connection.setblocking(True)
    return [json.loads(line) for line in data.splitlines()]


def is_closed(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def open_fds():
    return len(os.listdir("/proc/self/fd"))


# What is answered


def test_a_request_is_answered_with_its_id(daemon, path):
    """Status comes back as a result with the version and the caller's id; the handler knows who asked."""
    with connect(path) as client:
        assert exchange(daemon, client, b'{"op": "status", "id": 7}\n') == [
            {"v": 1, "id": 7, "ok": True, "result": {"targets": [], "asked_by": os.getpid()}}]


def test_several_requests_in_one_write_are_answered_in_order(daemon, path):
    """Lines may come together or in pieces."""
    with connect(path) as client:
        client.sendall(b'{"op":"echo","id":1}\n{"op":"echo","id":2}\n{"op":"ec')
        daemon.settle()
        assert [answer["id"] for answer in exchange(daemon, client, b'ho","id":3}\n')] == [1, 2, 3]


@pytest.mark.parametrize(("line", "reason"), [
    (b'{"op": "status", "v": 2}', "speaks version 1"),
    (b'{"op": "shutdown"}', "op is one of broken, echo, no, odd, status, subscribe"),
    (b'{"op": ["status"]}', "op is one of"),
    (b"{}", "op is one of"),
    (b'{"op": "no"}', "there is no such target"),
    (b'{"op": "subscribe", "events": "level"}', "events is a list"),
    (b'{"op": "subscribe", "events": [1]}', "events is a list"),
    (b"[" * 60_000, "nested too deep"),
    (b"\xff\xfe", "not UTF-8"),
    (b"GET / HTTP/1.1\r", "not JSON"),
    (b'{"op": "sta', "not JSON"),
])
def test_a_wrong_line_gets_one_error_line_and_the_connection_goes_on(daemon, path, line, reason):
    """One error line per wrong line; the next request on the same connection is served."""
    with connect(path) as client:
        [answer] = exchange(daemon, client, line + b"\n")
        assert answer["ok"] is False
        assert reason in answer["error"]
        assert exchange(daemon, client, b'{"op": "status"}\n')[0]["ok"] is True


@pytest.mark.parametrize("op", ["broken", "odd"])
def test_a_handlers_mistake_is_logged_and_not_fatal(daemon, path, op):
    """A handler that raises, or returns what is no JSON, gives an error line and a log line that names it."""
    with connect(path) as client:
        [answer] = exchange(daemon, client, b'{"op": "%s"}\n' % op.encode())
    assert answer["error"] == "internal error, see the guard's log"
    assert f"event=handler-failed op={op}" in daemon.logged()


# What is refused


def test_a_line_without_end_ends_the_connection(daemon, path):
    """A sender of 100 MB without a newline gets one error line, and at most 128 KiB of it are ever held."""
    before = open_fds()
    with connect(path) as client:
        client.setblocking(False)
        sent, block = 0, b"x" * (1 << 20)
        try:
            while sent < 100 << 20:
                try:
                    sent += client.send(block)
                except BlockingIOError:
                    daemon.turn()
        except (BrokenPipeError, ConnectionResetError):
            pass
        daemon.settle()
        assert sent < 2 << 20
        [answer] = received(client)
        assert answer["error"] == "a line is longer than 65536 bytes"
    assert daemon.server.clients == 0
    assert open_fds() == before


def test_a_half_line_is_named_when_the_sender_ends(daemon, path):
    """End of file in mid-line is answered: the sender may still be reading."""
    with connect(path) as client:
        client.sendall(b'{"op": "status"}')
        client.shutdown(socket.SHUT_WR)
        daemon.settle()
        assert received(client)[0]["error"] == "the last line has no newline (16 bytes)"
    assert daemon.server.clients == 0


def test_a_client_that_asks_too_fast_is_dropped(path):
    """More than the burst at once ends the connection with a reason; the clock alone refills it."""
    daemon = Daemon(path, clock=lambda: 5.0)
    with connect(path) as client:
        answers = exchange(daemon, client, b"{}\n" * int(BURST + 1))
        assert len(answers) == BURST + 1
        assert answers[-1]["error"] == "more than 200 messages a second"
        assert is_closed(client)
    daemon.close()


def test_a_client_at_the_allowed_rate_is_served():
    """200 a second for ten seconds never runs out of tokens; 300 a second does."""
    left, right = socket.socketpair()
    with left, right:
        steady, hasty = (Client(left, Peer(1, 0, (0,)), 1, 0.0) for _ in range(2))
        assert all(steady.may_ask(turn / 200) for turn in range(2000))
        assert [hasty.may_ask(turn / 300) for turn in range(2000)].count(False) > 100


def test_one_client_too_many_is_told_so(daemon, path):
    """All of 256 are served; the next gets a reason and the others stay; when one leaves there is room again."""
    clients = []
    for _turn in range(CLIENTS_MAX):
        clients.append(connect(path))
        daemon.settle()
    with connect(path) as one_more:
        daemon.settle()
        assert received(one_more)[0]["error"] == f"{CLIENTS_MAX} clients are connected already"
        assert is_closed(one_more)
    clients.pop().close()
    daemon.settle()
    with connect(path) as late:
        assert exchange(daemon, late, b'{"op":"status"}\n')[0]["ok"] is True
    for client in clients:
        client.close()
    daemon.settle()
    assert daemon.server.clients == 0
    assert len(daemon.gone) == CLIENTS_MAX + 1


@pytest.mark.parametrize(("peer", "group_gid", "may"), [
    (Peer(1, 0, (0,)), -1, True),
    (Peer(1, os.geteuid(), (77,)), -1, True),
    (Peer(1, 12345, (77,)), -1, False),
    (Peer(1, 12345, (77,)), 77, True),
    (Peer(1, 12345, (5, 77)), 77, True),
    (Peer(1, 12345, (5,)), 77, False),
])
def test_who_may_speak(peer, group_gid, may):
    """Root, our own uid, and members of the configured group, by primary or further group."""
    assert may_speak(peer, group_gid) is may


def ask_as(path, uid, groups):
    """Connect as another user in a child process; return the first line it read."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups(groups)
        os.setresgid(12345, 12345, 12345)
        os.setresuid(uid, uid, uid)
        try:
            with connect(path) as client:
                with suppress(BrokenPipeError):     # refused already: the reason is there to read
                    client.sendall(b'{"op":"status"}\n')
                os.write(write_end, client.recv(1 << 16))
        except OSError as error:
            os.write(write_end, json.dumps({"error": error.strerror}).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    answer = os.read(read_end, 1 << 16)
    os.close(read_end)
    os.close(write_end)
    return json.loads(answer.splitlines()[0])


@pytest.fixture
def shared_path(tmp_path_factory):
    """A path that other users can reach: the socket's own mode and the peer check must keep them out."""
    if os.geteuid() != 0:
        pytest.skip("needs root to act as another user")
    folder = f"/tmp/oomguard-test-{os.getpid()}"
    os.mkdir(folder, 0o755)
    os.chmod(folder, 0o755)
    yield folder + "/control.sock"
    os.rmdir(folder)


@pytest.fixture
def grouped(shared_path):
    """A running daemon whose group is 4242."""
    daemon = Daemon(shared_path, group_gid=4242)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    yield daemon
    daemon.is_ending = True
    thread.join()
    daemon.close()


def test_another_user_is_refused(grouped, shared_path):
    """Without the group the file mode refuses; with the mode opened by mistake the peer check does."""
    assert stat.S_IMODE(os.stat(shared_path).st_mode) == 0o660
    assert os.stat(shared_path).st_gid == 4242
    assert ask_as(shared_path, 12345, []) == {"error": "Permission denied"}
    os.chmod(shared_path, 0o666)
    assert "uid 12345 may not speak" in ask_as(shared_path, 12345, [])["error"]
    assert "event=client-refused" in grouped.logged()


def test_a_group_member_is_served(grouped, shared_path):
    """A member by supplementary group passes both the mode and the peer check."""
    assert ask_as(shared_path, 12345, [4242])["ok"] is True


def test_the_peer_is_who_the_kernel_says():
    """pid, uid and groups are ours on a pair of our own."""
    left, right = socket.socketpair()
    with left, right:
        peer = peer_of(left)
    assert (peer.pid, peer.uid, peer.groups[0]) == (os.getpid(), os.geteuid(), os.getegid())
    assert set(os.getgroups()) <= set(peer.groups)


# Events


def test_subscribers_hear_what_they_asked_for(daemon, path):
    """All events without names, only the named ones with; a client that did not subscribe hears none."""
    with connect(path) as everything, connect(path) as levels, connect(path) as asker:
        assert exchange(daemon, everything, b'{"op":"subscribe"}\n')[0]["result"] == {"events": []}
        exchange(daemon, levels, b'{"op":"subscribe","events":["level"]}\n')
        exchange(daemon, asker, b'{"op":"status"}\n')
        assert daemon.server.subscribers == 2
        event = {"event": "level", "target": "app", "level": 3, "p60": float("nan")}
        assert daemon.server.publish(event) == 2
        assert daemon.server.publish({"event": "decision", "target": "app"}) == 1
        assert received(levels) == [{"v": 1, "event": "level", "target": "app", "level": 3, "p60": None}]
        assert [event["event"] for event in received(everything)] == ["level", "decision"]
        assert received(asker) == []


def test_nobody_subscribed_costs_nothing(daemon):
    """Publishing to nobody is nought, even of what could not be sent."""
    assert daemon.server.publish({"event": "level", "odd": object()}) == 0


def test_an_event_that_cannot_be_sent_is_logged(daemon, path):
    """An event that is no JSON reaches the log, not the clients, and raises nothing."""
    with connect(path) as client:
        exchange(daemon, client, b'{"op":"subscribe"}\n')
        assert daemon.server.publish({"event": "level", "odd": object()}) == 0
        assert received(client) == []
    assert "event=event-not-published" in daemon.logged()


def test_a_subscriber_that_does_not_read_is_dropped(daemon, path):
    """It is dropped once more than 256 KiB wait for it, with a log line; the others hear everything."""
    with connect(path) as asleep, connect(path) as awake:
        for client in (asleep, awake):
            exchange(daemon, client, b'{"op":"subscribe"}\n')
        heard, published = 0, 0
        while daemon.server.subscribers == 2 and published < 10_000:
            daemon.server.publish({"event": "level", "text": "x" * 1000})
            published += 1
            daemon.settle()
            heard += len(received(awake))
        assert heard == published
        assert BACKLOG_MAX_BYTES / 1100 < published < 1500
        assert daemon.server.subscribers == 1
    assert 'event=client-dropped because="it does not read"' in daemon.logged()


def test_a_slow_subscriber_that_catches_up_hears_everything(daemon, path):
    """What the socket did not take at once is kept, in order, and sent when there is room."""
    with connect(path) as client:
        exchange(daemon, client, b'{"op":"subscribe"}\n')
        for index in range(300):
            daemon.server.publish({"event": "level", "index": index, "text": "x" * 1000})
        heard = []
        while len(heard) < 300:
            daemon.settle()
            got = received_part(client)
            assert got
            heard.append(got)
            if b"".join(heard).count(b"\n") == 300:
                break
        assert [json.loads(line)["index"] for line in b"".join(heard).splitlines()] == list(range(300))
        daemon.settle()


def received_part(connection):
    connection.settimeout(5)
    return connection.recv(1 << 16)


def test_a_message_can_be_sent_to_one_client(daemon, path):
    """A handler that kept a client's id can speak to it later, until it is gone; then its id is reported."""
    met = []
    daemon.server._handlers["register"] = lambda request, client: met.append(client.id) or {}
    with connect(path) as client:
        exchange(daemon, client, b'{"op":"register"}\n')
        assert daemon.server.send(met[0], {"event": "release", "needed_bytes": 5})
        assert received(client) == [{"v": 1, "event": "release", "needed_bytes": 5}]
    daemon.settle()
    assert not daemon.server.send(met[0], {"event": "release"})
    assert daemon.gone == met


# The socket's life


def test_a_dead_daemons_socket_is_replaced(path):
    """After kill -9 the file is still there; the next daemon takes its place."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        held = door.listen(path)
        os.write(write_end, b"r")
        signal.pause()
        held.close()
        os._exit(0)
    os.read(read_end, 1)
    with pytest.raises(AlreadyListeningError, match=f"pid {pid}"):
        door.listen(path)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(read_end)
    os.close(write_end)
    assert os.path.exists(path)
    daemon = Daemon(path)
    with connect(path) as client:
        assert exchange(daemon, client, b'{"op":"status"}\n')[0]["ok"] is True
    daemon.close()
    assert os.listdir(os.path.dirname(path)) == []


def test_a_live_daemons_socket_is_refused(daemon, path):
    """A second daemon does not steal it, leaks nothing, and says whose it is."""
    before = open_fds()
    with pytest.raises(AlreadyListeningError, match=f"pid {os.getpid()}"):
        door.listen(path)
    assert open_fds() == before
    daemon.settle()
    assert daemon.server.clients == 0


def test_what_is_no_socket_is_left_alone(tmp_path):
    """A file in its place, a missing folder and a path too long are errors that say what to do."""
    (tmp_path / "file").write_text("precious")
    before = open_fds()
    with pytest.raises(UsageError, match="is no socket"):
        door.listen(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(NotPermittedError, match="No such file"):
        door.listen(str(tmp_path / "gone" / "s"))
    with pytest.raises(UsageError, match="longer than"):
        door.listen("/tmp/" + "x" * 100)
    assert open_fds() == before


def test_closing_leaves_a_successors_socket(path):
    """A daemon that ends late does not remove the socket of the one that replaced it."""
    first = Daemon(path)
    os.unlink(path)
    second = Daemon(path)
    first.close()
    with connect(path) as client:
        assert exchange(second, client, b'{"op":"status"}\n')[0]["ok"] is True
    second.close()


def test_without_descriptors_clients_are_turned_away_and_the_loop_rests(daemon, path):
    """At the descriptor limit a client is turned away, the loop is not woken for ever; then all is well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = connect(path)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:
            try:
                held.append(os.dup(0))
            except OSError:
                break
        daemon.settle()
        assert is_closed(client)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    client.close()
    with connect(path) as late:
        assert exchange(daemon, late, b'{"op":"status"}\n')[0]["ok"] is True


def test_nothing_leaks_over_many_hostile_clients(daemon, path):
    """A thousand clients that vanish at every stage leave no descriptor and no client behind."""
    before = open_fds()
    hostile = (b"", b"{", b"{}\n", b'{"op":"subscribe"}\n', b"x" * 70_000, b"\xff\n" * 60,
               b"[" * 60_000 + b"\n")
    for turn in range(1000):
        client = connect(path)
        client.setblocking(False)
        client.send(hostile[turn % len(hostile)])
        if turn % 3:
            daemon.turn()
        if turn % 5 == 0:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        daemon.settle()
        if turn % 50 == 0:
            daemon.server.publish({"event": "level"})
            daemon.logged()
    daemon.settle()
    assert daemon.server.clients == 0
    assert daemon.server.fds() == (daemon.server._door.fileno(),)
    assert open_fds() == before


def test_an_event_for_a_client_already_gone_is_nobodys(daemon, path):
    """A descriptor that is not ours is left to the daemon."""
    assert daemon.server.handle(99_999, select.EPOLLIN) is False


# The client


def test_ask_returns_the_result(running, path):
    """The round trip of `oomguard status`."""
    assert ask(path, {"op": "status"})["asked_by"] == os.getpid()


def test_ask_says_why_it_was_refused(running, path):
    """The daemon's own words reach the caller."""
    with pytest.raises(RefusedError, match="there is no such target"):
        ask(path, {"op": "no"})


def test_a_large_answer_comes_whole(running, path):
    """An answer of many times the socket's buffer arrives in one piece."""
    running.server._handlers["large"] = lambda request, client: {"text": "x" * 900_000}
    assert len(ask(path, {"op": "large"})["text"]) == 900_000


def test_follow_yields_events_until_the_daemon_ends(path):
    """Events come in order, and the end of the daemon is the end of the iterator."""
    daemon = Daemon(path)

    def serve():
        while not daemon.server.subscribers:
            daemon.turn(0.05)
        for index in range(3):
            daemon.server.publish({"event": "level", "index": index})
        daemon.server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert [event["index"] for event in follow(path, ["level"])] == [0, 1, 2]
    thread.join()
    daemon.close()


def test_nobody_there_says_what_to_do(tmp_path):
    """No file and no listener: both name the path and `oomguard run`."""
    before = open_fds()
    with pytest.raises(NobodyListensError, match="oomguard run"):
        ask(str(tmp_path / "none"), {"op": "status"})
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "left"))
    left.close()
    with pytest.raises(NobodyListensError, match="Connection refused"):
        next(follow(str(tmp_path / "left")))
    assert open_fds() == before


def test_a_daemon_that_does_not_answer_times_out(path):
    """A stopped daemon is an error, not a wait without end."""
    listener = door.listen(path)
    with pytest.raises(NobodyListensError, match="does not answer"):
        ask(path, {"op": "status"}, timeout_s=0.05)
    listener.close()


@pytest.mark.parametrize("answer", [b"\xff\n", b"[]\n", b"{}\n", b'{"ok":true,"result":3}\n', b""])
def test_an_impostors_answer_is_an_error(path, answer):
    """Whatever answers, the client raises one of its own errors."""
    listener = door.listen(path)
    listener.setblocking(True)

    def serve():
        fd, _address = listener._accept()
        os.read(fd, 4096)
        os.write(fd, answer)
        os.close(fd)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(control.OomguardError):
        ask(path, {"op": "status"})
    thread.join()
    listener.close()
