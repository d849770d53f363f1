"""`manifest.sig`: who vouches for a manifest, byte for byte; checked before a word of the manifest is read.

The signed bytes are a line of our own and then `manifest.json` exactly as it lies on disk. That text is the canonical
form: there is no second way to write what was signed, and nothing hostile is parsed before its signature holds.
"""

from __future__ import annotations

import base64
import json
import os

from oomguard.errors import BundleError
from oomguard.trust.files import Folder
from oomguard.trust.keys import KEYS_DIR, NO_LIBRARY, PublicKey, read_keys
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE = "manifest.sig"
FORMAT = 1
SIGNATURE_MAX_BYTES = 1024
PURPOSE = b"oomguard bundle manifest 1\n"       # a signature for anything else can never pass for ours
_FIELDS = {"format", "algorithm", "key", "signature"}


class Signature(NamedTuple):
    """What stands in a `manifest.sig`."""

    key_id: str         # 32 hex digits
    value: bytes        # 64 bytes


def parse_signature(raw: bytes, where: str) -> Signature:
    """Return what a signature file says. Raises BundleError for anything but the one form there is."""
    try:
        if len(raw) > SIGNATURE_MAX_BYTES:
            raise ValueError(f"{len(raw)} bytes are more than {SIGNATURE_MAX_BYTES}")
        fields = json.loads(raw.decode("ascii"))
        if type(fields) is not dict or fields.keys() != _FIELDS:
            raise ValueError(f"not an object of {', '.join(sorted(_FIELDS))}")
        if type(fields["format"]) is not int or (fields["format"], fields["algorithm"]) != (FORMAT, "ed25519"):
            raise ValueError(f"format or algorithm is not {FORMAT} and ed25519")
        key_id, text = fields["key"], fields["signature"]
        if type(key_id) is not str or len(key_id) != 32 or set(key_id) - set("0123456789abcdef"):
            raise ValueError("key is not 32 hex digits")
        if type(text) is not str or len(value := base64.b64decode(text, validate=True)) != 64:
            raise ValueError("signature is not 64 bytes in base64")
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{where}: not a signature: {problem}") from None
    return Signature(key_id, value)


def write_signature(signature: Signature) -> bytes:
    """Return the text of a signature file."""
    fields = {"format": FORMAT, "algorithm": "ed25519", "key": signature.key_id,
              "signature": base64.b64encode(signature.value).decode()}
    return (json.dumps(fields, indent=1) + "\n").encode()


def vouched_by(folder: Folder, manifest: bytes, keys_dir: str = "") -> str:
    """Return the name of the operator's key that signed these very bytes.

    Args:
        folder: where `manifest.sig` lies.
        manifest: the bytes that were read, and that will be parsed.
        keys_dir: empty for /etc/oomguard/keys.

    Raises:
        BundleError: unsigned, signed by nobody we know, altered, or nothing here can check it.
    """
    keys_dir = keys_dir or KEYS_DIR
    if FILE not in folder.names():
        raise BundleError(f"{folder}: unsigned; only the shipped bundle is trusted without a signature "
                          "(sign it with `oomguard bundle sign`, or say --allow-unsigned to use it all the same)")
    where = f"{folder}/{FILE}"
    signature = parse_signature(folder.read(FILE, SIGNATURE_MAX_BYTES), where)
    try:
        known = read_keys(keys_dir)
    except BundleError as problem:
        raise BundleError(f"{folder}: signed, but there is nothing to check it by: {problem}") from None
    for key in known:
        if key.key_id == signature.key_id:
            if not _holds(key, signature, manifest):
                raise BundleError(f"{folder}: altered (the signature by {key.name!r} is not for this manifest)")
            return key.name
    raise BundleError(f"{where}: signed by key {signature.key_id}, which is not in {keys_dir}")


def sign(secret: Ed25519PrivateKey, manifest: bytes) -> Signature:
    """Return a private key's signature over a manifest's bytes."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Signature(PublicKey("", raw).key_id, secret.sign(PURPOSE + manifest))


def leave_signature(folder: str, signature: Signature) -> str:
    """Put a signature beside its manifest, at once or not at all; return its path."""
    path = os.path.join(folder, FILE)
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "wb") as file:
        file.write(write_signature(signature))
    os.replace(f"{path}.new", path)
    return path


def _holds(key: PublicKey, signature: Signature, manifest: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise BundleError(NO_LIBRARY) from None
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature.value, PURPOSE + manifest)
    except InvalidSignature:
        return False
    return True
