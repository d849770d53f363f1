"""Swap for the lab's time: a file, or zram. It is the machine's, so all runs that use it use the same."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

from oomguard.errors import NotPermittedError

FILE_BYTES = 6 << 30
ZRAM_BYTES = 6 << 30


class NoSwap:
    """None is asked for: what the machine has stays as it is."""

    kind = "none"

    def close(self) -> None:
        """Nothing was made."""


class SwapFile:
    """A swap file of our own."""

    kind = "file"

    def __init__(self, folder: str) -> None:
        """Make and use it. Raises NotPermittedError."""
        self._path = f"{folder}/swap"
        self.close()            # one that an ended lab left
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(fd, 0, FILE_BYTES)
            os.close(fd)
        except OSError as error:
            raise NotPermittedError(f"{self._path}: {error.strerror}") from None
        _run("mkswap", self._path)
        _run("swapon", self._path)

    def close(self) -> None:
        """Stop using it and remove it."""
        with suppress(NotPermittedError):
            _run("swapoff", self._path)
        with suppress(OSError):
            os.unlink(self._path)


class Zram:
    """A compressed disk in memory."""

    kind = "zram"

    def __init__(self) -> None:
        """Make and use one. Raises NotPermittedError."""
        try:
            with open("/sys/class/zram-control/hot_add", encoding="ascii") as file:
                self._number = int(file.read())
            with open(f"/sys/block/zram{self._number}/disksize", "w", encoding="ascii") as file:
                file.write(str(ZRAM_BYTES))
        except OSError as error:
            raise NotPermittedError(f"zram: {error.strerror}") from None
        self._path = f"/dev/zram{self._number}"
        if not os.path.exists(self._path):
            raise NotPermittedError(f"{self._path} did not appear")
        _run("mkswap", self._path)
        _run("swapon", self._path)

    def close(self) -> None:
        """Stop using it and remove it."""
        with suppress(NotPermittedError):
            _run("swapoff", self._path)
        with suppress(OSError), open("/sys/class/zram-control/hot_remove", "w", encoding="ascii") as file:
            file.write(str(self._number))


def swap_of(kind: str, folder: str) -> NoSwap | SwapFile | Zram:
    """Make swap of a kind (none, file, zram), a file in `folder`. Raises NotPermittedError."""
    if kind == "file":
        return SwapFile(folder)
    return Zram() if kind == "zram" else NoSwap()


def _run(command: str, path: str) -> None:
    try:
        done = subprocess.run([f"/sbin/{command}", path], capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotPermittedError(f"/sbin/{command}: {error.strerror}") from None
    if done.returncode:
        raise NotPermittedError(f"{command} {path}: {done.stderr.strip()}")
