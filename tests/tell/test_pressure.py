"""The pressure FIFO, heard by a consumer written after the protocol's own steps (PROTOCOLS 1)."""

import os
import select
import signal
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.errors import NotPermittedError, UsageError
from oomguard.tell.pressure import HOLD_OFF_S, PressureFifo


class Consumer:
    """What an app does with MEMORY_PRESSURE_WATCH and _WRITE: steps 1, 2, 4, 5 and 6 for a FIFO."""

    def __init__(self, environ):
        path = environ.get("MEMORY_PRESSURE_WATCH", "")
        self.fd = -1
        if path in ("", "/dev/null"):
            return
        assert os.path.isabs(path)
        assert os.path.normpath(path) == path
        assert stat.S_ISFIFO(os.stat(path).st_mode)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        assert "MEMORY_PRESSURE_WRITE" not in environ   # it would read its own bytes back as pressure

    def wait(self, timeout_ms=0):
        """Return the events of one poll for POLLIN."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return [events for _fd, events in poll.poll(timeout_ms)]

    def callback(self, timeout_ms=0):
        """Return how many bytes one wake-up read and discarded; 0: not woken."""
        if self.wait(timeout_ms) != [select.POLLIN]:
            return 0
        return len(os.read(self.fd, 4096))

    def close(self):
        """Stop watching."""
        if self.fd >= 0:
            os.close(self.fd)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "pressure")


@pytest.fixture
def fifo(path):
    made = PressureFifo(path)
    yield made
    made.close(is_app_gone=True)


@pytest.fixture
def consumer(fifo):
    made = Consumer(fifo.applied_to({"MEMORY_PRESSURE_WRITE": "aGVsbG8K", "PATH": "/bin"}))
    yield made
    made.close()


def test_the_fifo_is_private(fifo):
    """Mode 0600, so that nobody else can feign pressure or swallow it."""
    mode = os.stat(fifo.path).st_mode
    assert stat.S_ISFIFO(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_byte_fires_the_callback(fifo, consumer):
    """Vector: the FIFO gets a byte and the consumer is called, once."""
    assert consumer.callback() == 0
    assert fifo.tell(2, 10.0)
    assert consumer.callback() == 1
    assert consumer.callback() == 0


def test_any_byte_of_another_writer_fires_it_too(fifo, consumer):
    """Vector of systemd's own test: `x` written by a shell."""
    fd = os.open(fifo.path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, b"x")
    os.close(fd)
    assert consumer.callback() == 1
    assert consumer.wait() == []


def test_dev_null_never_fires():
    """Vector: an app told to watch /dev/null watches nothing."""
    assert Consumer({"MEMORY_PRESSURE_WATCH": "/dev/null"}).fd == -1


def test_the_environment_names_the_fifo_and_no_write(fifo):
    """WATCH is the path; an inherited WRITE is taken away, everything else stays."""
    assert fifo.environment() == {"MEMORY_PRESSURE_WATCH": fifo.path}
    assert fifo.applied_to({"A": "b", "MEMORY_PRESSURE_WRITE": "x", "MEMORY_PRESSURE_WATCH": "/old"}) == {
        "A": "b", "MEMORY_PRESSURE_WATCH": fifo.path}


def test_level_nought_is_silence(fifo, consumer):
    """There is no all-clear in the protocol."""
    assert not fifo.tell(0, 10.0)
    assert consumer.callback() == 0


def test_a_level_that_stays_is_told_every_two_seconds(fifo, consumer):
    """Told at 4 Hz for ten seconds, the app is woken five times."""
    told = [fifo.tell(2, 10.0 + tick / 4) for tick in range(40)]
    assert told.count(True) == 5
    assert consumer.callback() == 5


def test_a_rising_level_is_told_at_once(fifo):
    """Each step up is one event, without waiting for the two seconds."""
    assert [fifo.tell(level, 10.0 + level / 10) for level in (1, 2, 3, 4, 5)] == [True] * 5


def test_a_falling_or_flapping_level_is_not_told_twice(fifo):
    """Down and up again within two seconds says nothing new; after that it does."""
    assert fifo.tell(3, 10.0)
    assert [fifo.tell(level, 10.5) for level in (2, 3, 1, 3)] == [False] * 4
    assert fifo.tell(2, 12.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1.0)), max_size=100))
def test_never_more_than_a_byte_per_level_and_two_seconds(tmp_path_factory, steps):
    """Whatever the levels do, one level is told at most once in two seconds."""
    fifo = PressureFifo(str(tmp_path_factory.mktemp("fifo") / "p"))
    t_s, told_s = 0.0, {}
    for level, step_s in steps:
        t_s += step_s
        if fifo.tell(level, t_s):
            assert t_s - told_s.get(level, -9.0) >= HOLD_OFF_S
            told_s[level] = t_s
    fifo.close(is_app_gone=True)


def test_a_full_fifo_is_fine(fifo, consumer):
    """An app that reads nothing has its wake-up still to come: nothing blocks, nothing raises."""
    while True:
        try:
            os.write(fifo.fileno(), b"x" * 4096)
        except BlockingIOError:
            break
    assert fifo.tell(5, 10.0)
    assert consumer.callback() == 4096


def test_a_killed_producer_does_not_make_the_consumer_spin(path):
    """After kill -9 of the guard the app's poll waits: no hang-up, no error, no empty read."""
    ready, tell_ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        held = PressureFifo(path)
        os.write(tell_ready, b"r")
        signal.pause()
        held.close()
        os._exit(0)
    assert os.read(ready, 1) == b"r"
    consumer = Consumer({"MEMORY_PRESSURE_WATCH": path})
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert consumer.wait(timeout_ms=200) == []
    successor = PressureFifo(path)
    assert successor.tell(4, 1.0)
    assert consumer.callback() == 1         # the same FIFO: the app heard the next guard without reopening
    for fd in (ready, tell_ready):
        os.close(fd)
    consumer.close()
    successor.close(is_app_gone=True)
    assert not os.path.exists(path)


def test_a_consumer_that_comes_and_goes_does_not_close_the_fifo(fifo):
    """An app that restarts finds the same FIFO, and the guard never gets EPIPE."""
    first = Consumer(fifo.environment())
    first.close()
    assert fifo.tell(1, 10.0)
    second = Consumer(fifo.environment())
    assert second.callback() == 1
    second.close()


@pytest.mark.parametrize("odd", ["relative", "/tmp/../tmp/x", "/tmp//x", ""])
def test_a_path_the_protocol_forbids_is_refused(odd):
    """A consumer would reject it, so the producer never offers it."""
    with pytest.raises(UsageError, match="absolute, normalised"):
        PressureFifo(odd)


def test_something_else_in_its_place_is_left_alone(tmp_path):
    """A file, a link to a FIFO and a folder that is missing are errors, and nothing is opened or removed."""
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError, match="no FIFO"):
        PressureFifo(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"
    os.mkfifo(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="no FIFO"):
        PressureFifo(str(tmp_path / "link"))
    with pytest.raises(NotPermittedError, match="No such file"):
        PressureFifo(str(tmp_path / "gone" / "p"))


def test_another_users_fifo_is_refused(path):
    """A FIFO planted by somebody else is not taken up."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give a FIFO away")
    os.mkfifo(path)
    os.chown(path, 12345, -1)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UsageError, match="uid 12345"):
        PressureFifo(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_fifo_can_be_the_apps(path):
    """With an owner, an app of another user can open it; a restart takes it up again."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give a FIFO away")
    PressureFifo(path, owner=12345).close()
    assert os.stat(path).st_uid == 12345
    again = PressureFifo(path, owner=12345)
    assert again.tell(1, 1.0)
    again.close(is_app_gone=True)
    assert not again.tell(2, 2.0)
