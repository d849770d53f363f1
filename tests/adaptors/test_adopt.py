"""`guard.adopt`: the adaptor that fits, gauges that feed the samples, one thread's things, hooks of others."""

from __future__ import annotations

import asyncio
import functools
import gc
import sqlite3
import sys
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cachetools
import pyarrow
import pytest
from adapting import ask

import oomguard
from inside import always_asked, run, until
from oomguard import adaptors
from oomguard.errors import UsageError

BLOCK = 100 << 10


def block() -> bytes:
    return bytes(bytearray(BLOCK))


@pytest.fixture
def urgent(tmp_path: Path) -> str:
    """Return a rule file by which everything is always asked for."""
    path = tmp_path / "urgent.yaml"
    path.write_text(always_asked("all"))
    return str(path)


@functools.cache
def remembered(n: int) -> bytes:
    return block()


@cachetools.cached(cachetools.LRUCache(100), lock=threading.Lock())
def cached(n: int) -> bytes:
    return block()


@pytest.mark.parametrize(("what", "name", "kind", "called"), [
    (remembered, "", "Memo", "remembered"),
    (cached, "", "Entries", "cached"),
    ({}, "pages", "Entries", "pages"),
    (OrderedDict(), "pages", "Entries", "pages"),
    (deque(), "tiles", "Kept", "tiles"),
    (gc, "", "Garbage", "gc"),
    (pyarrow, "", "ArrowPool", "pyarrow"),
    (pyarrow.system_memory_pool(), "pool", "ArrowPool", "pool"),
    (pytest.importorskip("numpy"), "", "Malloc", "numpy"),
    (adaptors.Malloc(), "", "Malloc", "malloc"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_an_app_holds_finds_its_adaptor(what: object, name: str, kind: str, called: str) -> None:
    """By what it is; under its own name where it has one; with the adaptor's cost, or the app's."""
    guard = oomguard.Guard(model="none", log=None)
    adaptor = guard.adopt(what, name)
    assert (type(adaptor).__name__, adaptor.name) == (kind, called)
    guard.gauge(called, 1)                      # a hook of that name is there
    if not isinstance(what, adaptors.Adaptor):
        assert guard.adopt(what, f"{called} 2", cost=7.0).cost == 7.0


@pytest.mark.parametrize(("what", "name", "because"), [
    ({}, "", "give name="),
    (object(), "thing", "nothing here fits"),
    (sys, "", "nothing here fits the module sys"),
    (weakref.WeakValueDictionary(), "weak", "weak references hold nothing"),
    (sqlite3.connect(":memory:"), "db", "check_same_thread=False"),
    (cachetools.LRUCache(10), "lru", "needs lock="),
], ids=["no name", "thing", "module", "weak", "bound connection", "no lock"])
def test_what_does_not_fit_is_refused_with_what_to_do(what: object, name: str, because: str) -> None:
    """At once, not when memory is short."""
    guard = oomguard.Guard(model="none", log=None)
    with pytest.raises(UsageError, match=because):
        guard.adopt(what, name)


def test_a_name_is_taken_once() -> None:
    """As for any hook."""
    guard = oomguard.Guard(model="none", log=None)
    guard.adopt({}, "pages")
    with pytest.raises(UsageError, match="taken"):
        guard.adopt({}, "pages")


def test_who_adopts_nothing_does_not_pay_for_it() -> None:
    """Neither adaptors nor ctypes nor importlib.metadata come with a guard; nor does a library with its adaptor."""
    ended = run("-c", "import oomguard, sys\n"
                "with oomguard.Guard(log=None): pass\n"
                "print([m for m in sys.modules if 'adaptors' in m or m in ('ctypes', 'importlib.metadata')])\n"
                "import oomguard.adaptors\n"
                "print([m for m in ('ctypes', 'sqlite3', 'cachetools', 'diskcache', 'numpy', 'pyarrow', 'torch')"
                " if m in sys.modules])")
    assert (ended.stdout, ended.stderr) == ("[]\n[]\n", "")


def test_gauges_follow_the_cache() -> None:
    """What the adaptor can tell reaches the samples by itself; a known 0 too; an unknown one leaves the app's word."""
    pages: dict[int, bytes] = {n: block() for n in range(10)}
    guard = oomguard.Guard(model="none", cadence_s=0.1, log=None)
    guard.adopt(pages, "pages")
    guard.adopt(pyarrow)

    def told() -> float:
        return guard.reading.sample.evictable_bytes if guard.reading else -1.0

    with guard:
        until(lambda: abs(told() - 10 * BLOCK) < BLOCK)
        guard.gauge("pyarrow", 1 << 30)
        until(lambda: abs(told() - (1 << 30) - 10 * BLOCK) < BLOCK)
        pages.clear()
        until(lambda: told() == 1 << 30)


def test_a_gauge_that_raises_is_told_once_and_asked_no_more(capfd: pytest.CaptureFixture[str]) -> None:
    """The guard goes on; the hook stays, its size unknown."""
    class Odd(adaptors.Adaptor):
        __slots__ = ("asked",)

        def evictable_bytes(self) -> float:
            self.asked = getattr(self, "asked", 0) + 1
            if self.asked > 1:
                raise OSError("gone")
            return 1.0

    odd = Odd("odd", 1.0)
    guard = oomguard.Guard(model="none", cadence_s=0.1)
    guard.adopt(odd)
    with guard:
        until(lambda: odd.asked == 2)
        first = guard.reading
        until(lambda: guard.reading is not first)
        second = guard.reading
        until(lambda: guard.reading is not second)
        assert guard.is_guarding
    assert odd.asked == 2
    assert capfd.readouterr().err.count("gone") == 1


def test_an_adopted_cache_is_asked_and_gives(urgent: str) -> None:
    """The whole way: rule, hook, adaptor, an empty cache, an event that says so."""
    pages = {n: block() for n in range(50)}
    events: list[tuple[str, Mapping[str, object]]] = []
    guard = oomguard.Guard(rules=urgent, cadence_s=0.1, log=lambda name, _s, fields: events.append((name, fields)))
    guard.adopt(pages, "pages")
    with guard:
        until(lambda: not pages)
        until(lambda: [name for name, _fields in events if name == "release"])
    release = next(fields for name, fields in events if name == "release")
    assert release["hook"] == "pages"
    assert release["claimed_bytes"] == pytest.approx(50 * BLOCK, rel=0.01)


def test_an_event_loop_s_cache_is_evicted_in_the_loop_s_thread(urgent: str) -> None:
    """post=loop.call_soon_threadsafe: no lock, no other thread; the loop serves others in between."""
    seen: set[int] = set()

    class Pages(dict[int, bytes]):
        def pop(self, *args: Any) -> Any:
            seen.add(threading.get_ident())
            return super().pop(*args)

    async def main() -> int:
        pages = Pages({n: block() for n in range(500)})
        guard = oomguard.Guard(rules=urgent, cadence_s=0.1, log=None)
        guard.adopt(pages, "pages", post=asyncio.get_running_loop().call_soon_threadsafe)
        turns = 0
        with guard:
            while pages:
                turns += 1
                await asyncio.sleep(0.001)
        return turns

    assert asyncio.run(asyncio.wait_for(main(), 30)) > 0
    assert seen == {threading.get_ident()}


def test_a_bound_connection_is_shrunk_by_its_thread() -> None:
    """post=queue.put: the owner takes the work from its queue; the claim is this process's fall."""
    connection, queue = sqlite3.connect(":memory:"), SimpleQueue[Callable[[], None]]()
    adaptor = adaptors.adaptor_for(connection, "db", post=queue.put)
    said: list[float | None] = []
    asker = threading.Thread(target=lambda: said.append(adaptor(ask(1))))
    asker.start()
    queue.get(timeout=30)()
    asker.join()
    assert said[0] is not None
    connection.close()


def test_an_owner_that_does_not_come_is_not_waited_for_and_does_not_do_it_later() -> None:
    """TimeoutError, so the hook failed; and what was posted does nothing any more. What the work raises is raised."""
    pages, queue = {1: block()}, SimpleQueue[Callable[[], None]]()
    adaptor = adaptors.adaptor_for(pages, "pages", post=queue.put)
    with pytest.raises(TimeoutError):
        adaptor(ask(1, deadline_s=0.02))
    queue.get()()
    assert len(pages) == 1

    class Broken(adaptors.Adaptor):
        __slots__ = ()

        def give(self, request: oomguard.Request) -> float:
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        adaptors.Posted(Broken("broken", 1.0), lambda work: work())(ask(1))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution that brings one hook that works and one that does not."""
    info = tmp_path / "site" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[oomguard.hooks]\nacme = acme_hooks:register\nbroken = acme_hooks:nothing\n")
    (tmp_path / "site" / "acme_hooks.py").write_text(
        "pages = {}\n\ndef register(guard):\n    guard.adopt(pages, 'acme-pages')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


@pytest.mark.usefixtures("plugin")
def test_other_distributions_register_when_asked() -> None:
    """Nothing by default; by name, that one; all of them, and what is broken is told at start and stops nothing."""
    with pytest.raises(UsageError, match="no hook"):
        oomguard.Guard(model="none").gauge("acme-pages", 1)
    oomguard.Guard(model="none", entry_points=["acme"]).gauge("acme-pages", 1)
    events: list[tuple[str, Mapping[str, object]]] = []
    with oomguard.Guard(model="none", entry_points=True,
                        log=lambda name, _s, fields: events.append((name, fields))) as guard:
        guard.gauge("acme-pages", 1)
        until(lambda: [name for name, _fields in events if name == "no-entry-point"])
    assert "acme_hooks:nothing" in str(events)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("name", "because"), [("absent", r"no entry point 'absent'.*there are: acme, broken"),
                                               ("broken", "broken = acme_hooks:nothing: AttributeError")])
def test_a_named_one_that_is_not_there_or_broken_is_an_error(name: str, because: str) -> None:
    """Who asks for it by name needs it."""
    with pytest.raises(UsageError, match=because):
        oomguard.Guard(model="none", entry_points=[name])


