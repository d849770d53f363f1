"""The consumer's side of systemd's memory-pressure protocol, as any app may speak it: here for a FIFO."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Mapping


class PressureWatch:
    """Waits for the next event; without MEMORY_PRESSURE_WATCH it only waits."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Open what the environment names. Raises OSError or ValueError when it is not to be had or no FIFO."""
        path = environ.get("MEMORY_PRESSURE_WATCH", "")
        self._poll = select.poll()
        self._fd = -1
        if path in ("", "/dev/null"):           # switched off, says the protocol
            return
        if not os.path.isabs(path) or os.path.normpath(path) != path:
            raise ValueError(f"MEMORY_PRESSURE_WATCH={path!r} is not an absolute, normalised path")
        # Read-write: a reader that opened it read-only sees a hang-up for ever once the writer is gone.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            raise ValueError(f"MEMORY_PRESSURE_WATCH={path!r} is no FIFO, and this app hears nothing else")
        self._poll.register(self._fd, select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        """Return whether the app was told of pressure within `timeout_s`; all that was told counts as once."""
        if self._fd < 0:
            time.sleep(max(0.0, timeout_s))
            return False
        if not self._poll.poll(max(0.0, timeout_s) * 1000):
            return False
        os.read(self._fd, 65536)                # what it says does not matter: read and discard
        return True
