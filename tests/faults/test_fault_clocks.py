"""Clocks that leap, machines that stand still: one late sample, no storm of missed ones, and nothing is forgotten."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from broken import Broken
from faulted import guard_of_us, times_of
from guarded import Guard, until

Start = Callable[..., Guard]

HOUR_S, DAY_S, YEAR_S = 3600.0, 86400.0, 365 * 86400.0
NIGHT_S = 8 * HOUR_S


@pytest.mark.parametrize("leap_s", [YEAR_S, -30 * YEAR_S], ids=["forward", "back"])
def test_a_wall_clock_that_leaps_is_nobodys_business(
    start: Start, folder: Path, broken: Broken, leap_s: float,
) -> None:
    """A year on or thirty back by a bad time server: ticks, window and journal go on as if nothing had been."""
    guard = guard_of_us(start, environ=broken.environ)
    before, said = guard.samples(3), len(guard.events())
    broken.leap(wall_s=leap_s)
    assert guard.samples(before + 5) < before + 50
    assert guard.stop() == 0
    told = [event["event"] for event in guard.events()[said:]]
    assert [event for event in told if event != "woken"] == ["stop"]    # the machine may stall meanwhile
    (times,) = times_of(folder)
    assert times == sorted(times) and times[-1] < 60


def test_a_night_of_standby_is_a_gap(start: Start, folder: Path, broken: Broken) -> None:
    """CLOCK_BOOTTIME alone moves on, as over a suspend: one late sample, the run goes on, nothing is made up."""
    guard = guard_of_us(start, environ=broken.environ)
    before = guard.samples(3)
    broken.leap(boot_s=NIGHT_S)
    after = guard.samples(before + 5)
    assert after < before + 50              # a night has 288,000 ticks of a tenth of a second
    assert guard.stop() == 0
    (times,) = times_of(folder)
    gaps = [late - early for early, late in pairwise(times)]
    assert sum(gap > NIGHT_S / 2 for gap in gaps) == 1
    assert max(gaps) == pytest.approx(NIGHT_S, abs=60)
    assert guard.events("blind") == []


def test_a_boot_clock_that_went_back_goes_on(start: Start, folder: Path, broken: Broken) -> None:
    """A checkpoint restored elsewhere: no deadline stands still, no sample is refused, the run is one."""
    guard = guard_of_us(start, environ=broken.environ)
    broken.leap(boot_s=NIGHT_S)
    before = guard.samples(3)
    broken.leap()
    assert guard.samples(before + 5) < before + 50
    assert guard.stop() == 0
    assert guard.events("blind") == []
    (times,) = times_of(folder)
    assert times == sorted(set(times))


def in_another_time(seconds: int) -> tuple[str, ...]:
    """Return what starts a program in a time namespace whose boot clock is so far ahead; skip where there is none."""
    program = shutil.which("unshare")
    command = (program or "", "--time", "--boottime", str(seconds), "--fork")
    if program is None or os.geteuid() != 0 or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no time namespace can be made")
    return command


def test_a_window_of_the_future_is_not_continued(start: Start, folder: Path) -> None:
    """The same run in a time namespace behind the one its window was written in: a new window, at once of use."""
    ahead = guard_of_us(start, "--ticks", "3", prefix=in_another_time(int(DAY_S)))
    assert ahead.wait() == 0, ahead.said()
    guard = guard_of_us(start)
    assert guard.event("guarding", 1)["is_continued"] is False
    assert guard.samples(3)
    assert guard.events("blind") == []


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A cgroup that freezes who is in it."""
    root = Path("/sys/fs/cgroup/freezer" if os.path.isdir("/sys/fs/cgroup/freezer") else "/sys/fs/cgroup")
    place = root / f"oomguard-fault-{os.getpid()}"
    try:
        place.mkdir()
    except OSError:
        pytest.skip("no freezer cgroup can be made")
    yield place
    set_frozen(place, False)
    for pid in (place / "cgroup.procs").read_text().split():
        (root / "cgroup.procs").write_text(pid)
    place.rmdir()


def set_frozen(place: Path, is_frozen: bool) -> None:
    """Freeze or thaw, and wait until it is done."""
    if (place / "freezer.state").exists():
        (place / "freezer.state").write_text("FROZEN" if is_frozen else "THAWED")
        state = "FROZEN\n" if is_frozen else "THAWED\n"
        until(lambda: (place / "freezer.state").read_text() == state, state)
    else:
        (place / "cgroup.freeze").write_text(str(int(is_frozen)))
        until(lambda: f"frozen {int(is_frozen)}" in (place / "cgroup.events").read_text(), "the freezer")


def test_a_frozen_machine_costs_its_own_time_and_no_more(start: Start, folder: Path, freezer: Path) -> None:
    """The guard, frozen by its cgroup for two seconds: a gap of that length, then the old grid."""
    guard = guard_of_us(start)
    before = guard.samples(3)
    (freezer / "cgroup.procs").write_text(str(guard.pid))
    set_frozen(freezer, True)
    since_s = os.times().elapsed
    until(lambda: os.times().elapsed - since_s > 2.0, "two seconds to pass")
    set_frozen(freezer, False)
    guard.samples(before + 8)
    assert guard.stop() == 0
    (times,) = times_of(folder)
    frozen_s, at = max((late - early, place) for place, (early, late) in enumerate(pairwise(times)))
    assert frozen_s > 1.9
    thawed_s = times[at + 1]            # made up, twenty would come at once; the grid has five, alarms some more
    assert sum(thawed_s <= t_s < thawed_s + 0.5 for t_s in times) <= 10
