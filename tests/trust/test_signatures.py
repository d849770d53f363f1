"""A bundle from elsewhere is believed by an operator's signature over its very bytes, and by nothing less."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from oomguard.briefing import Options, write_briefing
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.errors import BundleError
from oomguard.trust import keys as operators
from oomguard.trust import signature
from oomguard.trust.bundle import load_bundle, load_shipped
from oomguard.trust.signature import PURPOSE, Signature, leave_signature, parse_signature, sign, write_signature


def refused(folder: Path, keys: Path, why: str) -> None:
    """Hold that a bundle is refused, and why."""
    with pytest.raises(BundleError, match=why):
        load_bundle(str(folder), keys_dir=str(keys))


def test_a_signed_bundle_is_taken(signed, keys: Path) -> None:
    """And it says by whose key."""
    bundle = load_bundle(str(signed()), keys_dir=str(keys))
    assert bundle.signed_by == "fleet" and bundle.forest == load_shipped().forest


@pytest.mark.parametrize("change", [b" ", b"x"])
def test_one_more_byte_in_the_manifest_is_refused(signed, keys: Path, change: bytes) -> None:
    """Even one that JSON would not see; and it is refused before anything is parsed."""
    folder = signed()
    with (folder / "manifest.json").open("ab") as file:
        file.write(change)
    refused(folder, keys, "altered .the signature by 'fleet'")


def test_an_altered_file_of_a_signed_bundle_is_refused(signed, keys: Path) -> None:
    """The signature holds for the manifest, the manifest's digests for the rest."""
    folder = signed()
    data = bytearray((folder / "forest.bin").read_bytes())
    data[-1] ^= 1
    (folder / "forest.bin").write_bytes(data)
    refused(folder, keys, r"forest\.bin: altered")


def test_a_stolen_signature_vouches_for_no_other_bundle(signed, keys: Path) -> None:
    """The signature of one manifest beside another one."""
    one, other = signed(), signed(release=9)
    (other / "manifest.sig").write_bytes((one / "manifest.sig").read_bytes())
    refused(other, keys, "altered")


def test_a_key_that_nobody_put_there_is_refused(signed, keys: Path) -> None:
    """Signed, but not by one of ours; once the key is there it is taken."""
    pem = (keys / "fleet.pub").read_bytes()
    (keys / "fleet.pub").unlink()
    folder = signed()
    refused(folder, keys, "signed by key .*, which is not in")
    (keys / "fleet.pub").write_bytes(pem)
    assert load_bundle(str(folder), keys_dir=str(keys)).signed_by == "fleet"


def test_without_a_folder_of_keys_it_is_refused(signed, tmp_path: Path) -> None:
    """Signed, and nothing to check it by."""
    refused(signed(), tmp_path / "nowhere", "nothing to check it by: .*nowhere: No such file")


def test_an_oversized_signature_is_refused_unread(signed, keys: Path) -> None:
    """A file of gigabytes costs a kilobyte of reading."""
    folder = signed()
    with (folder / "manifest.sig").open("ab") as file:
        file.truncate(1 << 33)
    refused(folder, keys, r"manifest\.sig: more than 1024 bytes")


@pytest.mark.parametrize("change", [
    {"format": 2}, {"format": True}, {"algorithm": "none"}, {"algorithm": "hmac"}, {"key": "A" * 32}, {"key": "a" * 31},
    {"key": 1}, {"signature": ""}, {"signature": "AAAA"}, {"signature": "!" * 88}, {"signature": None}, {"more": 1}])
def test_a_signature_of_another_form_is_refused(change: dict[str, object]) -> None:
    """There is one form; no algorithm can be asked for."""
    fields = json.loads(write_signature(Signature("0" * 32, bytes(64))))
    assert parse_signature(json.dumps(fields).encode(), "x") == Signature("0" * 32, bytes(64))
    with pytest.raises(BundleError, match="x: not a signature"):
        parse_signature(json.dumps({**fields, **change}).encode(), "x")


def test_a_signature_for_something_else_does_not_pass(signed, keys: Path, secret: Path) -> None:
    """The same key over the manifest alone, without the line that says what for."""
    folder = signed()
    manifest = (folder / "manifest.json").read_bytes()
    key = operators.read_secret(str(secret))
    leave_signature(str(folder), sign(key, manifest)._replace(value=key.sign(manifest)))
    refused(folder, keys, "altered")


def test_openssl_agrees(signed, keys: Path, tmp_path: Path) -> None:
    """The public key and the signature are what `openssl pkeyutl` reads: plain Ed25519."""
    folder = signed()
    (tmp_path / "text").write_bytes(PURPOSE + (folder / "manifest.json").read_bytes())
    (tmp_path / "sig").write_bytes(parse_signature((folder / "manifest.sig").read_bytes(), "x").value)
    done = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys / "fleet.pub", "-rawin", "-in",
                           tmp_path / "text", "-sigfile", tmp_path / "sig"], capture_output=True, text=True)
    assert "Verified Successfully" in done.stdout, done.stderr


def test_the_bytes_that_were_checked_are_the_bytes_that_run(signed, keys: Path) -> None:
    """Files that change after the check change nothing: the briefing has what was verified."""
    folder = signed()
    bundle = load_bundle(str(folder), keys_dir=str(keys))
    (folder / "forest.bin").write_bytes(b"other")
    (folder / "manifest.json").write_bytes(b"other")
    plan = Plan((TargetPlan("app", "self"),), ())
    assert write_briefing(plan, bundle, Options("/run/x")).endswith(load_shipped().forest)


def test_a_folder_swapped_during_the_check_is_still_the_same_folder(signed, keys: Path, monkeypatch) -> None:
    """Everything is read below one descriptor: another folder under the same name is not looked at."""
    folder, other = signed(), signed(release=7)
    real = signature.vouched_by

    def swap_first(*args: object) -> str:
        folder.rename(folder.with_name("away"))
        other.rename(folder)
        return real(*args)      # type: ignore[arg-type]

    monkeypatch.setattr(signature, "vouched_by", swap_first)
    assert load_bundle(str(folder), keys_dir=str(keys)).release == 1
    monkeypatch.undo()
    assert load_bundle(str(folder), keys_dir=str(keys)).release == 7


@pytest.mark.parametrize("pem", [
    b"", b"\xff", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
    b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"x" * 5000,
    b"-----BEGIN RSA PUBLIC KEY-----\nMCowBQYDK2VwAyEA" + b"A" * 43 + b"=\n-----END RSA PUBLIC KEY-----\n"])
def test_a_file_that_is_no_key_is_named(signed, keys: Path, pem: bytes) -> None:
    """No bundle is taken while an operator's folder holds what is not understood."""
    (keys / "bad.pub").write_bytes(pem)
    refused(signed(), keys, r"keys/bad\.pub: (not an Ed25519 public key|more than 4096 bytes)")


def test_without_the_library_it_is_refused_and_said_how_to_mend(signed, keys: Path) -> None:
    """A device without `cryptography` still takes the shipped bundle, and no signed one."""
    code = ("import sys; sys.modules['cryptography'] = None\n"
            "from oomguard.errors import BundleError\nfrom oomguard.trust.bundle import load_bundle, load_shipped\n"
            "load_shipped()\n"
            f"try: load_bundle({str(signed())!r}, keys_dir={str(keys)!r})\nexcept BundleError as e: print(e)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "apt install python3-cryptography" in done.stdout, done.stderr


def test_the_daemon_never_has_the_library() -> None:
    """Signatures are for the short-lived process before it: the daemon and the bundle's loader do not import it."""
    code = ("import sys, oomguard.daemon, oomguard.trust.bundle as b; b.load_shipped(); "
            "print([m for m in sys.modules if 'cryptography' in m or m.endswith('.signature')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
