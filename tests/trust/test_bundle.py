"""A bundle is believed only when every byte is the one that was vouched for."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from oomguard.errors import BundleError
from oomguard.trust import bundle as bundles
from oomguard.trust.bundle import load_bundle, load_shipped, shipped_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the shipped bundle that a test may spoil."""
    return Path(shutil.copytree(shipped_folder(), tmp_path / "bundle"))


def edit(folder: Path, **changes: object) -> None:
    """Change keys of the manifest; None removes one."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for key, value in changes.items():
        manifest.pop(key, None)
        if value is not None:
            manifest[key] = value
    path.write_text(json.dumps(manifest))


def test_the_shipped_bundle_is_the_one_compiled_in() -> None:
    """models/default and trust/shipped.py belong together; the forest is compact."""
    bundle = load_shipped()
    assert len(bundle.forest) <= 256 * 1024
    assert "default" in bundle.thresholds
    assert bundle.thresholds_for("never heard of") == bundle.thresholds["default"]


def test_an_unsigned_bundle_is_refused_unless_allowed(folder: Path) -> None:
    """Nothing vouches for a copy elsewhere."""
    with pytest.raises(BundleError, match="unsigned"):
        load_bundle(str(folder))
    assert load_bundle(str(folder), allow_unsigned=True).forest == load_shipped().forest


def test_another_digest_is_refused(folder: Path) -> None:
    """One changed byte of the manifest and the compiled-in digest no longer fits."""
    edit(folder, release=99)
    from oomguard.trust.shipped import SHIPPED_MANIFEST_SHA256
    with pytest.raises(BundleError, match="not the one this version was built with"):
        load_bundle(str(folder), expect_digest=SHIPPED_MANIFEST_SHA256)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"feature_hash": "0" * 64},
        {"files": {}},
        {"files": None},
        {"ranges": None},
        {"ranges": {"low": {"nonsense": 1}, "high": {}}},
        {"calibration": {}},
        {"thresholds": {}},
        {"thresholds": {"default": {"p60": 0.5}}},
        {"thresholds": [1]},
        {"release": "x"},
        {"model_id": None},
        {"thresholds": {"default": {"p60": 0, "p120": 1, "p180": 1, "p240": 1, "p300": 1}}},
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(folder: Path, change: dict[str, object]) -> None:
    """Another format, another feature table, missing or odd values: a BundleError that names the file."""
    edit(folder, **change)
    with pytest.raises(BundleError, match="bundle"):
        load_bundle(str(folder), allow_unsigned=True)


def test_an_altered_or_truncated_forest_is_refused(folder: Path) -> None:
    """The forest must be the one whose digest the manifest names, and then still fit."""
    path = folder / "forest.bin"
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    with pytest.raises(BundleError, match="altered"):
        load_bundle(str(folder), allow_unsigned=True)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit(folder, files={**files, "forest.bin": sha256(data[:-4]).hexdigest()})
    with pytest.raises(BundleError, match="header"):
        load_bundle(str(folder), allow_unsigned=True)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00", "[" * 100_000, '{"format": 1}'])
def test_garbage_is_refused(folder: Path, text: str) -> None:
    """What is no manifest is named as such."""
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="manifest"):
        load_bundle(str(folder), allow_unsigned=True)


def test_missing_and_huge_files_are_refused(folder: Path, monkeypatch) -> None:
    """A missing file and one beyond the bound end with the path in the message."""
    (folder / "forest.bin").unlink()
    with pytest.raises(BundleError, match=r"forest\.bin: No such file"):
        load_bundle(str(folder), allow_unsigned=True)
    monkeypatch.setattr(bundles, "MANIFEST_MAX_BYTES", 10)
    with pytest.raises(BundleError, match="more than 10 bytes"):
        load_bundle(str(folder), allow_unsigned=True)
