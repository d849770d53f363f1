"""The daemon's place in memory."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
resource.getrlimit = lambda which: (int(sys.argv[1]), int(sys.argv[1]))
from oomguard.process import lock_memory
print(lock_memory(), open("/proc/self/status").read())
print("ctypes" in sys.modules, len(bytearray(b"x") * (32 << 20)) >> 20)
"""


def locked(limit_bytes: int) -> tuple[str, int]:
    """Return what a process that believes to be under that limit says, and the kB that are locked."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(limit_bytes)], capture_output=True, text=True, check=True)
    found = re.search(r"^VmLck:\s+(\d+) kB", done.stdout, re.MULTILINE)
    assert found is not None
    return f"{done.stdout.split()[0]} {done.stdout.splitlines()[-1]}", int(found[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is not bound by the limit that we say is not there")
def test_memory_is_locked_where_nothing_limits_it() -> None:
    """All of it is, and without the modules of ctypes."""
    said, locked_kb = locked(resource.RLIM_INFINITY)
    assert said == "True False 32"
    assert locked_kb > 8 << 10


def test_under_a_limit_memory_is_left_alone() -> None:
    """Nothing is locked, and 32 MiB more than the limit can still be had."""
    assert locked(1 << 20) == ("False False 32", 0)
