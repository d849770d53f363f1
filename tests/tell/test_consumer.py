"""The consumer of the memory-pressure protocol: what it watches, what wakes it, and what never may."""

import errno
import os
import select
import socket
import stat
import subprocess
import sys

import pytest

from oomguard.clock import now_s
from oomguard.tell import source as source_module
from oomguard.tell.consumer import BURST_GAP_S, PressureAlarm
from oomguard.tell.source import open_source
from oomguard.tell.watched import DEFAULT_TRIGGER, Span, Watched, own_pressure_path, span_of, watched

SYSTEM = Watched("/proc/pressure/memory", DEFAULT_TRIGGER)
QUIET = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=%d\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n"


class Bench:
    """An alarm in a real epoll, and what it told."""

    def __init__(self, *what, at_s=100.0):
        self.said = []
        self.poller = select.epoll()
        self.at_s = at_s
        self.alarm = PressureAlarm(self.poller, self._tell, lambda: self.at_s)
        self.alarm.start(what)

    def _tell(self, event, severity="info", /, **fields):
        self.said.append((event, fields))

    def turn(self, at_s, timeout_s=0.0):
        """Do one turn of a daemon's loop; return whether an early tick is due."""
        self.at_s = at_s
        for fd, events in self.poller.poll(timeout_s):
            assert self.alarm.handle(fd, events)
        return self.alarm.is_due()

    def wait_s(self, at_s):
        """Return how long epoll would wait."""
        self.at_s = at_s
        return self.alarm.timeout_s()

    def how(self):
        """Return how each source is watched."""
        return [source.how for source in self.alarm.sources]

    def events(self, name):
        """Return the fields of each event of this name."""
        return [fields for event, fields in self.said if event == name]

    def close(self):
        """Let everything go."""
        self.alarm.close()
        self.poller.close()


@pytest.fixture
def bench():
    made = []

    def make(*what, at_s=100.0):
        made.append(Bench(*what, at_s=at_s))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def fifo(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield path, fd
    os.close(fd)


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        made.listen()
        yield made


@pytest.fixture
def fake_root(tmp_path):
    """A root whose only process sits in /app of a cgroup2."""
    for folder in ("proc/self", "proc/pressure", "sys/fs/cgroup/app"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/app\n")
    (tmp_path / "sys/fs/cgroup/app/memory.pressure").write_bytes(QUIET % (0, 0))
    return tmp_path


# What is watched


def test_without_variables_the_own_cgroup_and_the_machine_are_watched(fake_root):
    """Step 3: unset means the own cgroup's file with the default trigger, and we add the machine's."""
    own, system = watched({}, str(fake_root))
    assert own == (f"{fake_root}/sys/fs/cgroup/app/memory.pressure", b"some 200000 2000000\0")
    assert system == (f"{fake_root}/proc/pressure/memory", b"some 200000 2000000\0")


@pytest.mark.parametrize("cgroups", ["0::/\n", "0::/gone\n", "4:memory:/app\n", ""])
def test_without_a_cgroup_of_its_own_only_the_machine_is_watched(fake_root, cgroups):
    """The top cgroup's file is the machine's own; one that is not there is not watched."""
    (fake_root / "proc/self/cgroup").write_text(cgroups)
    assert own_pressure_path(str(fake_root)) == ""
    assert [path for path, _write in watched({}, str(fake_root))] == [f"{fake_root}/proc/pressure/memory"]


def test_watch_replaces_the_own_cgroup():
    """Step 1 and 2: the path that is given, and the bytes to write there, NUL among them."""
    found = watched({"MEMORY_PRESSURE_WATCH": "/run/x", "MEMORY_PRESSURE_WRITE": "c29tZSAxMjMwMDAgMjAwMDAwMAA="})
    assert found == (("/run/x", b"some 123000 2000000\0"), SYSTEM)


@pytest.mark.parametrize("path", ["", "/dev/null"])
def test_switched_off_means_off(path):
    """Vector: an empty WATCH or /dev/null never fires, the machine's trigger neither."""
    assert watched({"MEMORY_PRESSURE_WATCH": path, "MEMORY_PRESSURE_WRITE": "!"}) == ()


@pytest.mark.parametrize("path", ["relative", "./x", "/a/../b", "/a//b", "/a/"])
def test_a_path_that_is_not_absolute_and_normalised_is_an_error(path):
    """Step 1."""
    with pytest.raises(ValueError, match="absolute, normalised"):
        watched({"MEMORY_PRESSURE_WATCH": path})


def test_setuid_ignores_the_variables(fake_root):
    """Step 1: who starts a set-user-id program does not say what it watches."""
    found = watched({"MEMORY_PRESSURE_WATCH": "/run/x"}, str(fake_root), is_setuid=True)
    assert found == watched({}, str(fake_root))


def test_write_means_nothing_without_watch(fake_root):
    """Step 2."""
    assert watched({"MEMORY_PRESSURE_WRITE": "not base64"}, str(fake_root)) == watched({}, str(fake_root))


@pytest.mark.parametrize("text", ["*", "a", "ä", "A" * 8000])
def test_a_write_that_is_not_base64_or_too_long_is_an_error(text):
    """What cannot be written whole is not written in part."""
    with pytest.raises(ValueError, match="MEMORY_PRESSURE_WRITE"):
        watched({"MEMORY_PRESSURE_WATCH": "/run/x", "MEMORY_PRESSURE_WRITE": text})


@pytest.mark.parametrize(("trigger", "span"), [
    (b"some 200000 2000000\0", Span(False, 200_000, 2.0)),
    (b"full 50000 4000000", Span(True, 50_000, 4.0)),
    (b"hello\n", Span(False, 200_000, 2.0)),
    (b"some 3000000 2000000", Span(False, 200_000, 2.0)),
    (b"some -1 2000000", Span(False, 200_000, 2.0)),
    (b"", Span(False, 200_000, 2.0)),
])
def test_a_trigger_is_read_as_the_kernel_would(trigger, span):
    """Where the kernel takes no trigger we look for the same stall ourselves."""
    assert span_of(trigger) == span


# Triggers of the kernel


def test_the_machines_trigger_is_set(bench):
    """On this kernel the default trigger is taken and nothing is due."""
    if not os.path.exists(SYSTEM.path):
        pytest.skip("this kernel tells nothing of pressure")
    made = bench(SYSTEM)
    assert made.how() == ["trigger"]
    assert made.events("pressure-source") == [{"path": SYSTEM.path, "how": "trigger", "because": None}]
    assert made.wait_s(100.0) == float("inf")


def test_a_trigger_that_is_refused_falls_back_to_the_default(bench):
    """EINVAL, as of a window of one second without CAP_SYS_RESOURCE, or of nonsense: 200 ms in 2 s instead."""
    if not os.path.exists(SYSTEM.path):
        pytest.skip("this kernel tells nothing of pressure")
    made = bench(Watched(SYSTEM.path, b"hello\n"))
    assert made.how() == ["trigger"]
    assert "Invalid argument" in made.alarm.sources[0].because


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINVAL, errno.EACCES, errno.EOPNOTSUPP])
def test_where_no_trigger_can_be_had_the_file_is_read(bench, tmp_path, monkeypatch, number):
    """Every refusal ends in polling: it fires once as much stall has come, and not for less."""
    def refuse(_fd, _data):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(source_module.os, "write", refuse)
    path = tmp_path / "memory.pressure"
    path.write_bytes(QUIET % (1000, 0))
    made = bench(Watched(str(path), DEFAULT_TRIGGER))
    assert made.how() == ["polling"]
    assert made.events("pressure-source")[0]["because"] == os.strerror(number)
    assert made.wait_s(100.5) == 1.5
    path.write_bytes(QUIET % (1000 + 199_999, 0))
    assert not made.turn(102.0)
    path.write_bytes(QUIET % (1000 + 199_999 + 200_000, 0))
    assert not made.turn(103.0)         # not looked at before the window is over
    assert made.turn(104.0)
    assert not made.turn(106.0)


def test_a_late_look_asks_for_more(bench, tmp_path, monkeypatch):
    """After 20 s without a look, 200 ms of stall are no pressure; 2 s are."""
    monkeypatch.setattr(source_module.os, "write", _refused)
    path = tmp_path / "memory.pressure"
    path.write_bytes(QUIET % (0, 0))
    made = bench(Watched(str(path)))
    path.write_bytes(QUIET % (200_000, 0))
    assert not made.turn(120.0)
    path.write_bytes(QUIET % (2_200_000, 0))
    assert made.turn(140.0)


def test_a_polled_file_that_goes_is_quiet(bench, tmp_path, monkeypatch):
    """A file that can no longer be read is no pressure, and no error."""
    monkeypatch.setattr(source_module.os, "write", _refused)
    path = tmp_path / "memory.pressure"
    path.write_bytes(QUIET % (0, 0))
    made = bench(Watched(str(path)))
    path.write_bytes(b"")
    assert not made.turn(102.0)
    path.write_bytes(QUIET % (10**9, 0))
    assert not made.turn(104.0)         # the first known total after an unknown one tells of no rise
    path.write_bytes(QUIET % (2 * 10**9, 0))
    assert made.turn(106.0)


def _refused(_fd, _data):
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_file_of_another_user_is_polled(tmp_path):
    """EACCES for real: an ordinary user may read a cgroup's pressure file and set no trigger there."""
    path = "/sys/fs/cgroup/unified/memory.pressure"
    if os.geteuid() != 0 or not os.path.exists(path):
        pytest.skip("needs root, and a cgroup2 beside the v1 controllers")
    code = ("import os, sys; sys.path.insert(0, sys.argv[1])\n"
            "from oomguard.tell.source import open_source; from oomguard.tell.watched import Watched\n"
            "os.setuid(65534); made = open_source(Watched(sys.argv[2]), 0.0); print(made.how, made.because)")
    root = os.path.dirname(os.path.dirname(os.path.dirname(source_module.__file__)))
    said = subprocess.run([sys.executable, "-I", "-c", code, root, path], capture_output=True, text=True, check=True)
    assert said.stdout == "polling Permission denied\n"


def test_a_trigger_whose_cgroup_goes_breaks_once(bench):
    """The group's removal is told by epoll as an error; the source is off, said once, and epoll is quiet."""
    parent = "/sys/fs/cgroup/unified"
    if os.geteuid() != 0 or not os.path.exists(f"{parent}/cgroup.procs"):
        pytest.skip("needs root, and a cgroup2 beside the v1 controllers")
    folder = f"{parent}/oomguard-test-{os.getpid()}"
    os.mkdir(folder)
    try:
        made = bench(Watched(f"{folder}/memory.pressure", DEFAULT_TRIGGER))
        assert made.how() == ["trigger"]
    finally:
        os.rmdir(folder)
    assert not made.turn(101.0, timeout_s=5.0)
    assert made.how() == ["off"]
    assert made.poller.poll(0.05) == []
    assert len(made.events("pressure-source")) == 2


# Streams


def test_a_byte_in_a_fifo_wakes_once(bench, fifo):
    """Vector: the FIFO gets `x` and one early tick is due; the byte is discarded."""
    path, fd = fifo
    made = bench(Watched(path))
    assert made.how() == ["stream"]
    assert not made.turn(100.0)
    os.write(fd, b"x")
    assert made.turn(101.0)
    assert not made.turn(102.5)


def test_a_fifo_whose_writer_dies_does_not_spin(bench, tmp_path):
    """Opened read-write it never hangs up: epoll stays quiet after the last writer is gone."""
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    made = bench(Watched(path))
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"x")
    os.close(writer)
    assert made.turn(101.0)
    assert made.poller.poll(0.05) == []


def test_a_device_is_a_stream(bench):
    """Character devices are opened as FIFOs are, here a terminal; one that cannot be waited for is off."""
    ours, theirs = os.openpty()
    made = bench(Watched(os.ttyname(theirs)), Watched("/dev/zero"))
    assert made.how() == ["stream", "off"]
    os.write(ours, b"x\n")
    assert made.turn(101.0, timeout_s=5.0)
    os.close(theirs)
    os.close(ours)                      # hangs up
    assert not made.turn(103.0, timeout_s=5.0)
    assert made.how() == ["off", "off"]


def test_the_peer_of_a_socket_gets_what_is_to_be_written(bench, listener):
    """Vector: the peer reads `hello` of WRITE=aGVsbG8K, answers `z`, and an early tick is due."""
    given = watched({"MEMORY_PRESSURE_WATCH": listener.getsockname(), "MEMORY_PRESSURE_WRITE": "aGVsbG8K"})[0]
    made = bench(given)
    peer, _address = listener.accept()
    with peer:
        assert peer.recv(100) == b"hello\n"
        assert not made.turn(100.0)
        peer.send(b"z")
        assert made.turn(101.0)


def test_random_bytes_round_trip(bench, listener):
    """Vector: 128 random bytes of WRITE arrive as they are."""
    data = os.urandom(128)
    made = bench(Watched(listener.getsockname(), data))
    peer, _address = listener.accept()
    with peer:
        assert peer.recv(1000) == data
    assert made.how() == ["stream"]


def test_a_producer_that_goes_is_left_and_tried_again(bench, listener):
    """An empty read takes the socket out of the epoll; 1 s, then 2 s later it is connected again."""
    made = bench(Watched(listener.getsockname(), b"w"))
    listener.accept()[0].close()
    assert not made.turn(100.0)
    assert made.how() == ["lost"]
    assert made.poller.poll(0.05) == []         # no spin
    assert made.wait_s(100.0) == 1.0
    made.turn(101.0)
    assert made.how() == ["stream"]
    listener.accept()[0].close()
    made.turn(101.5)
    assert made.wait_s(101.5) == 2.0   # it has not said a word: the back-off goes on
    made.turn(103.5)
    peer, _address = listener.accept()
    with peer:
        assert peer.recv(10) == b"w"
        peer.send(b"x")
        assert made.turn(104.0)
    assert [each["how"] for each in made.events("pressure-source")] == ["stream", "lost"] * 2 + ["stream"]


def test_a_socket_that_is_not_there_yet_is_tried_again(bench, tmp_path):
    """A path without anything is off; a socket that refuses is tried up to once a minute."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "socket"))
        made = bench(Watched(str(tmp_path / "socket")), Watched(str(tmp_path / "nothing")))
        assert made.how() == ["lost", "off"]
        at_s, waits = 100.0, []
        for _ in range(8):
            waits.append(made.wait_s(at_s))
            at_s += waits[-1]
            assert not made.turn(at_s)
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
        assert len(made.events("pressure-source")) == 2         # said at the start, not at each try


def test_something_else_is_no_source(tmp_path):
    """A folder is an error, said and not raised."""
    assert stat.S_ISDIR(os.stat(tmp_path).st_mode)
    made = open_source(Watched(str(tmp_path)), 0.0)
    assert (made.how, made.fd) == ("off", -1)
    assert "neither" in made.because


# Early ticks


def test_at_most_one_early_tick_a_second(bench, fifo):
    """Woken at 20 Hz for three seconds: four early ticks, and one line in the log."""
    path, fd = fifo
    made = bench(Watched(path))
    early = []
    for step in range(61):
        os.write(fd, b"x")
        early.append(made.turn(100.0 + step / 20))
    assert early.count(True) == 4
    assert made.events("woken") == [{"by": path, "how": "stream"}]
    assert made.alarm.wakes == 61


def test_a_wake_within_the_second_is_served_at_its_end(bench, fifo):
    """A wake that comes too early is owed: epoll waits no longer than until it may be served."""
    path, fd = fifo
    made = bench(Watched(path))
    os.write(fd, b"x")
    assert made.turn(100.0)
    os.write(fd, b"x")
    assert not made.turn(100.25)
    assert made.wait_s(100.25) == 0.75
    assert made.turn(101.0)


def test_an_ordinary_tick_pays_what_is_owed(bench, fifo):
    """What came just before a tick needs no second one."""
    path, fd = fifo
    made = bench(Watched(path))
    os.write(fd, b"x")
    assert made.turn(100.0)
    os.write(fd, b"x")
    assert not made.turn(100.5)
    made.alarm.ticked()
    assert not made.turn(101.5)


def test_another_burst_is_another_line(bench, fifo):
    """Bursts further apart than ten seconds are told apart."""
    path, fd = fifo
    made = bench(Watched(path))
    for at_s in (100.0, 105.0, 114.0, 114.0 + BURST_GAP_S):
        os.write(fd, b"x")
        made.turn(at_s)
    assert len(made.events("woken")) == 2


def test_a_descriptor_of_somebody_else_is_left_alone(bench, fifo):
    """What is not ours is said to be not ours."""
    made = bench(Watched(fifo[0]))
    assert not made.alarm.handle(99999, select.EPOLLIN)


def test_nothing_to_watch_is_fine(bench):
    """Switched off, it waits for ever and is never due."""
    made = bench()
    assert made.wait_s(now_s()) == float("inf")
    assert not made.turn(now_s())
    assert made.alarm.fds() == ()


def test_every_descriptor_is_given_back(fifo, listener):
    """Opening and closing an alarm leaves no descriptor behind."""
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        made = Bench(Watched(fifo[0]), Watched(listener.getsockname(), b"w"), SYSTEM)
        listener.accept()[0].close()
        made.turn(100.0)
        made.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
