"""The daemon's place in memory."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys

import pytest

from oomguard.process import _has_no_limit

PROGRAM = """
import sys
from oomguard import process
process._has_no_limit = lambda name: name == b"Max locked memory" and sys.argv[1] == "unlimited"
print(process.lock_memory(), open("/proc/self/status").read())
print("ctypes" in sys.modules, len(bytearray(b"x") * (32 << 20)) >> 20)
"""


def locked(limit: str) -> tuple[str, int]:
    """Return what a process that believes to be under that limit says, and the kB that are locked."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, limit], capture_output=True, text=True, check=True)
    found = re.search(r"^VmLck:\s+(\d+) kB", done.stdout, re.MULTILINE)
    assert found is not None
    return f"{done.stdout.split()[0]} {done.stdout.splitlines()[-1]}", int(found[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is not bound by the limit that we say is not there")
def test_memory_is_locked_where_nothing_limits_it() -> None:
    """All of it is, and without the modules of ctypes."""
    said, locked_kb = locked("unlimited")
    assert said == "True False 32"
    assert locked_kb > 8 << 10


def test_under_a_limit_memory_is_left_alone() -> None:
    """Nothing is locked, and 32 MiB more than the limit can still be had."""
    assert locked("8388608") == ("False False 32", 0)


@pytest.mark.parametrize("name", ["Max locked memory", "Max open files", "Max address space"])
def test_limits_are_read_as_the_kernel_tells_them(name: str) -> None:
    """The same answer as getrlimit's; of what is no limit's name, no."""
    kind = {"Max locked memory": resource.RLIMIT_MEMLOCK, "Max open files": resource.RLIMIT_NOFILE,
            "Max address space": resource.RLIMIT_AS}[name]
    assert _has_no_limit(name.encode()) == (resource.getrlimit(kind)[0] == resource.RLIM_INFINITY)
    assert not _has_no_limit(b"Max nonsense")
