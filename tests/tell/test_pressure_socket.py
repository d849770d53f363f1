"""The service's pressure socket: who may listen, what they hear, and what outlives the guard (PROTOCOLS 1)."""

import array
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from oomguard.clock import now_s
from oomguard.errors import NotPermittedError
from oomguard.tell import pressure_socket as module
from oomguard.tell.consumer import PressureAlarm
from oomguard.tell.pressure_socket import NAME, PressureSocket
from oomguard.tell.service import ServiceManager, passed_descriptors
from oomguard.tell.watched import Watched

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(module.__file__)))


def everyone(_peer):
    return True


class Manager:
    """A service manager's descriptor store, as systemd keeps it: what was given, by name."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": path}
        self.store = {}

    def hear(self):
        """Take in every message that has come."""
        while True:
            try:
                data, rights, _flags, _address = self.socket.recvmsg(4096, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return self.store
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            for _level, kind, payload in rights:
                assert kind == socket.SCM_RIGHTS
                assert fields["FDSTORE"] == "1"
                self.store[fields["FDNAME"]] = array.array("i", payload)[0]
            if fields.get("FDSTOREREMOVE") == "1":
                os.close(self.store.pop(fields["FDNAME"]))

    def close(self):
        """Let everything go."""
        self.hear()
        for fd in self.store.values():
            os.close(fd)
        self.socket.close()


class Bench:
    """A pressure socket in a real epoll, with a service manager and an app's side."""

    def __init__(self, tmp_path, listener=None, manager=None):
        self.said, self.changes, self.at_s = [], 0, 100.0
        self.manager = manager or Manager(str(tmp_path / "notify"))
        self.service = ServiceManager(self.manager.environ)
        self.poller = select.epoll()
        self.path = str(tmp_path / "pressure")
        if listener is None:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.path)
            listener.listen(200)
        self.socket = PressureSocket(listener, self.poller, self.service, self._tell, on_change=self._change,
                                     clock=lambda: self.at_s)
        self.apps = []

    def _tell(self, event, severity="info", /, **fields):
        self.said.append((event, fields))

    def _change(self):
        self.changes += 1

    def turn(self):
        """Serve all that has come."""
        while ready := self.poller.poll(0):
            for fd, events in ready:
                assert self.socket.handle(fd, events)

    def app(self, write=b""):
        """Connect an app, as the protocol's steps say: connect, then write what WRITE holds."""
        app = socket.socket(socket.AF_UNIX)
        app.setblocking(False)
        app.connect(self.path)
        if write:
            app.send(write)
        self.apps.append(app)
        self.turn()
        return app

    def events(self, name):
        """Return the fields of each event of this name."""
        return [fields for event, fields in self.said if event == name]

    def close(self):
        """Let everything go."""
        for app in self.apps:
            app.close()
        self.socket.close()
        self.poller.close()
        self.service.close()
        self.manager.close()


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.close()


def heard(app):
    """Return how many bytes an app finds; -1 at the end."""
    try:
        return len(app.recv(4096)) or -1
    except BlockingIOError:
        return 0


# Vectors


def test_a_consumer_writes_hello_and_is_answered(bench):
    """Vector: the peer reads `hello` of WRITE=aGVsbG8K, answers a byte, and the consumer is woken by it once."""
    app = bench.app(b"hello\n")
    assert bench.socket.consumers[0].wish == b"hello\n"
    assert heard(app) == 0
    assert bench.socket.tell(2, 100.0, everyone) == 1
    assert heard(app) == 1
    assert heard(app) == 0


def test_random_bytes_are_remembered(bench):
    """Vector: 128 random bytes of WRITE are kept as they are."""
    data = os.urandom(128)
    bench.app(data)
    assert bench.socket.consumers[0].wish == data


def test_our_own_consumer_hears_our_own_producer(bench):
    """The consumer written after the protocol's steps is woken by the socket, through a real epoll."""
    poller = select.epoll()
    alarm = PressureAlarm(poller, lambda *_a, **_k: None)
    alarm.start((Watched(bench.path, b"some 200000 2000000\0"),))
    bench.turn()
    assert bench.socket.consumers[0].wish == b"some 200000 2000000\0"
    assert not alarm.is_due()
    bench.socket.tell(1, 100.0, everyone)
    for fd, events in poller.poll(5):
        assert alarm.handle(fd, events)
    assert alarm.is_due()
    alarm.close()
    poller.close()


def test_no_urgent_data_is_sent(bench):
    """MSG_OOB gives libsystemd two callbacks per event: poll sees plain data only."""
    app = bench.app()
    bench.socket.tell(5, 100.0, everyone)
    poll = select.poll()
    poll.register(app, select.POLLIN | select.POLLPRI)
    assert poll.poll(0) == [(app.fileno(), select.POLLIN)]


# What is told


def test_one_byte_per_two_seconds_and_step(bench):
    """Told at 4 Hz for ten seconds: five bytes; a rising level is told at once."""
    app = bench.app()
    for tick in range(40):
        bench.socket.tell(2, 100.0 + tick / 4, everyone)
    assert heard(app) == 5
    for level in (3, 4, 5, 5, 4, 2):
        bench.socket.tell(level, 110.0, everyone)
    assert heard(app) == 3


def test_level_nought_is_silence(bench):
    """There is no all-clear."""
    app = bench.app()
    assert bench.socket.tell(0, 100.0, everyone) == 1
    assert heard(app) == 0


def test_only_who_is_meant_is_told(bench):
    """A target's level is for the apps in it."""
    app = bench.app()
    assert bench.socket.tell(3, 100.0, lambda peer: peer.pid != os.getpid()) == 0
    assert heard(app) == 0
    assert bench.socket.tell(3, 100.0, lambda peer: peer.pid == os.getpid()) == 1
    assert heard(app) == 1


# Who comes and goes


def test_each_connection_is_given_to_the_service_manager(bench):
    """Every consumer is in the store under a name of its own, and out of it once it has gone."""
    bench.app()
    second = bench.app()
    third = bench.app()
    assert sorted(bench.manager.hear()) == ["pressure-1", "pressure-2", "pressure-3"]
    second.close()
    bench.turn()
    assert sorted(bench.manager.hear()) == ["pressure-1", "pressure-3"]
    bench.app()
    assert sorted(bench.manager.hear()) == ["pressure-1", "pressure-2", "pressure-3"]
    assert len(bench.events("consumer-came")) == 4
    assert bench.events("consumer-gone")[0]["because"] == "it has gone"
    assert bench.changes == 5
    third.close()


def test_a_restart_takes_the_connections_back(bench, tmp_path):
    """The next guard finds the same connections, tells the same apps, and they notice nothing."""
    apps = [bench.app(), bench.app()]
    bench.manager.hear()
    bench.socket.tell(1, 100.0, everyone)
    listener = socket.socket(fileno=os.dup(bench.socket._listener.fileno()))
    bench.socket.close()
    assert [heard(app) for app in apps] == [1, 1]       # and no end
    successor = Bench(tmp_path, listener, bench.manager)
    kept, bench.manager.store = bench.manager.store, {}
    assert successor.socket.take_back((fd, name) for name, fd in kept.items()) == 2
    assert successor.socket.tell(1, 101.0, everyone) == 2
    assert [heard(app) for app in apps] == [1, 1]
    assert heard(successor.app()) == 0
    assert list(bench.manager.hear()) == ["pressure-3"]         # no name is given twice
    for app in successor.apps:
        app.close()
    successor.socket.close()
    successor.service.close()
    successor.poller.close()


def test_a_consumer_that_went_meanwhile_is_dropped(bench):
    """A kept connection whose app has ended is seen by epoll, and forgotten."""
    ours, theirs = socket.socketpair()
    theirs.close()
    bench.socket.take_back([(ours.detach(), "pressure-9")])
    bench.manager.store["pressure-9"] = os.open("/dev/null", os.O_RDONLY)
    bench.turn()
    assert bench.socket.consumers == ()
    assert bench.manager.hear() == {}


def test_a_kept_descriptor_that_is_no_connection_is_closed(bench):
    """A file and a number that is nothing are no consumers."""
    fd = os.open("/dev/null", os.O_RDONLY)
    bench.manager.store = {"pressure-1": os.dup(fd), "pressure-2": os.dup(fd)}
    assert bench.socket.take_back([(fd, "pressure-1"), (99999, "pressure-2")]) == 0
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    assert bench.manager.hear() == {}


def test_an_app_that_went_is_noticed_when_it_is_told(bench):
    """Also without a turn of epoll between, a consumer that is gone is dropped and the others are told."""
    gone, there = bench.app(), bench.app()
    gone.close()
    bench.socket.tell(2, 100.0, everyone)
    assert len(bench.socket.consumers) == 1
    assert heard(there) == 1


def test_a_stuck_app_keeps_a_bounded_number_of_bytes(bench):
    """An app that never reads holds some ten bytes of the kernel's buffer, blocks nobody, and stays."""
    stuck, there = bench.app(), bench.app()
    for turn in range(50):
        bench.socket.tell(2, 100.0 + 2 * turn, everyone)
        assert heard(there) == 1
    assert bench.socket.consumers[0].stuck_since_s < 150.0
    assert 0 < heard(stuck) < 20
    bench.socket.tell(2, 300.0, everyone)
    assert heard(stuck) == 1                                    # it reads again: as if nothing had been
    assert bench.socket.consumers[0].stuck_since_s == float("inf")


def test_others_wait_at_the_door_when_it_is_full(bench, monkeypatch):
    """Nobody is accepted and hung up: a newcomer waits in the queue, and comes in when a place is free."""
    monkeypatch.setattr(module, "CONSUMERS_MAX", 2)
    first, _second = bench.app(), bench.app()
    third = bench.app()
    assert len(bench.socket.consumers) == 2
    assert len(bench.events("consumers-wait")) == 1
    assert bench.poller.poll(0) == []                           # no spin
    assert heard(third) == 0                                    # and no hang-up
    bench.socket.tend()
    assert bench.poller.poll(0) == []
    first.close()
    bench.turn()
    bench.socket.tend()
    bench.turn()
    assert len(bench.socket.consumers) == 2
    bench.socket.tell(1, 100.0, everyone)
    assert heard(third) == 1


def test_who_has_not_read_for_ten_minutes_makes_room(bench, monkeypatch):
    """A full house turns out the one that does not read, not before ten minutes, and no one who does."""
    monkeypatch.setattr(module, "CONSUMERS_MAX", 2)
    stuck, there = bench.app(), bench.app()
    for turn in range(20):
        bench.socket.tell(2, 100.0 + 2 * turn, everyone)
        heard(there)
    bench.at_s = 140.0
    third = bench.app()
    assert len(bench.socket.consumers) == 2
    bench.at_s = 800.0
    bench.socket.tend()
    bench.turn()
    assert len(bench.manager.hear()) == 2
    assert heard(stuck) > 0
    assert heard(stuck) == -1
    bench.socket.tell(2, 800.0, everyone)
    assert [heard(there), heard(third)] == [1, 1]
    assert bench.events("consumer-gone")[0]["because"] == "it does not read, and others want to listen"


def test_one_user_cannot_take_every_place(monkeypatch):
    """Beyond its share a user's connections are closed, said once; root's are not counted."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be somebody else")
    monkeypatch.setattr(module, "CONSUMERS_PER_USER_MAX", 2)
    folder = tempfile.mkdtemp(prefix="oomguard-test-")      # pytest's own is closed to others
    os.chmod(folder, 0o755)
    made = Bench(Path(folder))
    os.chmod(made.path, 0o666)
    try:
        for _ in range(3):
            made.app()
        code = ("import socket, sys, os; os.setuid(65534)\nheld = []\n"
                "for _ in range(4):\n s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); held.append(s)\n"
                "print('there', flush=True)\n"
                "print(*[len(s.recv(1)) for s in held[2:]], flush=True); sys.stdin.read()")
        child = subprocess.Popen([sys.executable, "-I", "-c", code, made.path], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        with child:
            assert child.stdout.readline() == "there\n"
            made.turn()
            assert child.stdout.readline() == "0 0\n"
            assert len(made.socket.consumers) == 5
            assert [fields["uid"] for fields in made.events("consumer-refused")] == [65534]
            child.stdin.close()
        made.turn()
        assert len(made.socket.consumers) == 3
    finally:
        made.close()
        shutil.rmtree(folder)


def test_an_app_that_writes_for_ever_is_not_read_for_ever(bench):
    """Beyond 256 bytes nothing is read: a flood fills the app's own buffer and wakes nobody."""
    app = bench.app(b"x" * 4096)
    assert len(bench.socket.consumers[0].wish) == 256
    with pytest.raises(BlockingIOError):
        while True:
            app.send(b"x" * 4096)
    assert bench.poller.poll(0) == []
    bench.socket.tell(1, 100.0, everyone)
    assert heard(app) == 1
    app.close()
    bench.turn()
    assert bench.socket.consumers == ()


def test_out_of_descriptors_is_no_spin(bench, monkeypatch):
    """When accept fails the door is shut until the next tick, said once, and then it goes on."""
    class Broke:
        def __getattr__(self, name):
            return getattr(listener, name)

        def _accept(self):
            raise OSError(24, "Too many open files")

    listener = bench.socket._listener
    bench.socket._listener = Broke()
    app = bench.app()
    for _ in range(3):
        assert bench.poller.poll(0) == []
        bench.socket.tend()
        bench.turn()
    assert bench.events("consumers-wait") == [{"because": "Too many open files"}]
    bench.socket._listener = listener
    bench.socket.tend()
    bench.turn()
    assert len(bench.socket.consumers) == 1
    assert heard(app) == 0


def test_a_service_manager_that_is_not_there_is_fine(tmp_path):
    """Without NOTIFY_SOCKET everything but the restart works."""
    service = ServiceManager({})
    assert not service.keep(0, "pressure-1")
    assert not service.forget("pressure-1")
    made = Bench(tmp_path)
    made.socket._service = service
    app = made.app()
    made.socket.tell(1, 100.0, everyone)
    assert heard(app) == 1
    made.close()


# A socket of our own


def test_a_socket_of_our_own_is_open_to_all_and_goes_with_us(tmp_path):
    """Without systemd the guard binds it, mode 0666; a live one is left alone; a dead one's is replaced."""
    path, poller, service = str(tmp_path / "p"), select.epoll(), ServiceManager({})
    first = PressureSocket.bound(path, poller, service, lambda *_a, **_k: None)
    assert os.stat(path).st_mode & 0o777 == 0o666
    assert first.path == path
    with pytest.raises(Exception, match="already"):
        PressureSocket.bound(path, poller, service, lambda *_a, **_k: None)
    first.close()
    assert not os.path.exists(path)
    with pytest.raises(NotPermittedError):
        PressureSocket.bound(str(tmp_path / "no" / "p"), poller, service, lambda *_a, **_k: None)
    poller.close()


# What the service manager passes


def test_passed_descriptors_are_taken_once_and_not_inherited():
    """LISTEN_FDS counts from 3, names go with them, and no child inherits either."""
    code = ("import os, sys; sys.path.insert(0, sys.argv[1])\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            "from oomguard.tell.service import passed_descriptors\n"
            "print(passed_descriptors(), passed_descriptors(), os.get_inheritable(3), os.get_inheritable(4),"
            " [name for name in os.environ if name.startswith('LISTEN')])")
    ends = os.pipe()
    script = f'exec 3<&{ends[0]} 4<&{ends[1]}; exec "$@"'
    argv = ["bash", "-c", script, "bash", sys.executable, "-I", "-c", code, ROOT]
    environ = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "pressure:pressure-7"}
    said = subprocess.run(argv, pass_fds=ends, text=True, env=environ, capture_output=True, check=True)
    for fd in ends:
        os.close(fd)
    assert said.stdout == "[(3, 'pressure'), (4, 'pressure-7')] [] False False []\n"


@pytest.mark.parametrize("environ", [
    {}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
    {"LISTEN_PID": str(os.getpid())}, {"LISTEN_PID": "", "LISTEN_FDS": "-1"}])
def test_what_is_for_others_or_odd_passes_nothing(environ):
    """Another process' descriptors, no number and nothing at all give nothing."""
    assert passed_descriptors(dict(environ)) == []


# kill -9, end to end: a real guard, a service manager in miniature


CONSUMER = """
import select, socket, sys, time
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
p = select.poll(); p.register(s, select.POLLIN)
wakes = read = 0
print("listening", flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    if p.poll(max(end - time.monotonic(), 0) * 1000):
        wakes += 1
        read += len(s.recv(64))
print(wakes, read, flush=True)
"""


def test_no_consumer_spins_over_the_guards_kill(tmp_path):
    """A real guard under a manager that keeps descriptors is killed outright and started again: the consumer, which
    never looks for a hang-up, is woken by bytes alone, before and after.
    """
    manager = Manager(str(tmp_path / "notify"))
    path = str(tmp_path / "pressure")
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\ntargets: [system]\nmodel: none\nplain_levels: [99.9%, 99.8%, 99.7%, 99.6%, 99.5%]\n"
                     "bounds: {actions_per_minute: 60, minimum_gap: 0s}\n"
                     "rules:\n  - name: tell\n    when: {level_at_least: 1}\n    then: [{hook: any, release: all}]\n"
                     "    cooldown: 100ms\n")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def start():
        kept = {name: fd for name, fd in manager.hear().items() if name.startswith(NAME)}
        passed = [listener.fileno(), *kept.values()]
        highest = max(passed) + 100
        moves = " ".join(f"{highest + i}<&{fd}" for i, fd in enumerate(passed))
        places = " ".join(f"{3 + i}<&{highest + i} {highest + i}<&-" for i, _fd in enumerate(passed))
        script = f'exec {moves}; exec {places}; LISTEN_PID=$$; export LISTEN_PID; exec "$@"'
        environ = {**os.environ, **manager.environ, "LISTEN_FDS": str(len(passed)), "PYTHONPATH": ROOT,
                   "LISTEN_FDNAMES": ":".join([NAME, *kept])}
        return subprocess.Popen(
            ["bash", "-c", script, "bash", sys.executable, "-m", "oomguard", "run", "--rules", str(rules), "--cadence",
             "200ms", "--runtime-dir", str(tmp_path / "run"), "--log",
             str(tmp_path / "log"), "--journal", str(tmp_path / "journal")],
            pass_fds=passed, env=environ)

    def told(number):
        give_up_s = now_s() + 30
        while (tmp_path / "log").read_text().count("event=release ") < number if (tmp_path / "log").exists() else True:
            assert now_s() < give_up_s, (tmp_path / "log").read_text()
            time.sleep(0.05)

    guard = start()
    app = subprocess.Popen([sys.executable, "-I", "-c", CONSUMER, path, "14"], stdout=subprocess.PIPE, text=True)
    try:
        assert app.stdout.readline() == "listening\n"
        told(1)
        before = (tmp_path / "log").read_text().count("event=release ")
        guard.send_signal(signal.SIGKILL)
        guard.wait()
        time.sleep(1)                       # nobody serves: the consumer must not notice
        guard = start()
        told(before + 2)
        wakes, read = map(int, app.communicate(timeout=60)[0].split())
        assert "consumers=1 kept_by=\"the service manager\"" in (tmp_path / "log").read_text()     # taken back
        assert 2 <= read <= 14              # a byte per 2 s, and one per rise of the level in either life
        assert wakes <= read
    finally:
        for process in (guard, app):
            process.kill()
            process.wait()
        app.stdout.close()
        listener.close()
        manager.close()

