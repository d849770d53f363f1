"""Operators' keys: Ed25519, as PEM that `openssl` reads and writes; a folder of `NAME.pub` says who is believed."""

from __future__ import annotations

import binascii
import os
from contextlib import suppress

from oomguard.errors import BundleError
from oomguard.trust.files import Folder, refuse_strangers
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEYS_DIR = "/etc/oomguard/keys"
SUFFIX = ".pub"
KEY_MAX_BYTES = 4096
KEYS_MAX = 64
_HEAD, _TAIL = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_ED25519 = bytes.fromhex("302a300506032b6570032100")    # RFC 8410, section 4: all that stands before the 32 bytes
NO_LIBRARY = ("signatures cannot be checked or made: the Python package `cryptography` is missing; install it with "
              "`pip install 'oomguard[trust]'`, or on Debian `apt install python3-cryptography`")


class PublicKey(NamedTuple):
    """Whose signatures are believed."""

    name: str           # of its file, without .pub
    raw: bytes          # 32 bytes

    @property
    def key_id(self) -> str:
        """What signatures name it by: the first 16 bytes of its SHA-256, in hex."""
        from hashlib import sha256

        return sha256(self.raw).hexdigest()[:32]


def read_keys(path: str) -> list[PublicKey]:
    """Return the keys in a folder, by name. Raises BundleError: no such folder, or one is not as it must be."""
    with Folder(path, is_strict=True) as folder:
        names = [name for name in folder.names() if name.endswith(SUFFIX)]
        if len(names) > KEYS_MAX:
            raise BundleError(f"{path}: {len(names)} keys are more than {KEYS_MAX}")
        return [PublicKey(name.removesuffix(SUFFIX), parse_public(folder.read(name, KEY_MAX_BYTES), f"{path}/{name}"))
                for name in names]


def parse_public(pem: bytes, where: str) -> bytes:
    """Return the 32 bytes in a PEM text. No ASN.1 is parsed: there is one form only. Raises BundleError."""
    wrong = BundleError(f"{where}: not an Ed25519 public key in PEM")
    try:
        lines = pem.decode("ascii").strip().splitlines()
        body = binascii.a2b_base64("".join(line.strip() for line in lines[1:-1]), strict_mode=True)
    except (ValueError, binascii.Error):
        raise wrong from None
    if len(lines) < 3 or (lines[0], lines[-1]) != (_HEAD, _TAIL):
        raise wrong
    if len(body) != len(_ED25519) + 32 or not body.startswith(_ED25519):
        raise wrong
    return body[len(_ED25519):]


def write_public(raw: bytes) -> bytes:
    """Return a public key as PEM."""
    return f"{_HEAD}\n{binascii.b2a_base64(_ED25519 + raw).decode()}{_TAIL}\n".encode()


def make_key(folder: str, name: str, passphrase: bytes | None = None) -> PublicKey:
    """Write NAME.key, readable by us alone, and NAME.pub. Raises BundleError: one is there already, or no library."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise BundleError(NO_LIBRARY) from None
    secret = Ed25519PrivateKey.generate()
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        hidden = serialization.BestAvailableEncryption(passphrase)
    pem = secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    raw = secret.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    _write_new(os.path.join(folder, f"{name}.key"), pem, 0o600)
    try:
        _write_new(os.path.join(folder, f"{name}{SUFFIX}"), write_public(raw), 0o644)
    except BundleError:
        with suppress(OSError):
            os.unlink(os.path.join(folder, f"{name}.key"))
        raise
    return PublicKey(name, raw)


def read_secret(path: str, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Return a private key. Raises BundleError: others may read it, it is none, or the library is missing."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise BundleError(NO_LIBRARY) from None
    try:
        with open(path, "rb") as file:
            refuse_strangers(os.fstat(file.fileno()), path, forbidden=0o077)
            pem = file.read(KEY_MAX_BYTES)
        secret = load_pem_private_key(pem, passphrase)
    except OSError as problem:
        raise BundleError(f"{path}: {problem.strerror}") from None
    except (ValueError, TypeError) as problem:      # TypeError: a passphrase is missing, or there is none to open
        raise BundleError(f"{path}: no private key that opens so: {problem}") from None
    if not isinstance(secret, Ed25519PrivateKey):
        raise BundleError(f"{path}: not an Ed25519 key")
    return secret


def _write_new(path: str, data: bytes, mode: int) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as problem:
        raise BundleError(f"{path}: {problem.strerror}") from None
    with os.fdopen(fd, "wb") as file:
        file.write(data)
