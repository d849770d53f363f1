"""The survey's devices: what is on their disk, how large they are, and with which swap."""

from __future__ import annotations

from typing import NamedTuple

from bench.lab.device import Device
from bench.lab.image import DISK_SIZE, MASKED, PACKAGES, SUITE, Recipe

# The tests' device, and those who guard memory on Debian; none runs but the arm's own.
PEERS = ("earlyoom", "systemd-oomd", "nohang")
PEER_UNITS = ("earlyoom.service", "systemd-oomd.service", "systemd-oomd.socket", "nohang.service",
              "nohang-desktop.service")
# Debian 12 has no python3-msgspec, and nothing on the device needs it; its libglib has another name.
BOOKWORM_LACKS = ("python3-msgspec", "libglib2.0-0t64")
RECIPES = {
    SUITE: Recipe(SUITE, (*PACKAGES, *PEERS), DISK_SIZE, (*MASKED, *PEER_UNITS)),
    "bookworm": Recipe("bookworm", (*(name for name in PACKAGES if name not in BOOKWORM_LACKS), *PEERS), DISK_SIZE,
                       (*MASKED, *PEER_UNITS)),
}
SWAPS = ("none", "zram")
# What zram-generator makes where nothing else is said: half of the memory. udev may hold the device for a moment.
ZRAM = """
swapoff -a
modprobe zram
size=$(($(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) * 512))
until { echo 1 > /sys/block/zram0/reset && echo $size > /sys/block/zram0/disksize; } 2> /dev/null; do sleep 0.2; done
mkswap -q /dev/zram0
swapon /dev/zram0
"""
FORGET = "sync; echo 3 > /proc/sys/vm/drop_caches"


class Site(NamedTuple):
    """One device of the survey."""

    memory_mib: int
    swap: str = "none"
    suite: str = SUITE

    @property
    def name(self) -> str:
        """What it is called in tables: 256 MB, with zram."""
        swap = {"none": "no swap"}.get(self.swap, self.swap)
        return f"{self.memory_mib} MB, {swap}" + ("" if self.suite == SUITE else f", {self.suite}")


def make_ready(device: Device, site: Site) -> None:
    """Give an arm the device as the last one found it: swap empty, no page cache."""
    device.sh("swapoff -a; " + FORGET if site.swap == "none" else ZRAM + FORGET)
