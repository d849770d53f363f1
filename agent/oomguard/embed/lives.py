"""What a fork and the end of the interpreter mean for the guards of a process."""

from __future__ import annotations

import atexit
import os
import threading
import weakref

from oomguard.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    class Living(Protocol):
        """A guard."""

        def _forked(self) -> None:
            """Be told, in the child, that this process has just been forked."""

        def stop(self) -> None:
            """Stop guarding."""

# Held for each turn of each guard's thread, and across a fork: so no child ever sees half a tick. It is never held
# while waiting for anything but the kernel.
QUIET = threading.RLock()

# Module state, since the interpreter's own hooks at fork and exit are per process and cannot be taken back.
_guards: weakref.WeakSet[Living] = weakref.WeakSet()
_registered: list[bool] = []


def watch_over(guard: Living) -> None:
    """Tell this guard of forks, and stop it before the interpreter ends."""
    with QUIET:
        _guards.add(guard)
        if not _registered:
            _registered.append(True)
            os.register_at_fork(before=QUIET.acquire, after_in_parent=QUIET.release, after_in_child=_in_child)
            atexit.register(_at_exit)


def _in_child() -> None:
    try:
        for guard in list(_guards):
            guard._forked()
    finally:
        QUIET.release()


def _at_exit() -> None:
    """Stop in good order: a daemon thread that runs into the interpreter's end dies without closing anything."""
    for guard in list(_guards):
        guard.stop()
