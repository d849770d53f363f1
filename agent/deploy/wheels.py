"""Wheels for devices we do not sit at: one wheel in, the same with another machine's C kernel out, six in all.

    python agent/deploy/wheels.py dist/oomguard-*.whl --out dist [--only aarch64]

The kernel keeps to Python's limited API, so it needs no Python of the device, only the headers of any; the compiler is
zig's clang (`pip install ziglang`), which brings every C library's symbols and so binds to the oldest that we promise.
glibc 2.17 and musl 1.2, on x86-64, aarch64 and armv7 with hardware floats. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from typing import NamedTuple

SOURCE = "agent/oomguard/_kernel.c"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KERNEL = "oomguard/_kernel.abi3.so"
# As in setup.py: the same bits on every machine need each rounding where C has it. No debug data: it names folders.
FLAGS = ("-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-shared", "-fPIC", "-g0", "-s",
         "-Wl,--build-id=none", "-DPy_LIMITED_API=0x030B0000")
# pyconfig.h is the building machine's; what differs on the device is what its compiler says. Of the limited API's
# headers only these are looked at (3.11 to 3.13).
SIZES = """\
#include "{config}"
#undef SIZEOF_VOID_P
#undef SIZEOF_SIZE_T
#undef SIZEOF_LONG
#undef SIZEOF_WCHAR_T
#define SIZEOF_VOID_P __SIZEOF_POINTER__
#define SIZEOF_SIZE_T __SIZEOF_SIZE_T__
#define SIZEOF_LONG __SIZEOF_LONG__
#define SIZEOF_WCHAR_T __SIZEOF_WCHAR_T__
"""
# Where the machine lacks an operation (armv7's 64-bit ones, x86-64's question which processor this is) the compiler's
# own library comes in, and its exp and log2 with it: other bits than Python's math module has on that device (tried:
# tests/musl.sh). So they are asked for by name, in the library that Python itself uses.
OWN_MATHS = """\
#include <math.h>
#include <dlfcn.h>
static double (*libm_exp)(double), (*libm_log2)(double);
__attribute__((constructor)) static void find_maths(void)
{
    void *libm = RTLD_DEFAULT;          /* musl has all in one, and that is loaded */
#ifdef __GLIBC__
    libm = dlopen("libm.so.6", RTLD_LAZY);
#endif
    *(void **)&libm_exp = dlsym(libm, "exp");
    *(void **)&libm_log2 = dlsym(libm, "log2");
    if (!libm_exp || !libm_log2) __builtin_trap();      /* no C library is without them */
}
#define exp(x) libm_exp(x)
#define log2(x) libm_log2(x)
"""


class Target(NamedTuple):
    """A kind of device."""

    machine: str            # as `uname -m` has it
    library: str
    zig: str
    tags: str               # of the wheel
    options: tuple[str, ...] = ()


_ARMV7 = ("-mcpu=generic+v7a+vfp3d16", "-Wl,--no-undefined-version")
TARGETS = (
    Target("x86_64", "glibc", "x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64.manylinux2014_x86_64"),
    Target("aarch64", "glibc", "aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64.manylinux2014_aarch64"),
    Target("armv7l", "glibc", "arm-linux-gnueabihf.2.17", "manylinux_2_17_armv7l.manylinux2014_armv7l", _ARMV7),
    Target("x86_64", "musl", "x86_64-linux-musl", "musllinux_1_2_x86_64"),
    Target("aarch64", "musl", "aarch64-linux-musl", "musllinux_1_2_aarch64"),
    Target("armv7l", "musl", "arm-linux-musleabihf", "musllinux_1_2_armv7l", _ARMV7),
)


def build_kernel(source: bytes, target: Target, folder: str) -> bytes:
    """Return the kernel compiled for a target. Raises CalledProcessError: the compiler's words are on stderr."""
    header, made = os.path.join(folder, "before.h"), os.path.join(folder, "kernel.so")
    with open(os.path.join(folder, "kernel.c"), "wb") as file:
        file.write(source)
    with open(header, "w", encoding="ascii") as file:
        file.write(SIZES.format(config=sysconfig.get_config_h_filename()) + OWN_MATHS)
    subprocess.run([sys.executable, "-m", "ziglang", "cc", "-target", target.zig, *FLAGS, *target.options,
                    f"-I{sysconfig.get_path('include')}", "-include", header,
                    os.path.join(folder, "kernel.c"), "-lm", "-ldl", "-o", made], check=True)
    with open(made, "rb") as file:
        return file.read()


def with_kernel(wheel: str, kernel: bytes, target: Target, out: str) -> str:
    """Write the wheel with this kernel instead of its own; return its path. Times and order are the first wheel's."""
    name, version = os.path.basename(wheel).split("-")[:2]
    tags = f"cp311-abi3-{target.tags}"
    record, rows = f"{name}-{version}.dist-info/RECORD", []
    path = os.path.join(out, f"{name}-{version}-{tags}.whl")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(f"{path}.new", "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == KERNEL:
                data = kernel
            elif info.filename.endswith(".dist-info/WHEEL"):
                data = _retagged(data, tags)
            elif info.filename == record:
                continue
            rows.append(f"{info.filename},sha256={_digest(data)},{len(data)}")
            new.writestr(_like(info, info.filename), data, zipfile.ZIP_DEFLATED)
        if not any(row.startswith(f"{KERNEL},") for row in rows):
            raise SystemExit(f"{wheel}: has no {KERNEL}: build it where there is a C compiler")
        new.writestr(_like(old.getinfo(record), record), "\n".join([*rows, f"{record},,", ""]), zipfile.ZIP_DEFLATED)
    os.replace(f"{path}.new", path)
    return path


def _like(old: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, old.date_time)
    info.external_attr, info.compress_type = old.external_attr, zipfile.ZIP_DEFLATED
    return info


def _retagged(wheel_file: bytes, tags: str) -> bytes:
    python, abi, platforms = tags.split("-")
    kept = [line for line in wheel_file.decode().splitlines() if line and not line.startswith("Tag:")]
    return "\n".join([*kept, *(f"Tag: {python}-{abi}-{each}" for each in platforms.split(".")), "", ""]).encode()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def main() -> int:
    """Build them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheel", help="a wheel of this version with a kernel in it, whatever its machine")
    parser.add_argument("--out", default="dist", help="where the wheels are written (default: dist)")
    parser.add_argument("--commit", default="HEAD", help="whose kernel: the one that the wheel was built from")
    parser.add_argument("--only", default="", help="only targets whose machine or C library is this")
    args = parser.parse_args()
    source = subprocess.run(["git", "-C", ROOT, "show", f"{args.commit}:{SOURCE}"], check=True,
                            stdout=subprocess.PIPE).stdout
    os.makedirs(args.out, exist_ok=True)
    for target in TARGETS:
        if args.only in ("", target.machine, target.library):
            with tempfile.TemporaryDirectory() as folder:
                kernel = build_kernel(source, target, folder)
            print(with_kernel(args.wheel, kernel, target, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
