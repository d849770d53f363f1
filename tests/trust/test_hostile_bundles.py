"""Manifests, signatures and keys made up by a fuzzer: each is a bundle or a BundleError, never anything else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oomguard.briefing import Options, read_briefing, write_briefing
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.errors import BundleError
from oomguard.trust.bundle import load_bundle, shipped_folder
from oomguard.trust.keys import parse_public
from oomguard.trust.signature import SIGNATURE_MAX_BYTES, Signature, parse_signature, write_signature

SHIPPED = (Path(shipped_folder()) / "manifest.json").read_bytes()
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
    ("nan", "inf", "-inf", 10 ** 400, -1, 1 << 64, "\0", "../../etc/passwd", 0.0, 1e308))
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner,
                                                                                      max_size=4), max_leaves=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the shipped bundle whose manifest is written over by each example."""
    return Path(shutil.copytree(shipped_folder(), tmp_path_factory.mktemp("fuzz") / "bundle"))


def load(folder: Path, manifest: bytes) -> None:
    """Load a manifest; what is taken must be one that a daemon can be briefed with."""
    (folder / "manifest.json").write_bytes(manifest)
    try:
        bundle = load_bundle(str(folder), allow_unsigned=True)
    except BundleError:
        return
    assert all(0 <= each <= 1 for curve in bundle.calibration for knot in curve for each in knot)
    plan = Plan((TargetPlan("app", "self"),), ())
    data = write_briefing(plan, bundle, Options("/run/x"))
    fd = os.memfd_create("briefing")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    assert read_briefing(fd).model is not None


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a JSON value, at most three deep and the first few of a list."""
    found = [path] if path else []
    if len(path) < 4 and isinstance(value, (dict, list)):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))[:6]
        for key, inner in items:
            found += places(inner, (*path, key))
    return found


PLACES = places(json.loads(SHIPPED))


@settings(max_examples=300)
@given(place=st.sampled_from(PLACES), value=JSON, is_removed=st.booleans())
@example(place=("release",), value=10 ** 400, is_removed=False)
@example(place=("thresholds", "default", "p60"), value=10 ** 400, is_removed=False)
@example(place=("calibration", "60", 0), value=["nan", "nan"], is_removed=False)
def test_a_manifest_with_anything_anywhere(folder: Path, place: tuple[Any, ...], value: Any, is_removed: bool) -> None:
    """Any value of any kind in any place of a real manifest, or that place missing."""
    manifest = json.loads(SHIPPED)
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    if is_removed:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    load(folder, json.dumps(manifest).encode("utf-8", "surrogatepass"))


@settings(max_examples=300)
@given(at=st.integers(0, len(SHIPPED) - 1), with_bytes=st.binary(max_size=4), skipped=st.integers(0, 40))
def test_a_manifest_with_bytes_changed(folder: Path, at: int, with_bytes: bytes, skipped: int) -> None:
    """Bytes put in, changed or cut out, wherever."""
    load(folder, SHIPPED[:at] + with_bytes + SHIPPED[at + skipped:])


@pytest.mark.parametrize("text", [b'{"format": 1, "format": 1}', b'{"format": NaN}', b'{"release": Infinity}'])
def test_what_two_readers_could_read_differently_is_refused(folder: Path, text: bytes) -> None:
    """A key twice, and numbers that JSON does not have."""
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError, match="not JSON"):
        load_bundle(str(folder), allow_unsigned=True)


@given(st.binary(max_size=SIGNATURE_MAX_BYTES + 8) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 1000)
@example(b"1" * 1000)
def test_any_bytes_for_a_signature(data: bytes) -> None:
    """A signature or a BundleError."""
    try:
        parse_signature(data, "x")
    except BundleError:
        return


@given(key=st.text("0123456789abcdef", min_size=32, max_size=32), value=st.binary(min_size=64, max_size=64))
def test_a_signature_comes_back_as_it_was_written(key: str, value: bytes) -> None:
    """And is small enough to be read."""
    text = write_signature(Signature(key, value))
    assert parse_signature(text, "x") == Signature(key, value) and len(text) <= SIGNATURE_MAX_BYTES


@given(st.binary(max_size=200))
@example(b"-----BEGIN PUBLIC KEY-----\n=\n-----END PUBLIC KEY-----")
def test_any_bytes_for_a_key(data: bytes) -> None:
    """32 bytes or a BundleError."""
    try:
        assert len(parse_public(data, "x")) == 32
    except BundleError:
        return
