"""Build the virtual device's disk: a Debian root and its kernel, cached by a digest of the recipe.

Every Python package that oomguard needs on a device is in Debian, so that nothing is fetched inside. Building
needs root (it makes device nodes and a chroot) and about half a minute; booting needs neither.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOST_TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs",
              "setpriv": "util-linux"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
BUILD_TIMEOUT_S = 900
INSTALL_TIMEOUT_S = 600

# Debian 13: systemd 257 (its libsystemd speaks the memory-pressure protocol), Python 3.13, Linux 6.12.
SUITE = "trixie"
PACKAGES = ("systemd", "systemd-sysv", "udev", "dbus", "python3", "python3-psutil", "python3-yaml",
            "python3-msgspec", "python3-jeepney", "libglib2.0-0t64", "redis-server", "linux-image-cloud-amd64")
DISK_SIZE = "1G"  # sparse: 0.2 GB are written
MASKED = ("redis-server.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
          "fstrim.timer", "systemd-tmpfiles-clean.timer", "getty.target")
UNIT = r"""
[Unit]
Description=Runs what the host asks for
# Without it the agent was at times started before udev had made its port (tried).
After=dev-virtio\x2dports-oomguard.0.device
BindsTo=dev-virtio\x2dports-oomguard.0.device
# A device without its agent is of no use: the host sees QEMU end.
FailureAction=poweroff-immediate
[Service]
ExecStart=/usr/bin/python3 -I /usr/local/lib/oomguard-agent.py
OOMScoreAdjust=-1000
# A command that the kernel kills is a result, not the agent's failure.
OOMPolicy=continue
TasksMax=infinity
Environment=HOME=/root
StandardError=journal+console
[Install]
WantedBy=multi-user.target
"""

Say = Callable[[str], None]


class LabError(Exception):
    """The virtual device could not be made or run; the text says what to do."""


class Image(NamedTuple):
    """A built disk and the kernel that boots it."""

    disk: str
    kernel: str


def cache_folder() -> str:
    """Return where built images are kept: $XDG_CACHE_HOME/oomguard, or .cache/ in the work tree."""
    base = os.environ.get("XDG_CACHE_HOME")
    return os.path.join(base, "oomguard") if base else os.path.join(REPO, ".cache")


def agent_text() -> str:
    """Return the program that answers the host from inside."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent.py"), encoding="utf-8") as file:
        return file.read()


class Recipe(NamedTuple):
    """What a disk is made of."""

    suite: str
    packages: tuple[str, ...]
    disk_size: str
    masked: tuple[str, ...]


def device_recipe() -> Recipe:
    """Return what tests boot."""
    return Recipe(SUITE, PACKAGES, DISK_SIZE, MASKED)


def recipe_digest(recipe: Recipe | None = None) -> str:
    """Return what names the image: all that its content depends on, apart from the archive's day."""
    parts = [*(recipe or device_recipe()), UNIT, agent_text()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def ensure_host(say: Say = print) -> None:
    """Install the host's packages where they are missing and we may; otherwise say what to install."""
    missing = [package for tool, package in HOST_TOOLS.items() if not find_tool(tool)]
    if not os.path.exists(KEYRING):
        missing.append("debian-archive-keyring")
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() or not find_tool("apt-get"):
        raise LabError(f"the virtual device needs, as root: {' '.join(command)}")
    say(f"host: installing {' '.join(missing)}")
    for step in (["apt-get", "update"], command):
        call(step, INSTALL_TIMEOUT_S)


def find_tool(name: str) -> str | None:
    """Find a program, also where an ordinary user's PATH does not look (mke2fs is in /usr/sbin)."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")


def call(command: list[str], timeout_s: float) -> None:
    """Run a program quietly; show the end of its output only if it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=environment, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command[0]}: not done after {timeout_s:.0f} s") from error
    if done.returncode:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-20:])
        raise LabError(f"{' '.join(command[:2])}: exit status {done.returncode}\n{tail}")


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold the cache's lock: of two builds at once, the second finds the first one's image."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(again: bool = False, say: Say = print, recipe: Recipe | None = None) -> Image:
    """Return the image of a recipe, the tests' where none is named, built first where the cache does not hold it."""
    recipe = recipe or device_recipe()
    cache = cache_folder()
    final = os.path.join(cache, f"device-{recipe_digest(recipe)}")
    with locked(cache):
        if again:
            shutil.rmtree(final, ignore_errors=True)
        if not os.path.isdir(final):
            ensure_host(say)
            if os.geteuid():
                raise LabError("building the virtual device needs root, once: run this as root")
            with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as scratch:
                os.rename(make(scratch, say, recipe), final)
    return Image(os.path.join(final, "root.img"), os.path.join(final, "vmlinuz"))


def make(scratch: str, say: Say, recipe: Recipe) -> str:
    """Build in `scratch`; return the folder that holds the disk and the kernel."""
    root, result = os.path.join(scratch, "root"), os.path.join(scratch, "result")
    os.mkdir(result)
    say(f"image 1/2: a Debian {recipe.suite} root with mmdebstrap (about half a minute)")
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    call(["mmdebstrap", "--mode=root", "--variant=minbase", "--include=" + ",".join(recipe.packages),
          "--aptopt=APT::Install-Recommends false", *left_out, recipe.suite, root], BUILD_TIMEOUT_S)
    os.rename(glob.glob(os.path.join(root, "boot", "vmlinuz-*"))[0], os.path.join(result, "vmlinuz"))
    settle(root, recipe.masked)
    say(f"image 2/2: a disk of {recipe.disk_size} with mke2fs")
    call([find_tool("mke2fs") or "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", root,
          os.path.join(result, "root.img"), recipe.disk_size], BUILD_TIMEOUT_S)
    return result


def settle(root: str, masked: tuple[str, ...]) -> None:
    """Give a fresh root its name and agent, and leave out what a device in the lab does not need."""
    for name in glob.glob(os.path.join(root, "boot", "*")):
        os.unlink(name)
    units = os.path.join(root, "etc/systemd/system")
    for unit in masked:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(units, "multi-user.target.wants", unit))
        os.symlink("/dev/null", os.path.join(units, unit))
    write(root, "usr/local/lib/oomguard-agent.py", agent_text())
    write(root, "etc/systemd/system/oomguard-agent.service", UNIT)
    wants = os.path.join(units, "multi-user.target.wants")
    os.symlink("../oomguard-agent.service", os.path.join(wants, "oomguard-agent.service"))
    write(root, "etc/hostname", "device\n")
    for folder in ("etc", "var"):  # newer than /usr: systemd rebuilds no caches at each boot
        write(root, f"{folder}/.updated", "")


def write(root: str, name: str, text: str) -> None:
    """Write one text file of the root."""
    with open(os.path.join(root, name), "w", encoding="utf-8") as file:
        file.write(text)
