"""Who guards the device in the survey: each arm starts its guard, and takes it away again."""

from __future__ import annotations

import os
from typing import NamedTuple

from bench.lab.device import Device
from bench.lab.payload import DEB_TIMEOUT_S, install_deb

OOMGUARD = ("oomguard.slice",)
# Its targets by name; the apps speak the protocol themselves, redis does not: it has a hook.
RULES = """
version: 1
targets:
  - {name: browser, unit: browser.service}
  - {name: worker, unit: worker.service}
  - {name: store, unit: store.service}
hooks:
  - {name: redis, redis: {address: "127.0.0.1:6379", policy: allkeys-lru}, targets: [store]}
"""
LISTENERS = ("browser", "worker")
# systemd-oomd acts on what it is told to watch: in Debian users' sessions only. As Fedora does for system.slice.
OOMD = """
mkdir -p /run/systemd/system/apps.slice.d /run/systemd/system/oomguard-agent.service.d
printf '[Slice]\\nManagedOOMMemoryPressure=kill\\nManagedOOMSwap=kill\\n' > /run/systemd/system/apps.slice.d/oomd.conf
# The lab's own hand in the device is no candidate.
printf '[Service]\\nManagedOOMPreference=omit\\n' > /run/systemd/system/oomguard-agent.service.d/oomd.conf
systemctl -q unmask systemd-oomd.service systemd-oomd.socket
systemctl daemon-reload
systemctl start systemd-oomd.service
"""
OOMD_END = """
systemctl stop systemd-oomd.service systemd-oomd.socket
rm /run/systemd/system/apps.slice.d/oomd.conf /run/systemd/system/oomguard-agent.service.d/oomd.conf
systemctl daemon-reload
"""


class Arm(NamedTuple):
    """One way to guard a device."""

    name: str
    label: str
    hears: str = "kernel"               # what its apps listen to: HEARS in workload.py
    cgroups: tuple[str, ...] = ()       # the guard's own
    journal: tuple[str, ...] = ()       # its units
    kill_words: str = ""                # what its log says of a kill; the group names the process
    is_asked_for: bool = False          # opt-in

    def start(self, device: Device, deb: str) -> None:
        """Bring the guard up."""
        if self.name == "systemd-oomd":
            device.sh(OOMD)
        elif self.name.startswith("oomguard"):
            start_oomguard(device, deb, has_model=self.name == "oomguard")
        elif self.journal:
            device.sh('systemctl -q unmask "$1"; systemctl start "$1"', *self.journal)

    def stop(self, device: Device) -> None:
        """Take the guard away."""
        if self.name == "systemd-oomd":
            device.sh(OOMD_END)
        elif self.name.startswith("oomguard"):
            # Whole: a drop-in or a socket that stayed would start it again in the next arm (seen). Purging takes both.
            device.sh("dpkg --purge oomguard", timeout_s=DEB_TIMEOUT_S)
        elif self.journal:
            device.sh('systemctl stop "$1"', *self.journal)


def start_oomguard(device: Device, deb: str, has_model: bool) -> None:
    """Install the package by one command, name the apps, and take that up."""
    install_deb(device, deb)
    for unit in LISTENERS:
        device.sh('oomguard install --unit "$1" > /dev/null', unit)
    device.sh('printf %s "$1" > /etc/oomguard/rules.d/50-apps.yaml', RULES if has_model else f"{RULES}model: none\n")
    device.sh("oomguard check /etc/oomguard; systemctl restart oomguard-hooks oomguard", timeout_s=180)


ARMS = {arm.name: arm for arm in (
    Arm("nothing", "nothing", hears="nothing"),
    Arm("pressure", "systemd's own pressure"),
    Arm("earlyoom", "earlyoom", cgroups=("system.slice/earlyoom.service",), journal=("earlyoom.service",),
        kill_words=r"sending SIG(?:TERM|KILL) to process (\d+)"),
    Arm("systemd-oomd", "systemd-oomd", cgroups=("system.slice/systemd-oomd.service",),
        journal=("systemd-oomd.service",), kill_words=r"Killed (\S+) due to"),
    Arm("nohang", "nohang", cgroups=("system.slice/nohang.service",), journal=("nohang.service",),
        kill_words=r"(?i)sending SIG(?:TERM|KILL) to PID (\d+)", is_asked_for=True),
    Arm("oomguard-rules", "oomguard, rules only", hears="guard", cgroups=OOMGUARD, journal=("oomguard.service",)),
    Arm("oomguard", "oomguard with its model", hears="guard", cgroups=OOMGUARD, journal=("oomguard.service",)),
)}
INSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside")
