"""The virtual device itself: commands, files, panics, and no QEMU left behind."""

import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from bench.lab import device as lab
from bench.lab.image import REPO, LabError

pytestmark = [pytest.mark.device, pytest.mark.timeout(900)]


def text_of(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def hear_ctrl_c() -> None:
    """Undo what a shell does to what it starts in the background: SIGINT would be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_command_gives_its_output_and_status(device: lab.Device) -> None:
    """Output, errors and exit status come back; a signal counts as 128 + its number, as in a shell."""
    assert device.run("sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n", False)
    assert device.run("sh", "-c", "kill -9 $$").status == 137
    assert device.run("no-such-program").status == 127
    assert device.run("printenv", "WORD", env={"WORD": "here"}).out == "here\n"


def test_a_command_past_its_time_is_killed(device: lab.Device) -> None:
    """A command that never ends is killed at its limit, and the device answers the next one."""
    result = device.run("sleep", "infinity", timeout_s=0.5)
    assert result.is_timed_out and result.status == 137
    assert device.sh("echo still here") == "still here"


def test_a_script_that_fails_says_why(device: lab.Device) -> None:
    """sh() raises with the script's own words."""
    with pytest.raises(LabError, match=r"exit status 4.*\nbecause"):
        device.sh("echo because >&2; exit 4")


def test_files_go_in_and_out(device: lab.Device, tmp_path: object) -> None:
    """A folder of the host comes back from the device byte for byte, larger than any buffer on the way."""
    folder = f"{tmp_path}/payload"
    os.mkdir(folder)
    content = os.urandom(3_000_001)
    with open(f"{folder}/data", "wb") as file:
        file.write(content)
    device.put(folder, "/var/tmp/in")
    device.get("/var/tmp/in/payload", f"{tmp_path}/out")
    with open(f"{tmp_path}/out/payload/data", "rb") as file:
        assert file.read() == content


def test_a_panic_is_told_and_tried_again(asked_for: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that panics at boot (no init) is booted again; each panic is said, the last one raised."""
    monkeypatch.setattr(lab, "KERNEL_LINE", f"{lab.KERNEL_LINE} init=/no/such/init")
    said: list[str] = []
    with pytest.raises(lab.PanicError, match="Kernel panic - not syncing"):
        lab.boot(tries=2, say=said.append)
    assert sum("Kernel panic" in line for line in said) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_qemu_outlives_us(asked_for: None, number: signal.Signals) -> None:
    """However the host's side ends, Ctrl-C or killed outright, its QEMU ends with it."""
    host = subprocess.Popen([sys.executable, "-m", "bench.lab", "boot"], cwd=REPO, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            preexec_fn=hear_ctrl_c)  # noqa: PLW1509  no threads here
    assert host.stderr is not None
    while not re.search("booting", host.stderr.readline()):
        pass
    qemu_pid = int(text_of(f"/proc/{host.pid}/task/{host.pid}/children"))
    while not text_of(f"/proc/{qemu_pid}/comm").startswith("qemu"):  # setpriv, for some milliseconds
        time.sleep(0.01)
    qemu = os.pidfd_open(qemu_pid)
    host.send_signal(number)
    host.communicate(timeout=30)
    ended = select.select([qemu], [], [], 30)[0]
    os.close(qemu)
    assert ended == [qemu]
