"""`oomguard install --systemd` on a real device, from the wheel: the same guard as the package's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.lab import device as lab

pytestmark = [pytest.mark.device, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def installed(guarded_device: lab.Device) -> Iterator[tuple[lab.Device, str]]:
    """The device after the one command, and what that said; uninstalled at the end, whatever happened."""
    said = guarded_device.sh("oomguard install --systemd", timeout_s=300)
    yield guarded_device, said
    guarded_device.sh("oomguard install --systemd --uninstall; rm -rf /var/lib/oomguard", timeout_s=300)


def test_one_command_installs_and_starts_it(installed: tuple[lab.Device, str]) -> None:
    """Units in /etc, users, settings, everything told; both units run, enabled, and the guard answers."""
    device, said = installed
    for word in ("wrote /etc/systemd/system/oomguard.service", "wrote /etc/oomguard/oomguard.yaml",
                 "ran systemd-sysusers oomguard.conf", "ran systemctl start"):
        assert word in said
    for unit in ("oomguard", "oomguard-hooks"):
        assert device.sh('systemctl is-active "$1"; systemctl is-enabled "$1"', unit).split() == ["active", "enabled"]
    assert "system" in device.sh("oomguard status")
    assert device.sh("stat -c %U /run/oomguard/control.sock") == "oomguard"


def test_twice_is_no_harm(installed: tuple[lab.Device, str]) -> None:
    """The second time every file is unchanged, and the guard is not restarted."""
    device, _said = installed
    pid = device.sh("systemctl show -P MainPID oomguard")
    said = device.sh("oomguard install --systemd", timeout_s=300)
    assert "wrote" not in said and "unchanged /etc/systemd/system/oomguard.service" in said
    assert device.sh("systemctl show -P MainPID oomguard") == pid


def test_uninstalled_nothing_runs_and_what_was_changed_stays(installed: tuple[lab.Device, str]) -> None:
    """Units, links and untouched settings go; a setting of the operator's stays and is told."""
    device, _said = installed
    device.sh("echo '# mine' >> /etc/oomguard/device.yaml")
    said = device.sh("oomguard install --systemd --uninstall", timeout_s=300)
    assert "kept /etc/oomguard/device.yaml" in said
    assert device.run("systemctl", "is-active", "oomguard", "oomguard-hooks", "oomguard-pressure.socket",
                      "oomguard-hooks.socket").out.split() == ["inactive"] * 4
    left = device.sh("find /etc -name '*oomguard*' -not -name '*agent*'; find /run -maxdepth 1 -name '*oomguard*'")
    assert left == "/etc/oomguard"
    assert device.sh("ls -A /etc/oomguard") == "device.yaml"
    assert device.sh("systemctl is-system-running || true") == "running"
    device.sh("rm -r /etc/oomguard")
