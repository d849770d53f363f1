"""A signed copy of the shipped bundle, the key that signed it, and a state folder of the test's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from oomguard.trust import keys as operators
from oomguard.trust.bundle import shipped_folder
from oomguard.trust.signature import leave_signature, sign

Sign = Callable[..., Path]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a state folder that is not the machine's."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return the private key of `fleet`; its public half lies beside it."""
    (tmp_path / "secret").mkdir()
    operators.make_key(str(tmp_path / "secret"), "fleet")
    return tmp_path / "secret" / "fleet.key"


@pytest.fixture
def keys(tmp_path: Path, secret: Path) -> Path:
    """Return a folder of operators' keys with `fleet` in it."""
    (tmp_path / "keys").mkdir()
    shutil.copy(secret.with_suffix(".pub"), tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def signed(tmp_path: Path, secret: Path) -> Sign:
    """Return what makes a signed copy of the shipped bundle, with changes to its manifest; again in another folder."""
    made: list[Path] = []

    def make(**changes: object) -> Path:
        folder = Path(shutil.copytree(shipped_folder(), tmp_path / f"bundle{len(made)}"))
        made.append(folder)
        if changes:
            manifest = json.loads((folder / "manifest.json").read_text())
            (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))
        leave_signature(str(folder), sign(operators.read_secret(str(secret)), (folder / "manifest.json").read_bytes()))
        return folder

    return make
