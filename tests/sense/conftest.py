"""Real cgroups and real processes to be read."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from faketree import MIB

V1 = "/sys/fs/cgroup/memory"
PROGRAM = """
import mmap, sys
held = []
for line in sys.stdin:
    kind, count = line.split()
    pages = bytearray if kind == 'anon' else (lambda size: mmap.mmap(-1, size))
    piece = pages(int(count))
    for at in range(0, int(count), 4096):
        piece[at] = 1
    held.append(piece)
    print('held', flush=True)
"""


class Eater:
    """A Python child that takes memory when told, and answers once it has it."""

    def __init__(self, procs: str | None = None) -> None:
        """Start it, in the cgroup whose cgroup.procs is named."""
        enter = f"echo $$ > {procs}; " if procs else ""
        self.process = subprocess.Popen(["/bin/sh", "-c", enter + 'exec "$0" -I -c "$1"', sys.executable, PROGRAM],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.take("anon", 1)        # it answers, so it runs and sits where it should

    def take(self, kind: str, count: int) -> bool:
        """Take `count` bytes (`anon` or `shmem`); return whether it lived to tell."""
        try:
            self.process.stdin.write(f"{kind} {count}\n")
            self.process.stdin.flush()
            return self.process.stdout.readline() == "held\n"
        except BrokenPipeError:
            return False

    def end(self) -> int:
        """Kill and reap it; return its exit status."""
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


@pytest.fixture(autouse=True)
def _give_back_descriptors() -> Iterator[None]:
    """Close what readers of a test held open of /proc, /sys and fake trees, so that tests do not wear on each other."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    for name in set(os.listdir("/proc/self/fd")) - before:
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(("/proc/", "/sys/", "/tmp/", "anon_inode:[pidfd]")):
                os.close(int(name))


@pytest.fixture
def eater(request: pytest.FixtureRequest) -> Iterator[object]:
    """Start children that are ended with the test, before the groups they sit in are removed."""
    if "real_group" in request.fixturenames:
        request.getfixturevalue("real_group")
    started: list[Eater] = []

    def start(procs: str | None = None) -> Eater:
        started.append(Eater(procs))
        return started[-1]

    yield start
    for one in started:
        one.end()


class RealGroup:
    """A cgroup of this machine's version 1 hierarchy."""

    def __init__(self, path: str) -> None:
        self.path, self.folder = path, V1 + path
        os.mkdir(self.folder)

    def write(self, file: str, text: object) -> None:
        """Write one of its files."""
        with open(f"{self.folder}/{file}", "w", encoding="ascii") as opened:
            opened.write(str(text))

    @property
    def procs(self) -> str:
        """The file that takes processes in."""
        return self.folder + "/cgroup.procs"

    def remove(self) -> None:
        """Remove it; the kernel may need a moment to let the last process go."""
        deadline_s = time.monotonic() + 5
        while os.path.isdir(self.folder):
            try:
                os.rmdir(self.folder)
            except OSError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.01)


@pytest.fixture
def real_group() -> Iterator[object]:
    """Make v1 cgroups that are removed with the test: real_group(name, limit_mib, parent)."""
    if not os.access(V1, os.W_OK) or not os.path.exists(V1 + "/memory.limit_in_bytes"):
        pytest.skip("needs a writable v1 memory hierarchy at /sys/fs/cgroup/memory")
    made: list[RealGroup] = []

    def make(name: str, limit_mib: float | None = None, parent: RealGroup | None = None) -> RealGroup:
        group = RealGroup(f"{parent.path if parent else ''}/{name}{'' if parent else f'_{os.getpid()}'}")
        made.append(group)
        if limit_mib is not None:
            group.write("memory.limit_in_bytes", int(limit_mib * MIB))
        return group

    yield make
    for group in reversed(made):
        group.remove()
