"""Debian 12 (systemd 252, Python 3.11, Linux 6.1): the package guards it, and again after a reboot. Opt-in."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from bench.lab import device as lab
from bench.lab import payload
from bench.lab.image import DISK_SIZE, MASKED, Recipe
from test_package import journal, show, status, until

pytestmark = [pytest.mark.device, pytest.mark.timeout(1800)]

PACKAGES = ("systemd", "systemd-sysv", "udev", "dbus", "python3", "python3-yaml", "python3-jeepney",
            "linux-image-cloud-amd64")
UNITS = ("oomguard", "oomguard-hooks")


@pytest.fixture(scope="module")
def bookworm(asked_for: None, deb: str) -> Iterator[lab.Device]:
    """A device of its own, from an image of its own, with the package installed by one command."""
    if os.environ.get("OOMGUARD_BOOKWORM") != "1":
        pytest.skip("boots a device with Debian 12 as well: set OOMGUARD_BOOKWORM=1")
    with pytest.MonkeyPatch.context() as patch:
        # Without it the device did not come back from a restart: Linux 6.1 asks QEMU for it in another way (tried).
        patch.setattr(lab, "KERNEL_LINE", f"{lab.KERNEL_LINE} reboot=t")
        with lab.boot(recipe=Recipe("bookworm", PACKAGES, DISK_SIZE, MASKED)) as device:
            payload.install_deb(device, deb)
            yield device


def test_one_command_guards_it(bookworm: lab.Device) -> None:
    """Both units run, with the model; what systemd 252 does not know is said once and does no harm."""
    said = bookworm.sh(". /etc/os-release; echo $VERSION_ID; systemctl --version | head -n 1; python3 -V; uname -r")
    print(said)
    assert said.startswith("12\nsystemd 252")
    for unit in UNITS:
        assert (show(bookworm, unit, "ActiveState"), show(bookworm, unit, "UnitFileState")) == ("active", "enabled")
    assert bookworm.sh("systemctl is-system-running --wait") == "running"
    found = status(bookworm)
    assert [target["name"] for target in found["targets"]] == ["system"]
    assert found["model"] is not None
    assert "scorer=forest" in journal(bookworm)


def test_it_comes_back_with_its_window(bookworm: lab.Device) -> None:
    """kill -9: another process, and the window goes on."""
    pid = show(bookworm, "oomguard", "MainPID")
    until(bookworm, "some samples", lambda: status(bookworm)["targets"][0]["samples"] >= 5)
    bookworm.sh('kill -9 "$1"', pid)
    until(bookworm, "another guard", lambda: show(bookworm, "oomguard", "MainPID") not in ("0", pid)
          and bookworm.run("oomguard", "status").status == 0)
    assert "is_continued=true" in [line for line in journal(bookworm).splitlines() if "event=guarding" in line][-1]


def test_its_rules_are_taken_up_again(bookworm: lab.Device) -> None:
    """`systemctl reload` finishes, with the same process."""
    pid = show(bookworm, "oomguard", "MainPID")
    bookworm.sh("systemctl reload oomguard")
    assert "event=reload " in journal(bookworm)
    assert show(bookworm, "oomguard", "MainPID") == pid


def test_after_a_reboot_it_guards(bookworm: lab.Device) -> None:
    """The guard is ready before what comes after basic.target begins."""
    bookworm.reboot()
    for unit in UNITS:
        assert show(bookworm, unit, "ActiveState") == "active"
    ready_us = int(show(bookworm, "oomguard", "ActiveEnterTimestampMonotonic"))
    assert 0 < ready_us <= int(show(bookworm, "basic.target", "ActiveEnterTimestampMonotonic"))
    assert status(bookworm)["targets"][0]["name"] == "system"
