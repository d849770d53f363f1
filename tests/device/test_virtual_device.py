"""What a device with cgroup v2 and a real systemd does, seen on one booted under QEMU."""

import pytest
from bench.lab import device as lab

pytestmark = [pytest.mark.device, pytest.mark.timeout(900)]

LIMIT_BYTES = 64 << 20
CGROUP = "/sys/fs/cgroup/lab"
IN_CGROUP = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'


def run_in_cgroup(device: lab.Device, *argv: str, timeout_s: float = 60) -> lab.Result:
    return device.run("sh", "-euc", IN_CGROUP, "sh", CGROUP, *argv, timeout_s=timeout_s)


def memory_events(device: lab.Device) -> dict[str, int]:
    lines = device.sh('cat "$1/memory.events"', CGROUP).splitlines()
    return {name: int(count) for name, count in (line.split() for line in lines)}


def allocate(mib: int) -> tuple[str, ...]:
    """A Python program that holds so many MiB and ends."""
    return ("python3", "-c", f"bytearray({mib} << 20); print('done')")


def test_the_device_is_systemd_on_cgroup_v2_with_pressure(device: lab.Device) -> None:
    """PID 1 is systemd, up without a failed unit; cgroup2 has its memory controller; PSI is on."""
    assert device.sh("cat /proc/1/comm") == "systemd"
    assert device.sh("systemctl is-system-running --wait") == "running"
    assert device.sh("stat -fc %T /sys/fs/cgroup") == "cgroup2fs"
    assert "memory" in device.sh("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert device.sh("cat /proc/pressure/memory").startswith("some avg10=")


def test_every_file_the_guard_reads_is_there(device: lab.Device) -> None:
    """A fresh cgroup has current, max, high, stat, events, swap, pressure and reclaim."""
    device.make_cgroup("lab", LIMIT_BYTES)
    names = ["current", "max", "high", "stat", "events", "swap.current", "swap.max", "pressure", "reclaim"]
    for name in names:
        device.sh('[ -e "$1" ]', f"{CGROUP}/memory.{name}")
    stat = device.sh('cat "$1/memory.stat"', CGROUP).split()
    assert {"anon", "shmem", "kernel", "slab_reclaimable", "unevictable", "pgmajfault"} <= set(stat)
    assert int(device.sh('cat "$1/memory.max"', CGROUP)) == LIMIT_BYTES


def test_the_kernel_kills_a_program_past_its_limit(device: lab.Device) -> None:
    """A program that needs twice its memory.max ends by SIGKILL; memory.events and the log say so."""
    device.make_cgroup("lab", LIMIT_BYTES)
    result = run_in_cgroup(device, *allocate(128))
    assert result.status == 137
    assert memory_events(device)["oom_kill"] == 1
    assert "Memory cgroup out of memory: Killed process" in device.sh("journalctl -k -o cat --no-pager")


def test_the_kernel_leaves_a_program_within_its_limit(device: lab.Device) -> None:
    """The same program with a quarter of the limit ends by itself, and nothing is counted as a kill."""
    device.make_cgroup("lab", LIMIT_BYTES)
    result = run_in_cgroup(device, *allocate(16))
    assert (result.status, result.out) == (0, "done\n")
    assert memory_events(device)["oom_kill"] == 0


def test_redis_without_a_bound_is_killed(device: lab.Device) -> None:
    """A real program: redis-server, a unit with MemoryMax, filled past it, ends with Result=oom-kill."""
    limit = f"MemoryMax={LIMIT_BYTES}"
    device.sh("""
        systemd-run -q --unit=redis-lab -p "$1" -p MemorySwapMax=0 -p Type=notify \\
            redis-server --supervised systemd --save '' --unixsocket /run/redis.sock --port 0
    """, limit)
    # One large value: filled by small ones it did not die for minutes, refaulting its own code (tried).
    device.run("redis-cli", "-s", "/run/redis.sock", "setrange", "key", str(2 * LIMIT_BYTES), "end")
    device.sh("while systemctl is-active -q redis-lab; do sleep 0.2; done")
    assert device.sh("systemctl show -P Result redis-lab") == "oom-kill"
    device.sh("systemctl reset-failed redis-lab")


def test_reclaim_brings_current_down(device: lab.Device) -> None:
    """Writing memory.reclaim gives page cache back: memory.current falls by what was asked for."""
    device.make_cgroup("lab", LIMIT_BYTES)
    run_in_cgroup(device, "sh", "-c", "head -c 40000000 /dev/zero > /var/tmp/filler && sync")
    before = int(device.sh('cat "$1/memory.current"', CGROUP))
    assert before > 38_000_000
    device.sh('echo 20000000 > "$1/memory.reclaim"', CGROUP)
    after = int(device.sh('cat "$1/memory.current"', CGROUP))
    assert before - after >= 19_000_000
    device.sh("rm /var/tmp/filler")
