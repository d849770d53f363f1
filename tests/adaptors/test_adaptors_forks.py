"""Forks while adaptors work: no child inherits a lock that nobody there will ever give back."""

from __future__ import annotations

import gc
import os
import signal
import threading
from typing import Any

import pytest
from adapting import ask

import oomguard
from inside import until
from oomguard.adaptors import Entries, Garbage
from oomguard.adaptors.adaptor import Adaptor

# pytest's process has threads of its own; a fork of it is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
CHILD_S = 20                # a child that hangs is ended by its own alarm, and fails the test
FORKS = 60


def exit_code_of_child(work: Any) -> int:
    """Fork; return the child's exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_S)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("forker_holds_it", [False, True], ids=["fork", "fork with the lock held"])
def test_a_child_can_take_the_cache_s_lock(forker_holds_it: bool) -> None:
    """Whenever the fork comes: between batches, in one, or while the forker has the lock itself; nobody hangs."""
    lock, stop = threading.RLock(), threading.Event()
    cache: dict[int, bytes] = {}
    entries = Entries(cache, "cache", lock=lock)

    def evict() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            cache[n] = bytes(1000)
            entries(ask(1, release_all=True))
            entries.evictable_bytes()

    def use() -> None:
        with lock:
            cache[0] = b"x"
        entries(ask(1, release_all=True))
        assert not cache

    evictor = threading.Thread(target=evict)
    evictor.start()
    codes = set()
    for _ in range(FORKS):
        if forker_holds_it:
            with lock:
                codes.add(exit_code_of_child(use))
        else:
            codes.add(exit_code_of_child(use))
    stop.set()
    evictor.join()
    assert codes == {0}


def test_a_child_of_a_collection_still_collects() -> None:
    """A fork waits for a collection under way: halfway through, the child's collector would be off for ever."""
    stop = threading.Event()
    garbage = Garbage()

    class Slow:
        def __init__(self) -> None:
            self.myself = self

        def __del__(self) -> None:
            stop.wait(0.005)                # others run, and fork, in the middle of a collection

    def collect() -> None:
        while not stop.is_set():
            Slow()
            garbage(ask(1))

    def use() -> None:
        class Thing:
            pass

        import weakref

        thing: Any = Thing()
        thing.myself = thing
        watched = weakref.ref(thing)
        del thing
        gc.collect()
        assert watched() is None

    collector = threading.Thread(target=collect)
    collector.start()
    codes = {exit_code_of_child(use) for _ in range(FORKS // 3)}
    stop.set()
    collector.join()
    assert codes == {0}


def test_an_adopted_cache_is_guarded_in_a_child_that_restarts() -> None:
    """after_fork="restart": the child's own copy is evicted by the child's own guard; the parent's stays."""
    cache = {n: bytes(bytearray(100 << 10)) for n in range(50)}
    guard = oomguard.Guard(model="none", cadence_s=0.1, log=None, after_fork="restart")
    adaptor: Adaptor = guard.adopt(cache, "cache")

    def use() -> None:
        assert guard.is_guarding
        adaptor(ask(1, release_all=True))
        until(lambda: guard.reading is not None and guard.reading.sample.evictable_bytes == 0)

    with guard:
        assert exit_code_of_child(use) == 0
        assert len(cache) == 50
        assert guard.is_guarding
