"""The demo app: its cache really holds and really gives back memory, and a seed makes the same run."""

import json
import os

import pytest

from oomguard.demo.app import QUIET_S, Browser, ImageCache, browse
from oomguard.demo.shape import SMALLEST_LIMIT_BYTES, Shape
from oomguard.demo.watch import PressureWatch
from oomguard.tell.pressure import PressureFifo

IMAGE_BYTES = 64 << 10
SHAPE = Shape.of(SMALLEST_LIMIT_BYTES, 15.0)


def own_bytes() -> int:
    """Return this process' anonymous memory."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))


def filled(images: int) -> ImageCache:
    """Return a cache that holds images 0 to `images` - 1, the last one the warmest."""
    cache = ImageCache(IMAGE_BYTES, 1 << 40, os.urandom(IMAGE_BYTES))
    for number in range(images):
        cache.show(number)
    return cache


def test_images_are_real_memory_and_go_back_to_the_kernel() -> None:
    """What the cache holds is resident, and what it gives up is so no longer, without any help of malloc."""
    before = own_bytes()
    cache = filled(300)
    held = own_bytes() - before
    freed = cache.give_up(0)
    assert held >= 290 * IMAGE_BYTES
    assert freed == 200 * IMAGE_BYTES
    assert own_bytes() - before <= held - 190 * IMAGE_BYTES


def test_the_warm_stay_and_the_cold_go() -> None:
    """After giving up, the last shown third still hits and the rest misses."""
    cache = filled(30)
    cache.give_up(0)
    for number in range(20, 30):
        cache.show(number)
    assert (cache.hits, cache.misses) == (10, 30)
    cache.show(0)
    assert (cache.hits, cache.misses) == (10, 31)


def test_it_holds_no_more_than_is_left_from_then_on() -> None:
    """A cache that was told that it is too large does not grow back by itself."""
    cache = filled(30)
    cache.give_up(0)
    for number in range(100, 200):
        cache.show(number)
    assert cache.size_bytes == 10 * IMAGE_BYTES


def test_it_grows_again_only_after_a_quiet_time() -> None:
    """Told of pressure the cache stays small; a minute without a word later, and no sooner, it may grow."""
    shape = Shape.of(SMALLEST_LIMIT_BYTES, 300.0)
    browser = Browser(shape, SMALLEST_LIMIT_BYTES, 1)
    browser.advance_to(60.0)
    browser.relieve(60.0)
    small_bytes = browser.cache.size_bytes
    browser.advance_to(60.0 + QUIET_S - 0.1)
    assert browser.cache.size_bytes == small_bytes
    browser.advance_to(60.0 + QUIET_S)
    browser.advance_to(90.0 + QUIET_S)
    assert browser.cache.size_bytes > small_bytes


def test_it_keeps_the_smallest_size_whatever_it_is_told() -> None:
    """Told again and again, the cache never falls below its smallest size, and then frees nothing."""
    cache = filled(30)
    for _time in range(8):
        cache.give_up(7 * IMAGE_BYTES)
    assert cache.size_bytes == 7 * IMAGE_BYTES
    assert cache.give_up(7 * IMAGE_BYTES) == 0


def test_the_same_seed_is_the_same_run() -> None:
    """However time is cut into steps, hits, misses and leak depend on the seed alone; another seed differs."""
    coarse, fine, other = (Browser(SHAPE, SMALLEST_LIMIT_BYTES, seed) for seed in (7, 7, 8))
    coarse.advance_to(3.0)
    other.advance_to(3.0)
    for step in range(1, 31):
        fine.advance_to(step / 10)
    assert coarse.figures() == fine.figures()
    assert coarse.cache.hits > coarse.cache.misses / 4
    assert other.figures() != coarse.figures()


def test_the_leak_keeps_to_its_plan() -> None:
    """At the planned end exactly the planned leak is lost, and none of it is ever given back."""
    browser = Browser(SHAPE, SMALLEST_LIMIT_BYTES, 1)
    browser.advance_to(99.0)
    browser.relieve(99.0)
    assert 0 <= browser.leak_bytes - SHAPE.leak_bytes < 4096


@pytest.mark.parametrize("is_told", [True, False])
def test_told_of_pressure_it_evicts_and_reports(is_told: bool, tmp_path) -> None:
    """A byte in the FIFO makes it evict and say so; without one it evicts nothing."""
    fifo = PressureFifo(str(tmp_path / "pressure"))
    if is_told:
        fifo.tell(2, 100.0)
    browser = Browser(SHAPE, SMALLEST_LIMIT_BYTES, 1)
    browser.advance_to(6.0)
    report_fd = os.open(tmp_path / "report", os.O_WRONLY | os.O_CREAT)
    browse(browser, PressureWatch(fifo.environment()), 0.25, report_fd)
    os.close(report_fd)
    fifo.close(is_app_gone=True)
    lines = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert (lines[0]["event"], lines[0]["pid"], lines[-1]["event"]) == ("start", os.getpid(), "end")
    freed = [line["freed_bytes"] for line in lines if line["event"] == "evicted"]
    assert (len(freed), lines[-1]["evictions"]) == ((1, 1) if is_told else (0, 0))
    assert sum(freed) == lines[-1]["evicted_bytes"] == browser.evicted_bytes
