"""A bundle: manifest, forest and card in one folder, believed only when every byte is the one its manifest names.

The bundle inside the package is trusted by a digest in `shipped.py`. One from elsewhere needs the signature of an
operator's key (signature.py), in a folder that nobody else can write, unless the caller says that unsigned is fine.
"""

from __future__ import annotations

import json
import os
from math import inf

from oomguard import features
from oomguard.errors import BundleError
from oomguard.forest import HORIZONS_S, Forest, Knots
from oomguard.lean_json import no_constant, no_key_twice
from oomguard.net import Net
from oomguard.trust.files import Folder
from oomguard.typed import Any, NamedTuple

FORMAT = 1
MANIFEST_MAX_BYTES = 256 * 1024
FILE_MAX_BYTES = 16 << 20
RELEASE_MAX = 1 << 53


class Thresholds(NamedTuple):
    """What turns a forecast into a level, for one device type."""

    p60: float
    p120: float
    p180: float
    p240: float
    p300: float
    critical_ratio: float = 0.9     # used/limit beyond which kills concentrate


class Bundle(NamedTuple):
    """A checked bundle. The model's bytes are the very ones that were checked."""

    folder: str
    model_id: str
    release: int
    digest: str                                 # sha256 of the manifest's bytes
    forest: bytes                               # forest.bin; empty where the model is no tree
    low: tuple[float, ...]
    high: tuple[float, ...]
    calibration: tuple[Knots, ...]              # one curve per horizon, 60…300
    thresholds: dict[str, Thresholds]           # by device type; `default` is always there
    phases: dict[str, int]
    signed_by: str = ""                         # the operator's key; empty: shipped, or taken unsigned
    remark: str = ""                            # what an operator should know although it was taken
    onnx: bytes = b""                           # model.onnx, where there is no forest

    def thresholds_for(self, device_type: str) -> Thresholds:
        """Return the device type's own thresholds, or the default ones."""
        return self.thresholds.get(device_type, self.thresholds["default"])

    def load_forest(self) -> Forest | Net:
        """Return the forest, ready to score; or the net, where the bundle has no forest."""
        if self.onnx:
            return Net(self.onnx, self.low, self.high, self.calibration)
        return Forest(self.forest, self.low, self.high, self.calibration)


def shipped_folder() -> str:
    """Return the folder of the bundle inside the package."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "model")


def load_shipped() -> Bundle:
    """Return the bundle inside the package, checked against the digest compiled into it."""
    from oomguard.trust.shipped import SHIPPED_MANIFEST_SHA256

    return load_bundle(shipped_folder(), expect_digest=SHIPPED_MANIFEST_SHA256)


def load_bundle(folder: str, *, expect_digest: str = "", allow_unsigned: bool = False, keys_dir: str = "") -> Bundle:
    """Read and check a bundle.

    Args:
        folder: holds `manifest.json` and the files it names.
        expect_digest: sha256 of the manifest that is trusted without a signature.
        allow_unsigned: take a bundle that nothing vouches for.
        keys_dir: whose signatures are believed; empty for /etc/oomguard/keys.

    Raises:
        BundleError: missing, altered, truncated, unsigned, of another format or for another feature table.
    """
    needs_signature = not expect_digest and not allow_unsigned
    with Folder(folder, is_strict=needs_signature) as opened:
        raw = opened.read("manifest.json", MANIFEST_MAX_BYTES)
        digest = _sha256(raw)
        if expect_digest and digest != expect_digest:
            raise BundleError(f"{folder}/manifest.json: not the one this version was built with (sha256 "
                              f"{digest[:12]}…, expected {expect_digest[:12]}…); reinstall oomguard or `make model`")
        signed_by = ""
        if needs_signature:
            from oomguard.trust.signature import vouched_by  # the library for it costs 10 MB

            signed_by = vouched_by(opened, raw, keys_dir)
        return _checked(opened, raw, digest)._replace(signed_by=signed_by)


def _checked(folder: Folder, raw: bytes, digest: str) -> Bundle:
    where = f"{folder}/manifest.json"
    manifest = _parse(raw, where)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{where}: format {manifest.get('format')!r} is not {FORMAT}")
    if manifest.get("feature_hash") != features.table_hash():
        raise BundleError(f"{where}: made for another feature table; retrain it or install the version it is for")
    try:
        is_net = "model.onnx" in manifest["files"] and "forest.bin" not in manifest["files"]
        model = _file(folder, manifest["files"], "model.onnx" if is_net else "forest.bin")
        bundle = Bundle(
            folder=folder.path, model_id=_name(manifest["model_id"]), release=_release(manifest["release"]),
            digest=digest, forest=b"" if is_net else model, onnx=model if is_net else b"",
            low=_range(manifest["ranges"], "low", -inf), high=_range(manifest["ranges"], "high", inf),
            calibration=tuple(tuple((float(x), float(y)) for x, y in manifest["calibration"][str(horizon)])
                              for horizon in HORIZONS_S),
            thresholds={str(kind): _thresholds(row) for kind, row in manifest["thresholds"].items()},
            phases={str(name): number for number, name in enumerate(manifest.get("phases", []))})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as problem:
        raise BundleError(f"{where}: {type(problem).__name__}: {problem}") from None
    if "default" not in bundle.thresholds:
        raise BundleError(f"{where}: thresholds have no `default`")
    bundle.load_forest()
    return bundle


def _parse(raw: bytes, where: str) -> dict[str, Any]:
    try:
        manifest = json.loads(raw, object_pairs_hook=no_key_twice, parse_constant=no_constant)
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{where}: not JSON: {problem}") from None
    if not isinstance(manifest, dict):
        raise BundleError(f"{where}: not a JSON object")
    return manifest


def _range(ranges: dict[str, dict[str, float | None]], side: str, unbounded: float) -> tuple[float, ...]:
    """Return one side of the trained ranges in the table's order; a feature that is not named is unbounded."""
    named = ranges[side]
    strange = set(named) - set(features.NAMES)
    if strange:
        raise ValueError(f"ranges name no feature: {', '.join(sorted(strange))}")
    return tuple(unbounded if named.get(name) is None else float(named[name] or 0.0) for name in features.NAMES)


def _thresholds(row: dict[str, float]) -> Thresholds:
    thresholds = Thresholds(**{name: float(row[name]) for name in Thresholds._fields[:-1]},
                            critical_ratio=float(row.get("critical_ratio", 0.9)))
    if not all(0 < value <= 1 for value in thresholds):
        raise ValueError(f"thresholds outside 0..1: {thresholds}")
    return thresholds


def _name(value: object) -> str:
    if type(value) is not str or not value or not value.isprintable():
        raise ValueError(f"{value!r:.80} is not a model's name")
    return value[:128]


def _release(value: object) -> int:
    if type(value) is not int or not 0 <= value <= RELEASE_MAX:
        raise ValueError(f"{value!r:.80} is not a release's number")
    return value


def _file(folder: Folder, digests: dict[str, str], name: str) -> bytes:
    data = folder.read(name, FILE_MAX_BYTES)
    if _sha256(data) != digests[name]:
        raise BundleError(f"{folder}/{name}: altered (its sha256 is not the manifest's)")
    return data


def _sha256(data: bytes) -> str:
    from hashlib import sha256  # OpenSSL costs 3 MB of RSS, so the daemon is handed checked bytes instead

    return sha256(data).hexdigest()
