"""Break the system under a real program, while it runs: errors of calls on chosen paths, no processes, leaping clocks.

The work is done by shim.c, which LD_PRELOAD puts before the C library; this writes the orders that it follows.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

READING, WRITING, SYNCING, OPENING, SPAWNING = 1, 2, 4, 8, 16       # as in shim.c
_ORDERS = struct.Struct("=qqiI232s")


class Broken:
    """The orders that one program and its children follow."""

    def __init__(self, folder: Path) -> None:
        """Compile the shim; skip where there is no compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler")
        self._library, orders = folder / "shim.so", folder / "orders"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", self._library, Path(__file__).with_name("shim.c"),
                        "-ldl"], check=True)
        orders.write_bytes(bytes(_ORDERS.size))
        with orders.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _ORDERS.size)
        self.environ = {"LD_PRELOAD": str(self._library), "OOMGUARD_BROKEN": str(orders)}
        self._leaps_s = (0.0, 0.0)

    def leap(self, *, wall_s: float = 0.0, boot_s: float = 0.0) -> None:
        """Put CLOCK_REALTIME and CLOCK_BOOTTIME that far from what they are."""
        self._leaps_s = (wall_s, boot_s)
        self._map[:16] = struct.pack("=qq", *(int(leap_s * 1e9) for leap_s in self._leaps_s))

    def fail(self, what: int, error: int, prefix: str) -> None:
        """Let calls of these kinds on paths that begin with the prefix fail."""
        path = os.fsencode(prefix)
        self._map[24:24 + 232] = path.ljust(232, b"\0")
        self._map[16:24] = struct.pack("=iI", error, what)

    def mend(self) -> None:
        """Let every call through again."""
        self._map[16:24] = bytes(8)

    def close(self) -> None:
        """Let go of the orders."""
        self._map.close()
