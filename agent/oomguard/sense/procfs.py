"""One process in /proc: whether it is still the same, its own memory, its major faults, its cgroups."""

from __future__ import annotations

import os
from collections.abc import Iterator

from oomguard.errors import TargetGoneError
from oomguard.sense.files import KeptFile, below, raise_for, read_if_there
from oomguard.sense.sample import NAN, made
from oomguard.typed import NamedTuple

MEMORY = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
DEAD = (b"Z", b"X", b"x")
STATE, MAJOR_FAULTS, THREADS, START_TIME = 0, 9, 17, 19     # words of /proc/PID/stat after the name


class Life(NamedTuple):
    """What /proc/PID/stat says of a process."""

    is_dead: bool
    start_ticks: int            # since boot: with the pid, it tells one process from another
    major_faults: float


def parse_stat(text: bytes) -> Life | None:
    """Return what /proc/PID/stat says, None where it is torn.

    The name in it may hold anything, even `) R 1`.
    """
    words = text[text.rfind(b")") + 2:].split(b" ", START_TIME + 1)
    try:
        # A leader that has ended while its threads go on is a zombie by name only.
        is_dead = words[STATE] in DEAD and words[THREADS] <= b"1"
        return made(Life, (is_dead, int(words[START_TIME]), float(words[MAJOR_FAULTS])))
    except (IndexError, ValueError):
        return None


class Process:
    """The reader of one process. Its descriptors stay with it: a new process of that pid is never read."""

    __slots__ = ("_cgroup", "_stat", "_status", "pid", "start_ticks")

    def __init__(self, pid: int, root: str = "/") -> None:
        """Open the process. Raises TargetGoneError, NotPermittedError."""
        self.pid = pid
        folder = below(root, f"/proc/{pid}")
        try:
            self._stat = KeptFile(f"{folder}/stat", 1024, has_inode=False)
            self._status = KeptFile(f"{folder}/status", 8192, has_inode=False)
            self._cgroup = KeptFile(f"{folder}/cgroup", 8192, has_inode=False)
        except OSError as error:
            raise_for(error, f"process {pid}")
        self.start_ticks = -1
        self.start_ticks = self.read().start_ticks

    def read(self) -> Life:
        """Look whether it lives (2.1 us).

        Raises TargetGoneError when it has ended, or is another of the same pid.
        """
        try:
            life = parse_stat(self._stat.read())
        except OSError as error:
            raise_for(error, f"process {self.pid}")
        if life is None:
            return Life(False, self.start_ticks, NAN)
        if life.is_dead:
            raise TargetGoneError(f"process {self.pid} has ended and waits for its parent")
        if life.start_ticks != self.start_ticks >= 0:
            raise TargetGoneError(f"process {self.pid} is another one now, of start {life.start_ticks}")
        return life

    def memory_bytes(self) -> tuple[float, float]:
        """Return (resident, swapped) of its own memory, file pages not counted (3.9 us); NaN where unknown.

        statm's resident - shared would miss shared memory, 100 MB of it in one trial.
        """
        try:
            anon, shmem, swapped = self._status.numbers(MEMORY)
        except OSError:
            return NAN, NAN
        return (anon + shmem) * 1024, swapped * 1024

    def cgroups(self) -> bytes:
        """Return the text of its /proc/PID/cgroup, empty where it cannot be read (1.2 us)."""
        try:
            return self._cgroup.read()
        except OSError:
            return b""

    def close(self) -> None:
        """Give the descriptors back."""
        for file in (self._stat, self._status, self._cgroup):
            file.close()


def pids(root: str = "/") -> Iterator[int]:
    """Yield the pids that /proc lists, those hidden by hidepid left out."""
    try:
        names = os.listdir(below(root, "/proc"))
    except OSError:
        return
    yield from sorted(int(name) for name in names if name.isdigit())


def is_called(pid: int, name: str, root: str = "/") -> bool:
    """Return whether a process goes by `name`: its comm, its argv[0] or the last part of that."""
    comm = read_if_there(below(root, f"/proc/{pid}/comm"), 64).rstrip(b"\n")
    wanted = os.fsencode(name)
    if comm and comm == wanted:
        return True
    program = read_if_there(below(root, f"/proc/{pid}/cmdline"), 4096).partition(b"\0")[0]
    return bool(program) and wanted in (program, program.rpartition(b"/")[2])
