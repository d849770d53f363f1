"""Faults that want a machine of their own: no memory left at all, standby, set clocks, a guard that hangs, no power."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from bench.lab import device as lab
from bench.lab import payload
from test_package import journal, show, status, until

from oomguard.record.reader import read_journals
from oomguard.record.segments import Limits

pytestmark = [pytest.mark.device, pytest.mark.timeout(900)]

STANDBY_S = 20
YEAR_S = 365 * 86400
# Takes memory until there is none, as the kernel's first choice to be killed.
HOG = "held = []\nwhile True: held.append(bytearray(b'x' * (1 << 20)))"
CLOCKS = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC))"


def samples(device: lab.Device) -> int:
    """Return how many samples of the whole machine have been taken."""
    return int(next(each["samples"] for each in status(device)["targets"] if each["name"] == "system"))


def ticks_on(device: lab.Device) -> None:
    """Wait until three more samples have been taken."""
    before = samples(device)
    until(device, "more samples", lambda: samples(device) >= before + 3)


def life(device: lab.Device) -> tuple[str, str]:
    """Return what changes when the guard is another process."""
    return show(device, "oomguard", "MainPID"), show(device, "oomguard", "NRestarts")


def recorded_times(device: lab.Device, folder: str, to: Path) -> list[float]:
    """Copy a journal out of the device; return the times of the samples of the whole machine."""
    device.get(folder, str(to))
    runs = [run for run in read_journals(str(to)).runs if run.facts["app"] == "system"]
    return [float(t_s) for t_s in max(runs, key=len).column("t_s")]


def test_a_machine_without_memory_kills_others_and_the_guard_saw_it(packaged: lab.Device) -> None:
    """All of it taken until the kernel kills: the guard lives on, had raised the alarm, and counts it."""
    ticks_on(packaged)
    before, kills = life(packaged), int(status(packaged)["targets"][0]["kills"])
    packaged.sh('systemd-run -q --unit=hog -p OOMScoreAdjust=1000 -p MemorySwapMax=0 python3 -c "$1"', HOG)
    packaged.sh("while systemctl is-active -q hog; do sleep 0.5; done", timeout_s=300)
    assert show(packaged, "hog", "Result") == "oom-kill"
    packaged.sh("systemctl reset-failed hog")
    until(packaged, "its count", lambda: status(packaged)["targets"][0]["kills"] > kills)
    assert life(packaged) == before
    lines = journal(packaged).splitlines()
    at = next(place for place, line in enumerate(lines) if "event=kill" in line)
    assert any("event=level" in line for line in lines[:at])
    ticks_on(packaged)


def test_a_standby_is_a_gap(packaged: lab.Device, tmp_path: Path) -> None:
    """Suspended to memory for real: one gap in the recording, one late sample, the same run."""
    ticks_on(packaged)
    before = life(packaged)
    slept_s = float(packaged.sh("python3 -c \"$1\"", CLOCKS))
    packaged.sh('echo "+$1" > /sys/class/rtc/rtc0/wakealarm; echo mem > /sys/power/state', str(STANDBY_S),
                timeout_s=300)
    slept_s = float(packaged.sh("python3 -c \"$1\"", CLOCKS)) - slept_s
    assert slept_s > STANDBY_S / 2
    ticks_on(packaged)
    assert life(packaged) == before
    times = recorded_times(packaged, "/var/lib/oomguard/journal", tmp_path)
    gaps = [late - early for early, late in pairwise(times)]
    assert sum(gap >= slept_s for gap in gaps) == 1
    assert times == sorted(times)


@pytest.mark.parametrize("leap_s", [YEAR_S, -YEAR_S], ids=["on", "back"])
def test_a_set_wall_clock_changes_nothing(packaged: lab.Device, leap_s: int) -> None:
    """`date -s` by a year: no tick more or less, and nothing in the log but what a busy machine's memory says."""
    ticks_on(packaged)
    before, said = life(packaged), len(journal(packaged).splitlines())
    packaged.sh('date -s "@$(($(date +%s) + $1))"', str(leap_s))
    ticks_on(packaged)
    packaged.sh('date -s "@$(($(date +%s) - $1))"', str(leap_s))
    ticks_on(packaged)
    assert life(packaged) == before
    told = {line.split("event=")[-1].split()[0] for line in journal(packaged).splitlines()[said:]}
    assert told <= {"woken", "level", "abstains", "constraint"}


def test_a_guard_that_hangs_is_started_again(packaged: lab.Device) -> None:
    """Stopped for longer than its watchdog allows: systemd ends it, and the next one goes on with the window."""
    ticks_on(packaged)
    before, taken = life(packaged), samples(packaged)
    packaged.sh('kill -STOP "$1"', before[0])
    until(packaged, "another guard", lambda: life(packaged)[0] not in ("0", before[0]))
    until(packaged, "its answer", lambda: packaged.run("oomguard", "status").status == 0)
    ticks_on(packaged)
    assert samples(packaged) > taken
    assert "Watchdog timeout" in packaged.sh("journalctl -b -u oomguard --no-pager")


def test_a_hooks_service_that_hangs_is_started_again(packaged: lab.Device) -> None:
    """The same of the guard's hands: another process has their place, and the guard never left."""
    ticks_on(packaged)
    before, hung = life(packaged), show(packaged, "oomguard-hooks", "MainPID")
    packaged.sh('kill -STOP "$1"', hung)
    until(packaged, "other hands", lambda: show(packaged, "oomguard-hooks", "MainPID") not in ("0", hung))
    assert "Watchdog timeout" in packaged.sh("journalctl -b -u oomguard-hooks --no-pager")
    assert life(packaged) == before


# -- power loss ----------------------------------------------------------------------------------------------------

@pytest.fixture
def boot_with_disk(
    asked_for: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], lab.Device]]:
    """Boot devices that share one disk of their own, /dev/nvme0n2: what is on it outlives QEMU."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    plain, booted = lab.qemu_command, []

    def with_disk(*args: object) -> list[str]:
        drive = f"if=none,id=kept,file={image},format=raw,file.locking=off"
        return [*plain(*args), "-drive", drive, "-device", "nvme-ns,drive=kept,bus=nvme,nsid=2"]  # type: ignore[arg-type]

    monkeypatch.setattr(lab, "qemu_command", with_disk)

    def boot() -> lab.Device:
        booted.append(lab.boot())
        booted[-1].sh("mount /dev/nvme0n2 /mnt")
        return booted[-1]

    yield boot
    for device in booted:
        device.close(is_clean=False)


def test_a_power_loss_costs_the_flush_interval_at_most(
    boot_with_disk: Callable[[], lab.Device], wheel: str, tmp_path: Path,
) -> None:
    """QEMU killed hard while ten samples a second are recorded: all but the last 30 s are there after the boot."""
    device = boot_with_disk()
    payload.install(device, wheel)
    device.sh("systemd-run -q --unit=recorder -p Type=notify oomguard run --model none --target system --cadence 100ms"
              " --runtime-dir /run/recorder --journal /mnt/journal")
    flush_s = Limits().sync_s
    asked = "OOMGUARD_SOCKET=/run/recorder/control.sock oomguard status --json"
    while (target := json.loads(device.sh(asked))["targets"][0])["t_s"] < 2.5 * flush_s:
        time.sleep(0.5)
    device.close(is_clean=False)                # SIGKILL to QEMU: nothing is synced, nothing is unmounted
    again = boot_with_disk()
    times = recorded_times(again, "/mnt/journal", tmp_path)
    assert times == sorted(times) and times[0] < 5
    lost_s = target["t_s"] - times[-1]
    print(f"lost by a power loss: {lost_s:.1f} s of at most {flush_s:g} s; {len(times)} samples kept")
    assert lost_s <= flush_s + 2                # and the flush's own time
    assert read_journals(str(tmp_path / "journal")).losses.damaged_places == 0
