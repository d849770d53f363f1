"""oomguard itself on cgroup v2 and a real systemd: it reads, reclaims, asks and is heard."""

import json
import os

import pytest
from bench.lab import device as lab

pytestmark = [pytest.mark.device, pytest.mark.timeout(900)]

MIB = 1 << 20
LIMIT_BYTES = 64 * MIB
INSIDE = "/root/inside"
APP = f"{INSIDE}/app.py"    # reaches 48 MiB after some 21 s
EXEC = ("oomguard", "exec", "--limit", "48MiB", "--cadence", "500ms", "--")
ON_LAB = 'echo $$ > /sys/fs/cgroup/lab/cgroup.procs; exec "$@"'


@pytest.fixture(scope="module")
def guarded(guarded_device: lab.Device) -> lab.Device:
    guarded_device.put(os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside"), "/root")
    return guarded_device


@pytest.fixture
def cgroup(guarded: lab.Device) -> str:
    """A cgroup of 64 MiB without swap, at /lab."""
    guarded.make_cgroup("lab", LIMIT_BYTES)
    return "/lab"


def python(device: lab.Device, program: str, *args: str) -> dict[str, object]:
    """Run one of the programs in inside/ with the installed oomguard; return the JSON that it prints."""
    answer: dict[str, object] = json.loads(device.sh('exec python3 "$@"', f"{INSIDE}/{program}.py", *args))
    return answer


def current_bytes(device: lab.Device, cgroup: str) -> int:
    return int(device.sh('cat "/sys/fs/cgroup$1/memory.current"', cgroup))


def fill_page_cache(device: lab.Device, size_bytes: int) -> None:
    """Write a file from within /lab: its pages are charged there and can be given back."""
    device.sh(ON_LAB.replace('"$@"', 'sh -c "head -c $1 /dev/zero > /var/tmp/filler; sync"'), str(size_bytes))


def test_the_wheel_runs_on_the_device(guarded: lab.Device) -> None:
    """The installed command answers, and the C kernel built on the host loads under the device's Python."""
    assert "exec" in guarded.sh("oomguard --help")
    guarded.sh("python3 -I -c 'import oomguard._kernel'")


def test_the_sensor_reads_a_v2_cgroup(guarded: lab.Device, cgroup: str) -> None:
    """Limit, used, charged, headroom and pressure of a running program agree with the kernel's own files."""
    hold = "import time; hoard = bytearray(b'x') * (20 << 20); open('/run/held', 'w').close(); time.sleep(600)"
    guarded.sh('rm -f /run/held; sh -c "$1" sh python3 -c "$2" & until [ -e /run/held ]; do sleep 0.1; done',
               ON_LAB, hold)
    told = python(guarded, "sense", cgroup)
    sample, kernel = told["sample"], told["kernel"]
    assert isinstance(sample, dict) and isinstance(kernel, dict)
    assert (sample["constraint"], sample["limit_bytes"]) == (f"cgroup:{cgroup}", LIMIT_BYTES)
    assert sample["used_bytes"] > 20 * MIB
    used = kernel["anon"] + kernel["shmem"] + kernel["kernel"] - kernel["slab_reclaimable"]
    assert sample["used_bytes"] == pytest.approx(used, abs=MIB)
    assert sample["charged_bytes"] == pytest.approx(kernel["current"], abs=MIB)
    assert sample["headroom_bytes"] == sample["limit_bytes"] - sample["used_bytes"]
    assert sample["psi_some_us"] >= 0 and sample["psi_full_us"] >= 0
    assert (told["kills"], told["trouble"], len(told["pids"])) == (0, "", 1)  # type: ignore[arg-type]


def test_the_sensor_counts_a_kill(guarded: lab.Device, cgroup: str) -> None:
    """An OOM kill in the cgroup is seen as one."""
    killed = guarded.run("sh", "-c", ON_LAB, "sh", "python3", "-c", f"bytearray({2 * LIMIT_BYTES})")
    assert killed.status == 137
    assert python(guarded, "sense", cgroup)["kills"] == 1


def test_the_reclaim_hook_brings_current_down(guarded: lab.Device, cgroup: str) -> None:
    """The reclaim hook writes memory.reclaim: memory.current falls by what was asked, and it tells the truth."""
    fill_page_cache(guarded, 40 * MIB)
    before = current_bytes(guarded, cgroup)
    outcome = python(guarded, "reclaim", cgroup, str(20 * MIB))
    fell = before - current_bytes(guarded, cgroup)
    assert outcome["ok"], outcome
    assert fell >= 19 * MIB
    assert outcome["freed_bytes"] == pytest.approx(fell, abs=2 * MIB)


def test_a_rule_reclaims_under_systemd(guarded: lab.Device, cgroup: str) -> None:
    """`oomguard run` as a Type=notify unit comes up, its rule fires, and memory.reclaim frees page cache."""
    fill_page_cache(guarded, 48 * MIB)
    before = current_bytes(guarded, cgroup)
    guarded.sh("systemd-run -q --unit=guard -p Type=notify oomguard run --rules /root/inside/reclaim.yaml")
    guarded.sh("until journalctl -u guard -o cat | grep -q event=release; do sleep 0.2; done")
    assert before - current_bytes(guarded, cgroup) >= 15 * MIB
    guarded.sh("systemctl stop guard")


def test_an_unguarded_leak_is_killed_and_exec_says_so(guarded: lab.Device) -> None:
    """An app that does not listen is killed at its limit: `exec` ends with 137 and its log has the kill."""
    result = guarded.run(*EXEC, "env", "-u", "MEMORY_PRESSURE_WATCH", "python3", APP, "32", timeout_s=120)
    assert result.status == 137
    assert "ended=oom" in result.err
    assert "lived" not in result.out


def test_the_same_leak_lives_when_it_listens(guarded: lab.Device) -> None:
    """The same app that hears MEMORY_PRESSURE_WATCH drops its cache in time and ends by itself."""
    result = guarded.run(*EXEC, "python3", APP, "32", timeout_s=120)
    assert result.status == 0, result.err
    assert "dropped" in result.out and "lived" in result.out


def test_libsystemd_hears_us(guarded: lab.Device) -> None:
    """A program on libsystemd's sd_event_add_memory_pressure, unchanged, gets our alarm through the FIFO."""
    result = guarded.run(*EXEC, "python3", f"{INSIDE}/listener.py", "40")
    assert (result.status, result.out) == (0, "listening\nheard\n"), result.err
