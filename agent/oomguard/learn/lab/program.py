"""What the lab asks of a program: start in a cgroup, hold so many bytes, keep a cache of so many, stop.

A module of `programs/` has one class, `Driver`, a subclass of Program. It lives in a process of its own outside the
cgroup (drive.py); only the program itself is charged.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from oomguard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STOP_S = 3.0


class ProgramGoneError(Exception):
    """The program has ended: the kernel killed it, or it reached a bound of its own and gave up."""


class Spec(NamedTuple):
    """What one run asks of its program; plain JSON."""

    program: str                        # a module of learn/lab/programs
    limit_bytes: int                    # of the cgroup
    folder: str                         # scratch space of its own on the disk, empty, removed afterwards
    seed: int
    bound_bytes: float = float("nan")   # the program's own cap (maxmemory, -Xmx ...); NaN: none, or far above the limit
    churn_bytes_per_s: float = 0.0      # garbage made and dropped meanwhile, where the program can


class Program:
    """One program. What it is charged is about `base_bytes + charge_ratio * (held + kept)`: both are measured."""

    needs: ClassVar[tuple[str, ...]] = ()       # executables on PATH (or paths)
    base_bytes: ClassVar[float] = 0.0           # charged with nothing held
    charge_ratio: ClassVar[float] = 1.0         # bytes charged per byte held
    bound_kind: ClassVar[str] = ""              # evicts | refuses | aborts: what happens at bound_bytes; "": has none
    has_cache: ClassVar[bool] = False           # whether `keep` works

    def __init__(self, spec: Spec, enter: Callable[[], None]) -> None:
        """Take the run's wishes; start nothing yet.

        Args:
            spec: of the run.
            enter: moves the calling process into the cgroup; for the child, between fork and exec.
        """
        self.spec, self.enter = spec, enter
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start it and wait until it takes orders. Raises ProgramGoneError."""
        raise NotImplementedError

    def hold(self, size_bytes: float) -> None:
        """Bring its live data to about `size_bytes`, up or down, within a second or so; much at once may take longer.

        At its own bound it does what the program does there (evicts, refuses, aborts). Raises ProgramGoneError.
        """
        raise NotImplementedError

    def keep(self, size_bytes: float) -> None:
        """Bring a cache beside the live data to `size_bytes`; what is dropped goes back to the system."""
        raise NotImplementedError

    def pids(self) -> tuple[int, ...]:
        """Return those it started itself."""
        return tuple(child.pid for child in self.children)

    def spawn(self, command: Sequence[str], **more: object) -> subprocess.Popen[bytes]:
        """Start a command in the cgroup, its output dropped unless told otherwise."""
        options: dict[str, object] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL,
                                      "stderr": subprocess.DEVNULL, **more}
        child: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            list(command), cwd=self.spec.folder, start_new_session=True,
            preexec_fn=self.enter,      # noqa: PLW1509 the driver has no threads, and only the child must be charged
            **options)
        self.children.append(child)
        return child

    def check(self) -> None:
        """Raise ProgramGoneError if what was started first has ended."""
        if self.children and self.children[0].poll() is not None:
            raise ProgramGoneError(f"{self.spec.program}: ended with {self.children[0].returncode}")

    def stop(self) -> None:
        """End everything that was started, and close its pipes; nothing is left behind."""
        for child in self.children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()


def driver_of(name: str) -> type[Program]:
    """Return the class that drives the program `name`. Raises UsageError."""
    try:
        found: type[Program] = import_module(f"oomguard.learn.lab.programs.{name}").Driver
    except ModuleNotFoundError:
        raise UsageError(f"the lab has no program {name!r}: see learn/lab/programs") from None
    if not issubclass(found, Program):
        raise UsageError(f"learn/lab/programs/{name}.py: Driver is no Program")
    return found
