#!/bin/sh
# Build the wheel, install it into a fresh environment and run it; once more from source without a compiler.
set -eu
python=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --quiet --outdir "$work/dist" . 2>/dev/null >/dev/null || "$python" -m build --outdir "$work/dist" .
ls "$work"/dist/*.whl "$work"/dist/*.tar.gz >/dev/null

try() {     # try NAME EXPECTED-KERNEL PIP-ARGUMENTS…
    name=$1; kernel=$2; shift 2
    "$python" -m venv "$work/$name"
    "$work/$name/bin/pip" install --quiet "$@"
    cd "$work"
    "$work/$name/bin/oomguard" --version
    "$work/$name/bin/oomguard" check >/dev/null
    "$work/$name/bin/oomguard" run --ticks 2 --runtime-dir "$work/run-$name" --target self 2>"$work/log"
    grep -q 'scorer=forest' "$work/log"
    "$work/$name/bin/python" -c "from oomguard.kernel import HAS_KERNEL; assert HAS_KERNEL is $kernel, HAS_KERNEL"
    cd - >/dev/null
}
try wheel True "$work"/dist/*.whl
CC=/bin/false try source False "$work"/dist/*.tar.gz
"$work/source/bin/oomguard" doctor | grep -q 'in Python, slower'
echo "wheel: installs, runs; source without a compiler: installs, runs on the reference"
