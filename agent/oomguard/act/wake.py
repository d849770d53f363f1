"""Wake the daemon's loop from a worker thread: an eventfd that can be closed while threads still hold it."""

from __future__ import annotations

import _thread
import os


class Wake:
    """A descriptor that becomes readable at `set`, and says so: `is_set`.

    After `close` a straggler's `set` does nothing, so it cannot write into a descriptor that somebody else
    was given meanwhile.
    """

    __slots__ = ("_lock", "fd", "is_set")

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = _thread.allocate_lock()
        self.is_set = False

    def set(self) -> None:
        """Make the descriptor readable."""
        with self._lock:
            if self.fd >= 0:
                self.is_set = True
                os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        """Make it unreadable again."""
        if not self.is_set:                     # to ask the kernel in vain costs 1.3 us, each tick
            return
        with self._lock:
            self.is_set = False
            try:
                os.eventfd_read(self.fd)
            except BlockingIOError:             # whoever waits for it has read it
                return

    def close(self) -> None:
        """Let the descriptor go."""
        with self._lock:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1
