"""The cgroups of one run: the target's own, and, where it has a neighbour, a parent that both share."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress

from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError

ROOMY = 4                   # with a neighbour the target's own limit is so many times the parent's: it never binds
NEIGHBOUR, TARGET = "neighbour", "app"
ROOM = "room"               # where programs/tmpfs.py mounts


class Cell:
    """Made for one run; `path` is the target's cgroup as a target's plan names it."""

    def __init__(self, run_id: str, limit_bytes: int, swap_bytes: int = 0, has_neighbour: bool = False) -> None:
        """Make it. Raises NotPermittedError."""
        self._outer = Enclosure.make(f"lab-{run_id}", limit_bytes, is_swapless=swap_bytes == 0)
        self.folder = tempfile.mkdtemp(prefix="oomguard-lab-", dir="/var/tmp")
        self.path, self.neighbour_procs = self._outer.path, ""
        self.procs = [f"{directory}/cgroup.procs" for directory in self._outer.directories]
        try:
            if swap_bytes:
                self._allow_swap(limit_bytes, swap_bytes)
            if has_neighbour:
                self._divide(limit_bytes)
        except OSError as error:
            self.remove()
            raise NotPermittedError(f"cannot set up {self._outer.directory}: {error.strerror}") from None

    def _allow_swap(self, limit_bytes: int, swap_bytes: int) -> None:
        name, value = ("memory.swap.max", swap_bytes) if self._outer.kind == "v2" else \
            ("memory.memsw.limit_in_bytes", limit_bytes + swap_bytes)
        _write(f"{self._outer.directory}/{name}", value)

    def _divide(self, limit_bytes: int) -> None:
        """Make two groups below: the target's, with a limit that does not bind, and the neighbour's, with none."""
        outer = self._outer.directory
        if self._outer.kind == "v2":
            _write(f"{outer}/cgroup.subtree_control", "+memory")
        for name in (TARGET, NEIGHBOUR):
            os.mkdir(f"{outer}/{name}")
        limit_file = "memory.max" if self._outer.kind == "v2" else "memory.limit_in_bytes"
        _write(f"{outer}/{TARGET}/{limit_file}", ROOMY * limit_bytes)
        self.path = f"{self._outer.path}/{TARGET}"
        self.neighbour_procs = f"{outer}/{NEIGHBOUR}/cgroup.procs"
        self.procs = [f"{outer}/{TARGET}/cgroup.procs", *self.procs[1:]]

    def kills(self) -> int:
        """Return the kernel's kills in it, the neighbour's too."""
        return self._outer.kills()

    def remove(self) -> None:
        """End whoever is left in it, and remove it and its scratch folder."""
        self._outer.remove(kill=True, wait_s=5.0)
        for mount in (f"{self.folder}/{ROOM}", f"{self.folder}/{NEIGHBOUR}/{ROOM}"):
            if os.path.ismount(mount):      # a driver that was killed could not unmount it
                subprocess.run(["umount", "--lazy", mount], check=False)
        with suppress(OSError):
            shutil.rmtree(self.folder)


def _write(path: str, value: object) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))
