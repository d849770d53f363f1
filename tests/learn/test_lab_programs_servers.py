"""The lab's servers and files: each grows and shrinks with the wish in a real cgroup, and ends by its limit."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError
from oomguard.learn.lab.program import Program, ProgramGoneError, Spec, driver_of

MB = 1 << 20
LIMIT_BYTES = 96 * MB
HELD_BYTES = 40 * MB
BOUND_BYTES = 32 * MB
PATIENCE_S = 20.0
SERVERS = ("redis", "memcached", "postgres", "sqlite", "nginx", "tmpfs")
SHRINKING = ("redis", "postgres", "sqlite", "nginx", "tmpfs")
BOUND = ("redis", "memcached", "sqlite", "tmpfs")       # nginx looks every 10 s only

Made = Callable[..., tuple[Program, Enclosure]]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """Start a program in a cgroup of its own."""
    all_made: list[tuple[Program, Enclosure]] = []

    def make(name: str, limit_bytes: int = LIMIT_BYTES, bound_bytes: float = math.nan) -> tuple[Program, Enclosure]:
        driver = driver_of(name)
        for needed in driver.needs:
            if shutil.which(needed) is None:
                pytest.skip(f"{name} is not installed")
        try:
            enclosure = Enclosure.make(f"test-{name}", limit_bytes)
        except NotPermittedError as error:
            pytest.skip(f"no memory cgroup can be made here: {error}")
        folder = tmp_path / "run"
        folder.mkdir()
        program = driver(Spec(name, limit_bytes, str(folder), 5, bound_bytes), enclosure.join)
        all_made.append((program, enclosure))
        program.start()
        return program, enclosure

    yield make
    for program, enclosure in all_made:
        program.stop()
        assert enclosure.remove(kill=True)


def used_bytes(enclosure: Enclosure) -> int:
    """Return what cannot be taken back from it without swapping."""
    names = {"total_rss", "total_shmem"} if enclosure.kind == "v1" else {"anon", "shmem", "kernel"}
    with open(f"{enclosure.directory}/memory.stat", encoding="ascii") as file:
        used = sum(int(line.split()[1]) for line in file if line.split()[0] in names)
    if enclosure.kind == "v1":
        with open(f"{enclosure.directory}/memory.kmem.usage_in_bytes", encoding="ascii") as file:
            used += int(file.read())
    return used


def hold_until(program: Program, size_bytes: float, is_there: Callable[[], bool]) -> bool:
    """Ask for a size again and again; return whether it came to what is waited for."""
    until_s = time.monotonic() + PATIENCE_S
    while not is_there() and time.monotonic() < until_s:
        program.hold(size_bytes)
    return is_there()


@pytest.mark.parametrize("name", SERVERS)
def test_it_grows_with_the_wish_and_leaves_nothing(made: Made, name: str) -> None:
    """It is charged for what it holds, about as its figures say; after its end nothing runs and nothing is mounted."""
    program, enclosure = made(name)
    expected_bytes = program.base_bytes + program.charge_ratio * HELD_BYTES
    assert hold_until(program, HELD_BYTES, lambda: used_bytes(enclosure) > 0.65 * expected_bytes)
    for _ in range(5):
        program.hold(HELD_BYTES)
    assert 0.65 * expected_bytes < used_bytes(enclosure) < 1.35 * expected_bytes
    program.stop()
    assert enclosure.pids() == ()
    assert not os.path.ismount(f"{program.spec.folder}/room")
    assert enclosure.kills() == 0


@pytest.mark.parametrize("name", SHRINKING)
def test_it_shrinks_with_the_wish(made: Made, name: str) -> None:
    """What it no longer holds it is no longer charged for."""
    program, enclosure = made(name)
    assert hold_until(program, HELD_BYTES, lambda: used_bytes(enclosure) > HELD_BYTES)
    assert hold_until(program, 0.0, lambda: used_bytes(enclosure) < HELD_BYTES / 2)


def test_memcached_keeps_what_it_took(made: Made) -> None:
    """Its slabs stay, however little is in them: growth after a drop costs it nothing."""
    program, enclosure = made("memcached")
    assert hold_until(program, HELD_BYTES, lambda: used_bytes(enclosure) > HELD_BYTES)
    for _ in range(10):
        program.hold(0.0)
    assert used_bytes(enclosure) > 0.9 * HELD_BYTES


@pytest.mark.parametrize("name", SERVERS)
def test_the_limit_kills_it(made: Made, name: str) -> None:
    """Past its cgroup's limit the kernel kills it, and its driver says that it is gone."""
    program, enclosure = made(name)
    with pytest.raises(ProgramGoneError):
        hold_until(program, 3 * LIMIT_BYTES, lambda: False)
    assert enclosure.kills() > 0


@pytest.mark.parametrize("name", BOUND)
def test_its_own_bound_holds_it(made: Made, name: str) -> None:
    """A wish far beyond its own bound is evicted or refused there, and it lives."""
    program, enclosure = made(name, 4 * LIMIT_BYTES, BOUND_BYTES)
    for _ in range(8):
        program.hold(8 * BOUND_BYTES)
    assert BOUND_BYTES / 2 < used_bytes(enclosure) < 1.7 * BOUND_BYTES
    program.check()


def test_nginx_comes_back_to_its_bound(made: Made) -> None:
    """Its manager, which looks every ten seconds, removes what is above max_size."""
    program, enclosure = made("nginx", 4 * LIMIT_BYTES, BOUND_BYTES)
    assert hold_until(program, 2 * BOUND_BYTES, lambda: used_bytes(enclosure) > 1.7 * BOUND_BYTES)
    assert hold_until(program, 2 * BOUND_BYTES, lambda: used_bytes(enclosure) < 1.5 * BOUND_BYTES)


def test_a_dropped_cache_of_redis_goes_back(made: Made) -> None:
    """The cache beside its data can be given back to the system while the data stays."""
    program, enclosure = made("redis")
    assert hold_until(program, 16 * MB, lambda: used_bytes(enclosure) > 16 * MB)
    for _ in range(10):
        program.keep(32 * MB)
    full_bytes = used_bytes(enclosure)
    assert full_bytes > 44 * MB
    until_s = time.monotonic() + PATIENCE_S
    while used_bytes(enclosure) > full_bytes - 24 * MB and time.monotonic() < until_s:
        program.keep(0.0)
    assert 16 * MB < used_bytes(enclosure) <= full_bytes - 24 * MB


def test_page_cache_fills_the_limit_and_kills_nobody(made: Made) -> None:
    """A file larger than the limit is read over and over: charged up to the limit, used next to nothing."""
    program, enclosure = made("pagecache", 16 * MB)
    with_cache = "memory.usage_in_bytes" if enclosure.kind == "v1" else "memory.current"

    def is_full() -> bool:
        time.sleep(0.05)
        with open(f"{enclosure.directory}/{with_cache}", encoding="ascii") as file:
            return int(file.read()) > 14 * MB

    assert hold_until(program, 64 * MB, is_full)
    assert used_bytes(enclosure) < 6 * MB
    assert enclosure.kills() == 0
    program.check()
