#!/bin/sh
# The musl wheel under musl: CPython built from Debian's source with musl-gcc, then the tests of the C kernel and of what
# the guard's process is made of, a real guard among them. `sh tests/musl.sh PYTHON WHEEL`; needs Debian with apt-get's
# right to install musl-tools, and 5 minutes of a processor. numpy is left out: its wheel for musl dies on import here.
set -eu
python=$1 wheel=$(realpath "$2")
command -v musl-gcc >/dev/null || apt-get install -qq -y --no-install-recommends musl-tools >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r tests setup.cfg "$work/"
here=$PWD
cd "$work"

mkdir -p apt/lists/partial src
echo 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main' \
    >apt/sources.list
for step in update "source --download-only python3.11 zlib"; do
    apt-get -qq -o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/apt/lists" -o APT::Sandbox::User=root $step >/dev/null
done
for archive in python3.11_*.orig.tar.* zlib_*.orig.tar.*; do tar -xf "$archive" -C src; done

# musl's headers first; Linux's own, which it has none of, last. Python's configure asks whose machine it is.
cat >cc <<'END'
#!/bin/sh
[ "$*" != --print-multiarch ] || { echo x86_64-linux-musl; exit; }
exec musl-gcc "$@" -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
END
chmod +x cc
export CC="$work/cc"
(cd src/zlib-* && CFLAGS="-O2 -fPIC" ./configure --static >/dev/null && make -s -j2 libz.a >/dev/null)
z=$(echo "$work"/src/zlib-*)
(cd src/Python-* &&
    ./configure -q --prefix="$work/py" --disable-test-modules --without-ensurepip CPPFLAGS="-I$z" LDFLAGS="-L$z" &&
    make -s -j2 OPT="-O1 -DNDEBUG -w" && make -s install) >build.log 2>&1 || { tail -n 20 build.log; exit 1; }

"$python" -m pip install --quiet --disable-pip-version-check --target site --only-binary=:all: --python-version 3.11 \
    --implementation cp --abi cp311 --abi abi3 --abi none --platform musllinux_1_2_x86_64 \
    --platform musllinux_1_1_x86_64 pytest pytest-timeout hypothesis PyYAML msgspec psutil
"$python" -m pip install --quiet --disable-pip-version-check --target site --no-deps --platform musllinux_1_2_x86_64 \
    --implementation cp --python-version 3.11 --abi abi3 "$wheel"
cp "$here/agent/oomguard/_kernel.c" site/oomguard/      # a test reads it
cd "$work"
export PYTHONPATH="$work/site" PYTHONDONTWRITEBYTECODE=1
py/bin/python3.11 -c 'import sys, oomguard._kernel as k; print(sys.version, k.__file__)'
py/bin/python3.11 -m pytest -q -p no:cacheprovider -o timeout=1000 tests/test_kernel.py tests/test_features.py \
    tests/test_forest.py tests/test_window.py tests/test_scorer.py tests/test_guard.py tests/test_guards.py \
    tests/test_ticker.py tests/sense tests/decide tests/record/test_journal.py tests/end_to_end/test_restart.py \
    --ignore tests/decide/test_packs.py
