"""The app's own locks, held for moments, and never while somebody forks: a child would find them locked for ever.

Contract: whoever forks waits until no adaptor holds a lock, and an adaptor waits at most TRY_S for a lock while it
keeps somebody from forking, since that one may hold this very lock. Then it lets go, and tries again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    class Lock(Protocol):
        """What `threading.Lock`, `RLock`, `Condition` and multiprocessing's have in common."""

        def acquire(self, blocking: bool = ..., timeout: float = ..., /) -> bool:
            """Take it."""

        def release(self) -> object:
            """Give it back."""

TRY_S = 0.02
TRY_AGAIN_S = 0.001         # lets a fork come in between

# Module state, since the interpreter's hooks at fork are per process and cannot be taken back. Re-entrant: what an
# entry's own end does may come back here.
WORKING = threading.RLock()
_registered: list[bool] = []


class _NoLock:
    """Stands for: no lock is needed, or the app says so."""

    def acquire(self, _blocking: bool = True, _timeout: float = -1, /) -> bool:
        """Do nothing."""
        return True

    def release(self) -> None:
        """Do nothing."""


NO_LOCK = _NoLock()


def checked(lock: object) -> Lock:
    """Return the lock if threads can try for it.

    Raises:
        UsageError: it is an event loop's, or none at all.
    """
    acquire = getattr(lock, "acquire", None)
    if "asyncio" in type(lock).__module__:
        raise UsageError("an asyncio lock is for its event loop only: give post=loop.call_soon_threadsafe instead")
    if not callable(acquire) or not callable(getattr(lock, "release", None)):
        raise UsageError(f"{lock!r} is no lock: it needs acquire and release")
    try:
        if acquire(True, 0.0):
            lock.release()  # type: ignore[attr-defined]  # looked at above
    except TypeError as error:
        raise UsageError(f"{lock!r} cannot be tried for: it needs acquire(blocking, timeout) ({error})") from None
    return lock  # type: ignore[return-value]  # duck-typed: just tried


@contextmanager
def unforked() -> Iterator[None]:
    """Let nobody fork meanwhile; keep it short."""
    if not _registered:
        _registered.append(True)    # after the guard's own: forks take this one first, and so do finalisers
        os.register_at_fork(before=WORKING.acquire, after_in_parent=WORKING.release, after_in_child=WORKING.release)
    with WORKING:
        yield


def under(lock: Lock, work: Callable[[], None], until_s: float, *, keeps_forks_out: bool = True) -> bool:
    """Do some work with the lock held, for moments; return False where the lock was not to be had in time.

    Args:
        keeps_forks_out: False for what may take long, and what no child may use anyway.
    """
    while True:
        with unforked() if keeps_forks_out else nullcontext():
            if lock.acquire(True, min(max(until_s - now_s(), 0.0), TRY_S)):
                try:
                    work()
                finally:
                    lock.release()
                return True
        if now_s() >= until_s:
            return False
        time.sleep(TRY_AGAIN_S)
