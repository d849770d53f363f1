"""The container shape: `exec` in the app's container, whose memory.oom.group=1 kills both; the journal on a volume."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.lab import device as lab

from oomguard.record.reader import read_journals

pytestmark = [pytest.mark.device, pytest.mark.timeout(900)]

INSIDE = "/root/inside"
VOLUME = "/var/tmp/volume"
# What a container runtime gives: cgroup and mount namespaces of its own, the cgroup's files read-only, a limit, and
# (OOMPolicy=kill) memory.oom.group=1.
BOX = """
unit=$1; shift
systemd-run -q --unit="$unit" -p MemoryMax=64M -p MemorySwapMax=0 -p OOMPolicy=kill \\
    -p StandardOutput=file:/run/box.out -E RUNTIME_DIRECTORY=/var/tmp/volume/run \\
    -E STATE_DIRECTORY=/var/tmp/volume/state \\
    unshare --cgroup --mount sh -euc '
        umount -l /sys/fs/cgroup
        mount -t cgroup2 -o ro none /sys/fs/cgroup
        exec "$@"' sh "$@"
cat "/sys/fs/cgroup/system.slice/$unit.service/memory.oom.group"
"""
EXEC = ("oomguard", "exec", "--name", "app", "--cadence", "500ms", "--log-json", f"{VOLUME}/log",
        "--journal", f"{VOLUME}/journal", "--")
APP = ("python3", f"{INSIDE}/app.py")


@pytest.fixture
def boxed(guarded_device: lab.Device) -> Iterator[lab.Device]:
    """The device with oomguard's wheel, the app, and an empty volume."""
    guarded_device.put(os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside"), "/root")
    guarded_device.sh(f"mkdir {VOLUME}")
    yield guarded_device
    guarded_device.sh(f"systemctl stop box || true; systemctl reset-failed box || true; rm -rf {VOLUME}")


def test_a_container_that_is_killed_leaves_its_recording(boxed: lab.Device, tmp_path: Path) -> None:
    """An app that does not listen: the kernel kills all in the container, and the volume tells up to then; how it ended
    nobody was left to say, so the run has no end.
    """
    assert boxed.sh(BOX, "box", *EXEC, "env", "-u", "MEMORY_PRESSURE_WATCH", *APP, "600") == "1"
    boxed.sh("while systemctl is-active -q box; do sleep 0.5; done", timeout_s=300)
    assert boxed.sh("systemctl show -P Result box") == "oom-kill"
    assert "memory.oom.group set" in boxed.sh("journalctl -b -k -o cat --no-pager")
    assert boxed.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q 'inside/ap[p]'").status == 1
    boxed.get(f"{VOLUME}/journal", str(tmp_path))
    (run,) = read_journals(str(tmp_path / "journal")).runs
    assert (run.ended, run.facts["app"]) == ("unknown", "app")
    assert len(run) > 10
    headroom = run.column("headroom_bytes")
    print(f"{len(run)} samples kept; headroom {headroom[0] / 2**20:.1f} -> {headroom[-1] / 2**20:.1f} MiB")
    assert headroom[-1] < headroom[0] / 2
    assert '"event":"level"' in boxed.sh(f"cat {VOLUME}/log")


def test_an_app_that_listens_lives_in_its_container(boxed: lab.Device) -> None:
    """The same app, hearing MEMORY_PRESSURE_WATCH, drops its cache in time, again and again, and ends by itself."""
    assert boxed.sh(BOX, "box", *EXEC, *APP, "60") == "1"
    boxed.sh("while systemctl is-active -q box; do sleep 0.5; done", timeout_s=300)
    assert boxed.sh("systemctl show -P Result box") == "success"
    said = boxed.sh("cat /run/box.out")
    assert "dropped" in said and said.endswith("lived")
    assert '"constraint":"cgroup:/' in boxed.sh(f"cat {VOLUME}/log")
