"""Changes of level as threads and event loops take them."""

from __future__ import annotations

import asyncio
import gc
import select
import threading

import oomguard
from inside import until
from oomguard.embed.levels import KEPT_MOST, Audience, LevelChange, Levels


def change(level: int, was: int = 0) -> LevelChange:
    return LevelChange(level, was, 1.0, 100.0, 50.0, 50.0, None, None)


def is_readable(levels: Levels) -> bool:
    return bool(select.select([levels], [], [], 0)[0])


def test_changes_are_taken_once_and_in_order() -> None:
    """`get` and `pending` give each change once, oldest first; get without a change gives None in time."""
    audience = Audience()
    levels = audience.join()
    for level in (1, 2, 3):
        audience.tell(change(level))
    assert levels.get() == change(1)
    assert levels.pending() == [change(2), change(3)]
    assert levels.pending() == []
    assert levels.get(timeout_s=0) is None


def test_the_descriptor_is_readable_while_changes_wait() -> None:
    """Readable after a change, not after all were taken; whether it was asked for before or after."""
    audience = Audience()
    early, late = audience.join(), audience.join()
    assert not is_readable(early)
    audience.tell(change(1))
    audience.tell(change(2))
    assert is_readable(early)
    assert is_readable(late)
    assert early.get() == change(1)
    assert is_readable(early)
    assert early.get() == change(2)
    assert not is_readable(early)
    assert len(late.pending()) == 2
    assert not is_readable(late)


def test_every_queue_gets_every_change_and_one_that_is_dropped_leaves() -> None:
    """Queues do not take from each other; a queue that nobody holds is forgotten, its descriptor closed."""
    audience = Audience()
    kept, dropped = audience.join(), audience.join()
    dropped.fileno()
    audience.tell(change(1))
    assert dropped.get() == change(1)
    del dropped
    gc.collect()
    audience.tell(change(2))
    assert kept.pending() == [change(1), change(2)]
    kept.close()


def test_a_queue_that_nobody_empties_keeps_the_newest() -> None:
    """It is bounded: what is oldest goes first."""
    audience = Audience()
    levels = audience.join()
    for number in range(KEPT_MOST + 10):
        audience.tell(change(number))
    assert [each.level for each in levels.pending()] == list(range(10, KEPT_MOST + 10))


def test_the_end_lets_everybody_go() -> None:
    """Threads that wait come back with None, the descriptor is readable once, iteration ends; what waits is taken."""
    audience = Audience()
    levels, other = audience.join(), audience.join()
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(levels.get())) for _ in range(3)]
    for thread in threads:
        thread.start()
    audience.tell(change(1))
    until(lambda: got)
    audience.end()
    for thread in threads:
        thread.join()
    assert got.count(None) == 2
    assert is_readable(other)
    assert list(other) == [change(1)]
    assert not is_readable(other)
    assert other.is_ended


def test_a_closed_queue_takes_no_more() -> None:
    """After close nothing comes, the descriptor is given back, and closing again does no harm."""
    audience = Audience()
    with audience.join() as levels:
        levels.fileno()
        audience.tell(change(1))
    audience.tell(change(2))
    levels.close()
    assert levels.pending() == []
    assert levels.fileno() == -1
    assert levels.get() is None


def test_a_guard_tells_its_queues(urgent: str) -> None:
    """A queue that was taken before start has the first change, and ends when the guard stops."""
    guard = oomguard.Guard(rules=urgent, log=None)
    levels = guard.levels()
    with guard:
        first = levels.get()
        assert first is not None
        assert (first.was, first.level) == (0, guard.level)
        assert first.limit_bytes > first.used_bytes > 0
        assert first.headroom_bytes > 0
    assert [(each.was, each.level) for each in levels] == [(first.level, 0)]    # the guard went: level 0
    assert levels.is_ended
    with guard:
        assert levels.get(timeout_s=0) is None          # another life has queues of its own
        assert guard.levels().get(timeout_s=0) is None


def test_asyncio_watches_the_descriptor(urgent: str) -> None:
    """loop.add_reader takes the queue as it is, and the handler runs in the loop's thread."""
    async def main() -> list[LevelChange]:
        loop, guard = asyncio.get_running_loop(), oomguard.Guard(rules=urgent, log=None)
        levels, seen = guard.levels(), asyncio.Queue[LevelChange]()
        loop.add_reader(levels, lambda: [seen.put_nowait(each) for each in levels.pending()])
        try:
            with guard:
                first = await seen.get()
            return [first, await seen.get()]
        finally:
            loop.remove_reader(levels)
            levels.close()

    up, down = asyncio.run(main())
    assert (up.was, down.level) == (0, 0)
    assert up.level == down.was > 0


def test_asyncio_is_called_by_the_app_s_own_function(urgent: str) -> None:
    """on_level with call_soon_threadsafe: the guard knows nothing of asyncio."""
    async def main() -> tuple[LevelChange, bool]:
        loop = asyncio.get_running_loop()
        come: asyncio.Future[tuple[LevelChange, bool]] = loop.create_future()
        here = threading.get_ident()

        def handle(each: LevelChange) -> None:
            if not come.done():
                come.set_result((each, threading.get_ident() == here))

        with oomguard.Guard(rules=urgent, log=None, on_level=lambda each: loop.call_soon_threadsafe(handle, each)):
            return await come

    each, is_in_loop = asyncio.run(main())
    assert each.level > 0
    assert is_in_loop
