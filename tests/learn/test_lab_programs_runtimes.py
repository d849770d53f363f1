"""The lab's programs with a runtime, in real cgroups: they grow and shrink as wished, are killed, keep their bounds."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError
from oomguard.learn.lab.program import Program, ProgramGoneError, Spec, driver_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Begin = Callable[..., tuple[Program, Enclosure]]

MIB = 1 << 20
ROOMY_BYTES = 1024 * MIB
SHRINKING = ("pythonapp", "numpyapp", "node", "jvm", "chromium", "gawk", "perl")
GROWING = (*SHRINKING, "ffmpeg")
CACHING = ("pythonapp", "numpyapp", "node", "jvm", "chromium")


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start programs in cgroups of their own; end what is left of them."""
    begun: list[tuple[Program, Enclosure]] = []

    def make(name: str, limit_bytes: int = ROOMY_BYTES, bound_bytes: float = float("nan"),
             seed: int = 3, churn_bytes_per_s: float = 0.0) -> tuple[Program, Enclosure]:
        driver = driver_of(name)
        for program in driver.needs:
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        try:
            enclosure = Enclosure.make(f"test-{name}", limit_bytes)
        except NotPermittedError as error:
            pytest.skip(str(error))
        spec = Spec(name, limit_bytes, str(tmp_path), seed, bound_bytes, churn_bytes_per_s)
        program = driver(spec, enclosure.join)
        begun.append((program, enclosure))
        program.start()
        return program, enclosure

    yield make
    for program, enclosure in begun:
        program.stop()
        enclosure.remove(kill=True)


def charged_bytes(enclosure: Enclosure) -> int:
    """Return what cannot be taken back: anonymous and shared memory, and the kernel's."""
    def read(file: str) -> str:
        with open(f"{enclosure.directory}/{file}", encoding="ascii") as opened:
            return opened.read()
    stat = dict(line.split() for line in read("memory.stat").splitlines())
    if enclosure.kind == "v2":
        return int(stat["anon"]) + int(stat["shmem"]) + int(stat.get("kernel", "0"))
    return int(stat["total_rss"]) + int(stat.get("total_shmem", "0")) + int(read("memory.kmem.usage_in_bytes"))


def until(is_so: Callable[[], bool], turn: Callable[[], object], turns: int = 40) -> bool:
    """Take turns until it is so; return whether it came to that."""
    for _ in range(turns):
        turn()
        if is_so():
            return True
        time.sleep(0.05)            # the program's own work, of which there is no event
    return False


def is_near(program: Program, enclosure: Enclosure, size_bytes: int) -> Callable[[], bool]:
    """Return a question: is what is charged above the base within 35 % of what `size_bytes` held should cost?"""
    wanted_bytes = program.charge_ratio * size_bytes
    return lambda: 0.65 * wanted_bytes < charged_bytes(enclosure) - program.base_bytes < 1.35 * wanted_bytes


@pytest.mark.parametrize("name", GROWING)
def test_it_is_charged_what_it_was_told_to_hold(name: str, begin: Begin) -> None:
    """What is charged is about the base and the measured ratio of what is held."""
    program, enclosure = begin(name)
    assert until(is_near(program, enclosure, 64 * MIB), lambda: program.hold(64 * MIB))
    assert program.pids()


@pytest.mark.parametrize("name", SHRINKING)
def test_less_is_charged_when_less_is_wished(name: str, begin: Begin) -> None:
    """At least a fifth of what is dropped goes back to the system: small strings stay with the C library."""
    program, enclosure = begin(name)
    assert until(is_near(program, enclosure, 96 * MIB), lambda: program.hold(96 * MIB))
    most_bytes = charged_bytes(enclosure)
    assert until(lambda: charged_bytes(enclosure) < most_bytes - 16 * MIB, lambda: program.hold(16 * MIB))


def test_what_ffmpeg_holds_it_keeps(begin: Begin) -> None:
    """A wish for less is passed over without harm."""
    program, enclosure = begin("ffmpeg")
    assert until(is_near(program, enclosure, 48 * MIB), lambda: program.hold(48 * MIB))
    program.hold(8 * MIB)
    assert is_near(program, enclosure, 48 * MIB)()


@pytest.mark.parametrize("name", CACHING)
def test_a_cache_comes_and_goes(name: str, begin: Begin) -> None:
    """What was kept is charged; what is dropped of it goes back to the system."""
    program, enclosure = begin(name)
    program.hold(8 * MIB)
    before_bytes = charged_bytes(enclosure)
    assert until(lambda: charged_bytes(enclosure) > before_bytes + 24 * MIB, lambda: program.keep(36 * MIB))
    full_bytes = charged_bytes(enclosure)
    assert until(lambda: charged_bytes(enclosure) < full_bytes - 16 * MIB, lambda: program.keep(0))


@pytest.mark.parametrize("name", (*GROWING, "compiler"))
def test_past_the_limit_the_kernel_ends_it(name: str, begin: Begin) -> None:
    """hold() says that it is gone, and the cgroup has counted the kill."""
    limit_bytes = int(driver_of(name).base_bytes * 1.2) + 48 * MIB
    program, enclosure = begin(name, limit_bytes)
    with pytest.raises(ProgramGoneError):
        until(lambda: False, lambda: program.hold(4 * limit_bytes), 2000)
    assert enclosure.kills() > 0


def test_a_full_python_cache_evicts_and_lives(begin: Begin) -> None:
    """Past the bound it goes on storing, and holds no more than the bound."""
    program, enclosure = begin("pythonapp", bound_bytes=32 * MIB)
    until(lambda: False, lambda: program.hold(96 * MIB), 20)
    assert is_near(program, enclosure, 32 * MIB)()


@pytest.mark.parametrize("name", ("node", "jvm"))
def test_at_the_bound_of_its_heap_it_gives_up_itself(name: str, begin: Begin) -> None:
    """It ends, and the kernel has killed nobody."""
    program, enclosure = begin(name, bound_bytes=32 * MIB)
    with pytest.raises(ProgramGoneError):
        until(lambda: False, lambda: program.hold(128 * MIB), 100)
    assert enclosure.kills() == 0


@pytest.mark.parametrize("name", ("pythonapp", "numpyapp", "gawk", "perl", "node", "jvm"))
def test_churn_leaves_nothing_behind(name: str, begin: Begin) -> None:
    """Garbage is made and dropped: what is held stays about what is wished."""
    program, enclosure = begin(name, churn_bytes_per_s=8e6)
    assert until(is_near(program, enclosure, 48 * MIB), lambda: program.hold(48 * MIB))
    until(lambda: False, lambda: program.hold(48 * MIB), 10)
    assert is_near(program, enclosure, 48 * MIB)()


def test_units_are_compiled_up_to_the_peak_that_is_wished(begin: Begin) -> None:
    """One unit after another ends well, and none is charged more than about what was wished."""
    program, enclosure = begin("compiler")
    peaks_bytes = [0]

    def turn() -> None:
        program.hold(12 * MIB)
        peaks_bytes.append(charged_bytes(enclosure))

    assert until(lambda: max(peaks_bytes) > 8 * MIB and not program.pids(), turn, 200)
    assert max(peaks_bytes) < 16 * MIB


@pytest.mark.parametrize("name", (*GROWING, "compiler"))
def test_stop_leaves_nobody_behind(name: str, begin: Begin) -> None:
    """After stop() its cgroup is empty and can be removed, without a kill of ours."""
    program, enclosure = begin(name)
    program.hold(16 * MIB)
    program.stop()
    assert enclosure.remove(wait_s=5.0)
