#!/bin/sh
# A release builds to the same bytes twice: at two times, in two folders of different length, by two umasks.
# `sh tests/reproducible.sh PYTHON [cross]`; with `cross` the devices' wheels too.
set -eu
python=$1
commit=$(git rev-parse HEAD)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for place in a a-folder-of-another-length; do
    mkdir -p "$work/$place/tmp"
    (
        [ "$place" = a ] || umask 077
        TMPDIR="$work/$place/tmp" "$python" agent/deploy/release.py build --commit "$commit" \
            --out "$work/$place/dist" >"$work/log" 2>&1 \
            || { cat "$work/log"; exit 1; }
        [ "${2:-}" != cross ] || TMPDIR="$work/$place/tmp" "$python" agent/deploy/wheels.py --commit "$commit" \
            "$work/$place"/dist/*.whl --out "$work/$place/dist" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    )
    sleep 2     # zip keeps even seconds: a clock that gets in shows
done
cd "$work/a/dist" && sha256sum ./* >"$work/digests"
cd "$work/a-folder-of-another-length/dist" && sha256sum --quiet --check "$work/digests"
cat "$work/digests"
echo "reproducible: $(wc -l <"$work/digests") files, the same bytes twice"
