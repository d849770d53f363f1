"""Build the Debian package, for Debian 12 and 13, from this tree: the same tree gives the same bits.

    python agent/deploy/debian/build.py [--out dist] [--wheel oomguard-….whl]

Needs dpkg-deb, a C compiler, and pip with setuptools in this Python; no debhelper. What is installed is the wheel that
pip users get, with units, settings, man page and completions where Debian has them. Times are SOURCE_DATE_EPOCH, else
that of the last commit.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from glob import glob

HERE = os.path.dirname(os.path.abspath(__file__))
DEPLOY = os.path.dirname(HERE)
REPO = os.path.dirname(os.path.dirname(DEPLOY))
PACKAGES = "usr/lib/python3/dist-packages"
LAUNCHER = "#!/usr/bin/python3 -I\nimport sys\n\nfrom oomguard.cli import main\n\nsys.exit(main())\n"
UNITS = ("oomguard.service", "oomguard-hooks.service", "oomguard-hooks.socket", "oomguard-pressure.socket",
         "oomguard.slice")
PLACES = {**{f"usr/lib/systemd/system/{unit}": unit for unit in UNITS},
          "usr/lib/sysusers.d/oomguard.conf": "sysusers.conf", "usr/lib/tmpfiles.d/oomguard.conf": "tmpfiles.conf",
          "usr/share/dbus-1/system.d/org.freedesktop.LowMemoryMonitor.conf":
              "org.freedesktop.LowMemoryMonitor.conf",
          "etc/oomguard/oomguard.yaml": "etc/oomguard.yaml", "etc/oomguard/device.yaml": "etc/device.yaml",
          "etc/oomguard/rules.d/README": "etc/README"}
MANUALS = {"man": "usr/share/man/man1/oomguard.1.gz", "bash": "usr/share/bash-completion/completions/oomguard",
           "zsh": "usr/share/zsh/vendor-completions/_oomguard",
           "fish": "usr/share/fish/vendor_completions.d/oomguard.fish"}
MANUSCRIPTS = ("operate.md", "rules.md", "metrics.md", "protocol.md", "black-box.md")
# No debug information, which would name the folder that it was built in.
FLAGS = {"CFLAGS": "-g0", "LDFLAGS": "-Wl,--build-id=none -s", "LC_ALL": "C.UTF-8"}
CONTROL = """\
Package: oomguard
Version: {version}
Architecture: {architecture}
Maintainer: The maintainers of oomguard <maintainers@oomguard.invalid>
Installed-Size: {size_kib}
Depends: python3 (>= 3.11), python3-yaml (>= 6), libc6 (>= {libc}), systemd (>= 252), init-system-helpers (>= 1.54~)
Recommends: python3-jeepney, dbus
Suggests: python3-cryptography, python3-numpy, python3-psutil
Conflicts: low-memory-monitor
Section: admin
Priority: optional
Description: memory guard that sees an out-of-memory kill coming
 A light daemon reads the memory of what it guards once a second, scores the last
 five minutes with a compiled tree model, and, minutes before the kernel would
 kill, asks the app to give memory back: caches first, cheapest first, as much as
 is needed. It never kills.
 .
 This package starts it as a hardened service over the whole machine;
 /etc/oomguard says what else it guards and what is done.
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: oomguard

Files: *
Copyright: the authors of oomguard
License: Apache-2.0
 The full text of this license is in /usr/share/common-licenses/Apache-2.0.
"""


def main() -> int:
    """Build it, and print its path and digest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", metavar="DIR", default="dist", help="default: %(default)s")
    parser.add_argument("--wheel", metavar="FILE", default="", help="take this one instead of building it")
    args = parser.parse_args()
    epoch_s = source_date()
    os.makedirs(args.out, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="oomguard-deb-") as scratch:
        root = os.path.join(scratch, "root")
        unpack(args.wheel or build_wheel(scratch, epoch_s), root)
        furnish(root)
        control(root)
        path = os.path.join(args.out, f"oomguard_{version(root)}_{architecture()}.deb")
        pack(root, path, epoch_s)
    with open(path, "rb") as file:
        print(f"{hashlib.sha256(file.read()).hexdigest()}  {path}")
    return 0


def source_date() -> int:
    """Return the time that everything in the package has."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(given or run("git", "-C", REPO, "log", "-1", "--format=%ct"))


def build_wheel(scratch: str, epoch_s: int) -> str:
    """Return the path of the wheel, built from a copy of the tree: what an earlier build left would get into it."""
    source = os.path.join(scratch, "source")
    skip = shutil.ignore_patterns(".*", "build", "dist", "out", "*.egg-info", "__pycache__", "*.so", "bench", "tests",
                                  "docs")
    shutil.copytree(REPO, source, symlinks=True, ignore=skip)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", scratch, source,
        environment={**FLAGS, "SOURCE_DATE_EPOCH": str(epoch_s)})
    return glob(os.path.join(scratch, "oomguard-*.whl"))[0]


def unpack(wheel: str, root: str) -> None:
    """Put a wheel's files where Debian's Python looks, as a package of Debian's and not of pip's."""
    folder = os.path.join(root, PACKAGES)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    for name in glob(os.path.join(folder, "oomguard-*.dist-info", "*")):
        if os.path.basename(name) in ("RECORD", "WHEEL", "licenses"):
            (shutil.rmtree if os.path.isdir(name) else os.unlink)(name)
    write(os.path.join(glob(os.path.join(folder, "oomguard-*.dist-info"))[0], "INSTALLER"), "debian\n")
    if not glob(os.path.join(folder, "oomguard", "_kernel*.so")):
        raise SystemExit("the C kernel was not built: a package without it would be ten times slower")


def furnish(root: str) -> None:
    """Put everything that is no Python where it belongs."""
    for place, name in PLACES.items():
        os.makedirs(os.path.dirname(os.path.join(root, place)), exist_ok=True)
        shutil.copyfile(os.path.join(DEPLOY, name), os.path.join(root, place))
    write(os.path.join(root, "usr/bin/oomguard"), LAUNCHER, 0o755)
    for what, place in MANUALS.items():
        text = run(sys.executable, "-B", "-m", "oomguard", "manual", what, environment={
            "PYTHONPATH": os.path.join(root, PACKAGES)}, folder="/")
        write(os.path.join(root, place), text)
    folder = os.path.join(root, "usr/share/doc/oomguard")
    write(os.path.join(folder, "copyright"), COPYRIGHT)
    for name in MANUSCRIPTS:
        shutil.copyfile(os.path.join(REPO, "docs", name), os.path.join(folder, name))
    with open(os.path.join(REPO, "CHANGELOG.md"), encoding="utf-8") as file:
        write(os.path.join(folder, "changelog.gz"), file.read())


def control(root: str) -> None:
    """Write what dpkg reads."""
    folder = os.path.join(root, "DEBIAN")
    names = sorted(os.path.relpath(os.path.join(where, name), root)
                   for where, _folders, files in os.walk(root) for name in files)
    size_kib = sum((os.path.getsize(os.path.join(root, name)) + 4095) // 4096 * 4 for name in names)
    write(os.path.join(folder, "md5sums"), "".join(f"{digest(os.path.join(root, name))}  {name}\n" for name in names
                                                   if not name.startswith("etc/")))
    write(os.path.join(folder, "conffiles"), "".join(f"/{name}\n" for name in names if name.startswith("etc/")))
    write(os.path.join(folder, "control"), CONTROL.format(
        version=version(root), architecture=architecture(), size_kib=size_kib, libc=libc(root)))
    for name in ("postinst", "prerm", "postrm"):
        with open(os.path.join(HERE, name), encoding="utf-8") as file:
            write(os.path.join(folder, name), file.read(), 0o755)


def pack(root: str, path: str, epoch_s: int) -> None:
    """Make the package: one time, one owner, one order."""
    for where, folders, files in os.walk(root, topdown=False):
        for name in (*folders, *files):
            os.utime(os.path.join(where, name), (epoch_s, epoch_s))
        for name in folders:
            os.chmod(os.path.join(where, name), 0o755)  # noqa: S103  as any package's
        for name in files:
            is_program = os.access(os.path.join(where, name), os.X_OK) and not name.endswith((".so", ".py"))
            os.chmod(os.path.join(where, name), 0o755 if is_program else 0o644)
    os.chmod(root, 0o755)  # noqa: S103
    os.utime(root, (epoch_s, epoch_s))
    run("dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", root, path,
        environment={"SOURCE_DATE_EPOCH": str(epoch_s)})


def version(root: str) -> str:
    """Return the version in Debian's form: 1.0.0rc1 comes before 1.0.0, and so does 1.0.0~rc1."""
    found = os.path.basename(glob(os.path.join(root, PACKAGES, "oomguard-*.dist-info"))[0])
    return re.sub(r"(?<=\d)(a|b|rc|\.dev)", r"~\1", found.removeprefix("oomguard-").removesuffix(".dist-info"))


def architecture() -> str:
    """Return Debian's word for this machine."""
    return run("dpkg", "--print-architecture").strip()


def libc(root: str) -> str:
    """Return the oldest glibc that has every symbol version that the kernel needs."""
    with open(glob(os.path.join(root, PACKAGES, "oomguard", "_kernel*.so"))[0], "rb") as file:
        found = {tuple(map(int, each)) for each in re.findall(rb"GLIBC_(\d+)\.(\d+)", file.read())}
    return ".".join(map(str, max(found, default=(2, 36))))


def digest(path: str) -> str:
    """Return the md5 of a file, as dpkg keeps it to find damage."""
    with open(path, "rb") as file:
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()


def write(path: str, text: str, mode: int = 0o644) -> None:
    """Write a text file, compressed where its name says so, without a time in it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data = text.encode()
    with open(path, "wb") as file:
        file.write(gzip.compress(data, 9, mtime=0) if path.endswith(".gz") else data)
    os.chmod(path, mode)


def run(*argv: str, environment: dict[str, str] | None = None, folder: str = REPO) -> str:
    """Return what a program prints; end with its own words where it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, cwd=folder, env={**os.environ, **(environment or {})},
                          check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
