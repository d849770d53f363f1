#!/bin/sh
# A device's wheel under emulation: Debian's Python for that machine, the tests of kernel, features and forest.
# `sh tests/emulated.sh PYTHON WHEEL aarch64|armv7l`; needs mmdebstrap and qemu-user-static, and some 100 MB.
set -eu
python=$1 wheel=$2 machine=$3
case $machine in
    aarch64) debian=arm64 qemu=qemu-aarch64-static ;;
    armv7l) debian=armhf qemu=qemu-arm-static ;;
    *) echo "no machine $machine" >&2; exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mmdebstrap --quiet --variant=extract --architectures=$debian --include=python3,libstdc++6 bookworm "$work/root" \
    http://deb.debian.org/debian
get() {
    "$python" -m pip install --quiet --disable-pip-version-check --target "$work/site" --only-binary=:all: \
        --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
        --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" --platform "manylinux_2_28_$machine" "$@"
}
get pytest pytest-timeout hypothesis
get --no-deps numpy || echo "there is no numpy for $machine: its one test skips"
get --no-deps "$wheel"
cp agent/oomguard/_kernel.c "$work/site/oomguard/"      # a test reads it
cp -r tests setup.cfg "$work/"
cd "$work"
PYTHONPATH=$work/site PYTHONDONTWRITEBYTECODE=1 "$qemu" -L "$work/root" "$work/root/usr/bin/python3.11" -c \
    'import platform, oomguard._kernel as k; print(platform.machine(), platform.python_version(), k.__file__)'
PYTHONPATH=$work/site PYTHONDONTWRITEBYTECODE=1 "$qemu" -L "$work/root" "$work/root/usr/bin/python3.11" -m pytest -q \
    -p no:cacheprovider -o timeout=1000 tests/test_kernel.py tests/test_features.py tests/test_forest.py
