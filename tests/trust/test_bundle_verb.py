"""`oomguard bundle`: from a new key to a device that believes it, and every way that this may not go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from oomguard.cli import main
from oomguard.trust.bundle import shipped_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an unsigned copy of the shipped bundle."""
    return Path(shutil.copytree(shipped_folder(), tmp_path / "bundle"))


def test_from_a_key_to_a_device(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """keygen, sign, verify, show, check: the whole way, and the private key is the owner's alone."""
    out = str(tmp_path)
    assert main(["bundle", "keygen", "fleet", "--out", out]) == 0
    assert (tmp_path / "fleet.key").stat().st_mode & 0o777 == 0o600
    assert main(["bundle", "verify", str(folder), "--keys", out]) == 4
    assert "unsigned" in capsys.readouterr().err
    assert main(["bundle", "sign", str(folder), "--key", f"{out}/fleet.key"]) == 0
    assert main(["bundle", "verify", str(folder), "--keys", out]) == 0
    assert "the key 'fleet'" in capsys.readouterr().out
    assert main(["bundle", "show", str(folder), "--keys", out, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["vouched_by"], shown["name"], shown["release"], shown["problem"]) == ("fleet", "default", 1, None)
    assert main(["check", "--model", str(folder), "--keys", out]) == 0
    assert "(release 1, signed by fleet)" in capsys.readouterr().out


def test_an_encrypted_key_needs_its_passphrase(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    """With it, it signs; without, or with another, it does not."""
    (tmp_path / "words").write_text("correct horse\nsecond line\n")
    (tmp_path / "other").write_text("battery\n")
    words = ["--passphrase-file", str(tmp_path / "words")]
    assert main(["bundle", "keygen", "k", "--out", str(tmp_path), *words]) == 0
    assert b"ENCRYPTED" in (tmp_path / "k.key").read_bytes()
    sign = ["bundle", "sign", str(folder), "--key", str(tmp_path / "k.key")]
    assert main(sign) == main([*sign, "--passphrase-file", str(tmp_path / "other")]) == 4
    assert "no private key that opens so" in capsys.readouterr().err
    assert main([*sign, *words]) == 0


def test_no_key_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the private one, and not the public one: then neither is left behind."""
    new = ["bundle", "keygen", "k", "--out", str(tmp_path)]
    assert main(new) == 0
    before = (tmp_path / "k.key").read_bytes()
    assert main(new) == 4
    assert (tmp_path / "k.key").read_bytes() == before
    (tmp_path / "k.key").unlink()
    assert main(new) == 4
    assert not (tmp_path / "k.key").exists()


def test_what_no_guard_could_load_is_not_signed(folder: Path, secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A forest that is not the manifest's."""
    (folder / "forest.bin").write_bytes(b"x")
    assert main(["bundle", "sign", str(folder), "--key", str(secret)]) == 4
    assert "altered" in capsys.readouterr().err and not (folder / "manifest.sig").exists()


def test_the_shipped_bundle_needs_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    """It is vouched for by the digest compiled in, whatever keys there are."""
    assert main(["bundle", "verify", "shipped"]) == 0
    assert "digest compiled into" in capsys.readouterr().out
    assert main(["bundle", "show", "shipped"]) == 0


def test_show_shows_what_nobody_vouches_for(folder: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it is, by whom not, and why; what is no bundle at all ends with 4."""
    assert main(["bundle", "show", str(folder), "--keys", str(keys)]) == 0
    said = capsys.readouterr()
    assert "vouched by  nobody" in said.out and "unsigned" in said.err
    (folder / "manifest.json").write_text("{}")
    assert main(["bundle", "show", str(folder)]) == 4


def test_an_older_one_is_not_verified(signed, keys: Path, capsys: pytest.CaptureFixture[str], state: Path) -> None:
    """After a higher release was taken on this device; --allow-older asks for the signature alone."""
    state.mkdir()
    (state / "releases.json").write_text('{"format": 1, "releases": {"default": 2}}')
    verify = ["bundle", "verify", str(signed()), "--keys", str(keys)]
    assert main(verify) == 4
    assert "older than 2" in capsys.readouterr().err
    assert main(["check", "--model", str(signed()), "--keys", str(keys)]) == 4
    assert main([*verify, "--allow-older"]) == 0


@pytest.mark.parametrize("words", [["keygen", "../x"], ["keygen", ""], ["keygen", ".x"],
                                   ["keygen", "x", "--passphrase-file", "/nonexistent"],
                                   ["keygen", "x", "--passphrase-file", "/dev/null"]])
def test_what_is_asked_wrongly(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is a path, a passphrase that is none: usage."""
    assert main(["bundle", *words]) == 2


def test_a_secret_that_is_none(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, no PEM, or of another kind than Ed25519: named, exit 4."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    other = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for text, why in ((None, "No such file"), (b"x", "no private key"), (other, "not an Ed25519 key")):
        path = tmp_path / "k"
        if text is not None:
            path.write_bytes(text)
            path.chmod(0o600)
        assert main(["bundle", "sign", str(folder), "--key", str(path)]) == 4
        assert why in capsys.readouterr().err
