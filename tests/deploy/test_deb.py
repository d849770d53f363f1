"""The Debian package, built twice: the same bits; and what is in it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
BUILD = "agent/deploy/debian/build.py"
EPOCH_S = 1_700_000_000

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")


def build(tree: Path, out: Path, umask: int = 0o022) -> Path:
    """Build in a tree; return the package."""
    environ = os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH_S)}
    done = subprocess.run([sys.executable, BUILD, "--out", str(out)], cwd=tree, env=environ, capture_output=True,
                          text=True, check=False, umask=umask)
    assert done.returncode == 0, done.stderr
    return next(out.glob("oomguard_*.deb"))


def copy(folder: Path) -> Path:
    """Return a copy of the tree as it is now, without what is no part of it."""
    skip = shutil.ignore_patterns(".*", "build", "dist", "out", "*.egg-info", "__pycache__", "*.so", "recordings")
    shutil.copytree(REPO, folder, symlinks=True, ignore=skip)
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two packages of one tree, built in other folders and under another umask."""
    base = tmp_path_factory.mktemp("deb")
    first = copy(base / "a")
    second = base / "some" / "other" / "place"
    second.parent.mkdir(parents=True)
    shutil.copytree(first, second, symlinks=True)
    return build(first, base / "out1"), build(second, base / "out2", umask=0o077)


@pytest.fixture(scope="module")
def unpacked(packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first one's files, and DEBIAN/."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", str(packages[0]), str(folder)], check=True)
    return folder


def test_built_twice_it_is_the_same(packages: tuple[Path, Path]) -> None:
    """The same name and the same bits."""
    assert packages[0].name == packages[1].name
    assert hashlib.sha256(packages[0].read_bytes()).digest() == hashlib.sha256(packages[1].read_bytes()).digest()


def test_everything_belongs_to_root_and_has_one_time(packages: tuple[Path, Path]) -> None:
    """No file can be written by others; times are SOURCE_DATE_EPOCH."""
    listed = subprocess.run(["dpkg-deb", "--contents", str(packages[0])], capture_output=True, text=True, check=True,
                            env=os.environ | {"TZ": "UTC", "LC_ALL": "C.UTF-8"}).stdout.splitlines()
    assert {line.split()[1] for line in listed} == {"root/root"}
    assert {" ".join(line.split()[3:5]) for line in listed} == {"2023-11-14 22:13"}
    assert {line.split()[0] for line in listed} == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}
    assert [line.split()[5] for line in listed if line.startswith("-rwx")] == ["./usr/bin/oomguard"]


def test_what_is_installed_where(unpacked: Path) -> None:
    """Units, settings, the C kernel, model, rules, man page; settings are conffiles, and nothing else is."""
    for name in ("usr/lib/systemd/system/oomguard.service", "usr/lib/systemd/system/oomguard.slice",
                 "usr/lib/sysusers.d/oomguard.conf", "usr/lib/tmpfiles.d/oomguard.conf",
                 "usr/share/dbus-1/system.d/org.freedesktop.LowMemoryMonitor.conf",
                 "usr/lib/python3/dist-packages/oomguard/_kernel.abi3.so",
                 "usr/lib/python3/dist-packages/oomguard/model/forest.bin",
                 "usr/lib/python3/dist-packages/oomguard/rules/default.yaml",
                 "usr/share/man/man1/oomguard.1.gz", "usr/share/doc/oomguard/operate.md"):
        assert (unpacked / name).is_file(), name
    conffiles = (unpacked / "DEBIAN/conffiles").read_text().split()
    assert conffiles == ["/etc/oomguard/device.yaml", "/etc/oomguard/oomguard.yaml", "/etc/oomguard/rules.d/README"]
    assert not list(unpacked.rglob("__pycache__"))
    kernel = (unpacked / "usr/lib/python3/dist-packages/oomguard/_kernel.abi3.so").read_bytes()
    assert b"oomguard-deb" not in kernel and str(REPO).encode() not in kernel


def test_the_fields_that_dpkg_reads(unpacked: Path) -> None:
    """Name, version and architecture; what it needs is what it imports and what its scripts call."""
    fields = dict(re.findall(r"^(\S+): (.*)$", (unpacked / "DEBIAN/control").read_text(), re.MULTILINE))
    assert (fields["Package"], fields["Version"]) == ("oomguard", "0.1.0")
    assert re.match(r"python3 \(>= 3\.11\), python3-yaml .*libc6 \(>= 2\.\d+\)", fields["Depends"])
    assert fields["Conflicts"] == "low-memory-monitor"


def test_it_runs_from_where_it_lies(unpacked: Path, tmp_path: Path) -> None:
    """The package's own files, in a Python that has nothing but PyYAML beside them, check their own settings."""
    program = ("import sys; sys.path[:0] = sys.argv[1:3]; sys.modules['msgspec'] = sys.modules['psutil'] = None\n"
               "from oomguard.cli import main; sys.exit(main(['check', sys.argv[3]]))")
    import yaml

    site = tmp_path / "site"
    site.mkdir()
    (site / "yaml").symlink_to(Path(yaml.__file__).parent)
    packages = unpacked / "usr/lib/python3/dist-packages"
    done = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", program, str(packages), str(site),
                           str(unpacked / "etc/oomguard")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fine" in done.stdout


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_the_scripts_are_sound(script: str) -> None:
    """Each parses as POSIX shell and stops at an error; dpkg calls prerm and postrm in ways that do nothing, too."""
    path = REPO / "agent/deploy/debian" / script
    subprocess.run(["dash" if shutil.which("dash") else "sh", "-n", str(path)], check=True)
    assert path.read_text().splitlines()[2] == "set -e"
    if script == "postinst":
        subprocess.run(["sh", str(path), "triggered"], check=True)
    if script == "postrm":
        subprocess.run(["sh", str(path), "disappear"], check=True, env={"PATH": "/usr/bin:/bin"})
