"""Pressure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from faketree import FakeTree

from oomguard.sense.files import KeptFile
from oomguard.sense.psi import Pressure, open_pressure, open_system_pressure

REAL = b"some avg10=1.00 avg60=0.30 avg300=0.06 total=4242\nfull avg10=0.90 avg60=0.20 avg300=0.05 total=41\n"


def read(tmp_path: Path, text: bytes) -> tuple[float, float]:
    """Return the pressure of a file of that text."""
    (tmp_path / "pressure").write_bytes(text)
    pressure = Pressure(KeptFile(str(tmp_path / "pressure")))
    try:
        return pressure.read()
    finally:
        pressure.close()


def test_totals_are_taken(tmp_path: Path) -> None:
    """The cumulative microseconds of both lines come out."""
    assert read(tmp_path, REAL) == (4242.0, 41.0)


@pytest.mark.parametrize("text", [b"", b"total=", b"some total=x\nfull total=y\n", b"total=total=total=", b"\xff\0"])
def test_torn_text_is_unknown(tmp_path: Path, text: bytes) -> None:
    """Nonsense is NaN, never an error."""
    some_us, full_us = read(tmp_path, text)
    assert some_us != some_us
    assert full_us != full_us


def test_a_lone_some_line_is_known(tmp_path: Path) -> None:
    """cpu.pressure of older kernels has no full line."""
    some_us, full_us = read(tmp_path, b"some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n")
    assert some_us == 7
    assert full_us != full_us


def test_a_kernel_without_pressure_has_none(tmp_path: Path) -> None:
    """No file, or one that cannot be read (psi=0), is no pressure."""
    tree = FakeTree(tmp_path)
    assert open_system_pressure(tree.root) is not None
    tree.file("/proc/pressure/memory", "")
    assert open_system_pressure(tree.root) is None
    tree.remove("/proc/pressure/memory")
    assert open_system_pressure(tree.root) is None


def test_a_pressure_that_fails_later_is_unknown(tmp_path: Path) -> None:
    """A descriptor that breaks gives NaN: the target goes on being guarded."""
    (tmp_path / "memory.pressure").write_bytes(REAL)
    pressure = open_pressure(str(tmp_path / "memory.pressure"))
    assert pressure is not None
    pressure.close()
    (tmp_path / "memory.pressure").unlink()
    some_us, _full_us = pressure.read()
    assert some_us != some_us


def test_this_machine() -> None:
    """The real file gives two numbers, full never above some."""
    if not os.path.exists("/proc/pressure/memory"):
        pytest.skip("this kernel has no pressure stall information")
    pressure = open_system_pressure()
    assert pressure is not None
    some_us, full_us = pressure.read()
    assert 0 <= full_us <= some_us
    pressure.close()
