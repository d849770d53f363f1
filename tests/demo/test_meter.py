"""What an arm uses, asked of the kernel."""

import mmap
import os
import signal
from collections.abc import Iterator

import pytest

from oomguard.demo.meter import EnclosureMeter, Meter, ProcessMeter, meter_of
from oomguard.enclosure import Enclosure, folder_name
from oomguard.errors import NotPermittedError

HELD_BYTES = 16 << 20


@pytest.fixture
def enclosure() -> Iterator[Enclosure]:
    """A real cgroup of one's own."""
    try:
        made = Enclosure.make("meter", 256 << 20)
    except NotPermittedError as error:
        pytest.skip(str(error))
    yield made
    made.remove(kill=True)


def holder(enclosure: Enclosure | None) -> int:
    """Start a child that holds HELD_BYTES, in the cgroup where one is given; return once it does."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if enclosure is not None:
                enclosure.join()
            held = mmap.mmap(-1, HELD_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            held.write(b"x" * HELD_BYTES)
            os.write(tell, b"!")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(told, 1) == b"!"
    os.close(told)
    return pid


def used_until_gone(meter: Meter, pid: int) -> float:
    """Return what the meter reads of the child, and end the child."""
    used_bytes = meter.used_bytes()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert used_bytes is not None
    return used_bytes


def test_an_app_in_an_enclosure_is_read_from_it(enclosure: Enclosure) -> None:
    """Who sits in a cgroup that oomguard made is measured there, with its kills; nothing is left to read after."""
    pid = holder(enclosure)
    meter = meter_of(pid, folder_name("meter", os.getpid()))
    assert isinstance(meter, EnclosureMeter)
    assert meter.enclosure.path == enclosure.path
    assert HELD_BYTES <= used_until_gone(meter, pid) < HELD_BYTES * 4      # an interpreter sits there too
    assert meter.kills() == 0
    assert meter.enclosure.remove()
    assert meter.used_bytes() is None


def test_an_app_in_anothers_cgroup_is_read_from_its_process(enclosure: Enclosure) -> None:
    """Who sits in a cgroup that is not the one made for it is measured alone: that one is not ours to remove."""
    pid = holder(enclosure)
    meter = meter_of(pid, folder_name("meter", 1))
    assert isinstance(meter, ProcessMeter)
    assert used_until_gone(meter, pid) >= HELD_BYTES
    assert (meter.used_bytes(), meter.kills()) == (None, -1)
