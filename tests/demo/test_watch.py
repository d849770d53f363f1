"""The consumer of the memory-pressure protocol that the demo app carries."""

import os

import pytest

from oomguard.demo.watch import PressureWatch
from oomguard.tell.pressure import PressureFifo


def test_an_event_is_heard_once(tmp_path) -> None:
    """Bytes in the FIFO wake the app once, however many there are; then it waits again."""
    fifo = PressureFifo(str(tmp_path / "pressure"))
    watch = PressureWatch(fifo.environment())
    assert not watch.wait(0.0)
    os.write(fifo.fileno(), b"\n\n\n")
    assert watch.wait(10.0)
    assert not watch.wait(0.0)
    fifo.close(is_app_gone=True)


def test_it_does_not_spin_once_its_teller_is_gone(tmp_path) -> None:
    """After the producer has closed its end, the app sees no hang-up and no event."""
    fifo = PressureFifo(str(tmp_path / "pressure"))
    watch = PressureWatch(fifo.environment())
    fifo.close()
    assert not watch.wait(0.01)


@pytest.mark.parametrize("environ", [{}, {"MEMORY_PRESSURE_WATCH": ""}, {"MEMORY_PRESSURE_WATCH": "/dev/null"}])
def test_switched_off_it_only_waits(environ: dict[str, str]) -> None:
    """Without a place to listen at, nothing is ever heard."""
    assert not PressureWatch(environ).wait(0.0)


@pytest.mark.parametrize("path", ["pressure", "/tmp/../tmp/pressure", "/tmp//pressure"])
def test_a_path_that_is_not_absolute_and_normalised_is_an_error(path: str) -> None:
    """The protocol demands it of the supervisor; who breaks it is told."""
    with pytest.raises(ValueError, match="is not an absolute, normalised path"):
        PressureWatch({"MEMORY_PRESSURE_WATCH": path})


def test_what_is_no_fifo_is_an_error(tmp_path) -> None:
    """Something else than a FIFO, or nothing at all, is refused."""
    (tmp_path / "pressure").touch()
    with pytest.raises(ValueError, match="is no FIFO"):
        PressureWatch({"MEMORY_PRESSURE_WATCH": str(tmp_path / "pressure")})
    with pytest.raises(FileNotFoundError):
        PressureWatch({"MEMORY_PRESSURE_WATCH": str(tmp_path / "nothing")})
