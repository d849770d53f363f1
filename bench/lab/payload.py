"""Put oomguard into a virtual device: as the wheel or the Debian package that users get, with its compiled kernel."""

import glob
import os
import shutil
import sys
import tempfile

from bench.lab.device import Device
from bench.lab.image import REPO, call

WHEEL_TIMEOUT_S = 300.0
PACKAGE_FOLDER = "/usr/local/lib/python3.13/dist-packages"  # on Debian's sys.path, under -I too
LAUNCHER = "#!/usr/bin/python3 -I\nimport sys\nfrom oomguard.cli import main\nsys.exit(main())\n"
DEB_TIMEOUT_S = 300.0


def build_wheel(folder: str) -> str:
    """Build oomguard's wheel into `folder`, from a copy of the tree: a stale build/ would get into it."""
    with tempfile.TemporaryDirectory(prefix="oomguard-wheel-") as scratch:
        source = os.path.join(scratch, "source")
        skip = shutil.ignore_patterns(".*", "build", "dist", "out", "*.egg-info", "__pycache__", "*.so",
                                      "bench", "tests", "docs")
        shutil.copytree(REPO, source, symlinks=True, ignore=skip)
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
        call([*pip, "-w", folder, source], WHEEL_TIMEOUT_S)
    return glob.glob(os.path.join(folder, "oomguard-*.whl"))[0]


def install(device: Device, wheel: str) -> None:
    """Put a wheel of oomguard into the device, with its command; what it needs is there already."""
    device.put(wheel, "/root")
    device.sh('mkdir -p "$1" && python3 -m zipfile -e "$2" "$1"', PACKAGE_FOLDER,
              f"/root/{os.path.basename(wheel)}")
    device.sh('printf %s "$1" > /usr/local/bin/oomguard && chmod 755 /usr/local/bin/oomguard', LAUNCHER)


def remove(device: Device) -> None:
    """Take the wheel out of the device again."""
    device.sh('rm -rf "$1"/oomguard "$1"/oomguard-* /usr/local/bin/oomguard', PACKAGE_FOLDER)


def build_deb(folder: str) -> str:
    """Build oomguard's Debian package into `folder`; return its path."""
    build = os.path.join(REPO, "agent", "deploy", "debian", "build.py")
    call([sys.executable, build, "--out", folder], WHEEL_TIMEOUT_S)
    return glob.glob(os.path.join(folder, "oomguard_*.deb"))[0]


def install_deb(device: Device, deb: str) -> str:
    """Install a package as its owner would, by one command; return what dpkg said. What it needs is there already."""
    device.put(deb, "/root")
    return device.sh('dpkg --install "$1" 2>&1', f"/root/{os.path.basename(deb)}", timeout_s=DEB_TIMEOUT_S)
