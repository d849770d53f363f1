"""Permissions and links: what somebody else could have put there is not read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oomguard.errors import BundleError
from oomguard.trust.bundle import load_bundle
from oomguard.trust.files import Folder
from oomguard.trust.keys import read_keys, read_secret

STRANGER = 12345


def needs_root() -> None:
    """Skip where files cannot be given to another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")


@pytest.mark.parametrize("name", ["", "manifest.json", "manifest.sig", "forest.bin"])
@pytest.mark.parametrize("bit", [0o020, 0o002])
def test_a_bundle_that_others_may_write_is_refused(signed, keys: Path, name: str, bit: int) -> None:
    """Folder or file, group or world; without the bit it is taken."""
    folder = signed()
    path = folder / name
    load_bundle(str(folder), keys_dir=str(keys))
    path.chmod(path.stat().st_mode | bit)
    with pytest.raises(BundleError, match="lets others in; take that away with `chmod"):
        load_bundle(str(folder), keys_dir=str(keys))


@pytest.mark.parametrize("name", ["keys", "keys/fleet.pub"])
@pytest.mark.parametrize("bit", [0o020, 0o002])
def test_keys_that_others_may_write_are_refused(keys: Path, name: str, bit: int) -> None:
    """Else anybody could add a key of their own."""
    path = keys.parent / name
    assert len(read_keys(str(keys))) == 1
    path.chmod(path.stat().st_mode | bit)
    with pytest.raises(BundleError, match="lets others in"):
        read_keys(str(keys))


@pytest.mark.parametrize("name", ["", "manifest.json", "manifest.sig", "forest.bin"])
def test_a_bundle_of_another_user_is_refused(signed, keys: Path, name: str) -> None:
    """Whoever owns a file can change it back and forth."""
    needs_root()
    folder = signed()
    os.chown(folder / name, STRANGER, STRANGER)
    with pytest.raises(BundleError, match=f"owned by user {STRANGER}"):
        load_bundle(str(folder), keys_dir=str(keys))


def test_a_step_on_the_way_that_others_may_write_is_refused(signed, keys: Path, tmp_path: Path) -> None:
    """Who may write a folder above may put another one in its place. Sticky ones, as /tmp, are fine."""
    above = tmp_path / "above"
    above.mkdir()
    folder = signed().rename(above / "bundle")
    above.chmod(0o1777)
    load_bundle(str(folder), keys_dir=str(keys))
    above.chmod(0o777)
    with pytest.raises(BundleError, match="above: mode 0777"):
        load_bundle(str(folder), keys_dir=str(keys))


def test_a_step_on_the_way_of_another_user_is_refused(signed, keys: Path, tmp_path: Path) -> None:
    """The same for a folder above that is somebody else's."""
    needs_root()
    above = tmp_path / "above"
    above.mkdir()
    folder = signed().rename(above / "bundle")
    os.chown(above, STRANGER, STRANGER)
    with pytest.raises(BundleError, match=f"above: owned by user {STRANGER}"):
        load_bundle(str(folder), keys_dir=str(keys))


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "forest.bin"])
def test_a_link_in_a_bundle_is_refused(signed, keys: Path, name: str) -> None:
    """A file that lies elsewhere is another folder's to guard."""
    folder = signed()
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(folder.parent / "elsewhere")
    with pytest.raises(BundleError, match="symbolic links"):
        load_bundle(str(folder), keys_dir=str(keys))


def test_a_link_to_a_bundle_is_followed_where_it_is_ours(signed, keys: Path, tmp_path: Path) -> None:
    """`current -> bundle0`, relative or not, through `..` or not: operators roll out so."""
    folder = signed()
    for number, target in enumerate((folder, folder.name, f"../{tmp_path.name}/{folder.name}")):
        link = tmp_path / f"current{number}"
        link.symlink_to(target)
        assert load_bundle(str(link), keys_dir=str(keys)).signed_by == "fleet"


def test_a_link_of_another_user_is_not_followed(signed, keys: Path, tmp_path: Path) -> None:
    """In /tmp anybody may lay one, to a bundle that is signed but not the one that was meant."""
    needs_root()
    signed()
    link = tmp_path / "current"
    link.symlink_to("bundle0")
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(BundleError, match=f"current: owned by user {STRANGER}"):
        load_bundle(str(link), keys_dir=str(keys))


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """A loop is refused, not followed for ever."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(BundleError, match="more than 16 links"):
        Folder(str(tmp_path / "a"), is_strict=True)


@pytest.mark.parametrize("is_strict", [True, False])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, is_strict: bool) -> None:
    """A FIFO does not hang the start, a folder is no manifest, a file no bundle, no name no folder."""
    tmp_path.chmod(0o700)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with Folder(str(tmp_path), is_strict=is_strict) as opened:
        for name, why in (("fifo", "not a regular file"), ("folder", "regular|directory"), ("none", "No such file")):
            with pytest.raises(BundleError, match=why):
                opened.read(name, 10)
    for path, why in (("file", "(?i)not a (folder|directory)"), ("none", "No such file"), ("\0", "null byte")):
        with pytest.raises(BundleError, match=why):
            Folder(str(tmp_path / path), is_strict=is_strict)


def test_no_descriptor_is_left(signed, keys: Path, tmp_path: Path) -> None:
    """Neither by what is taken nor by what is refused."""
    folder = signed()
    load_bundle(str(folder), keys_dir=str(keys))
    before = len(os.listdir("/proc/self/fd"))
    load_bundle(str(folder), keys_dir=str(keys))
    (tmp_path / "link").symlink_to(folder)
    load_bundle(str(tmp_path / "link"), keys_dir=str(keys))
    folder.chmod(0o777)
    with pytest.raises(BundleError):
        load_bundle(str(folder), keys_dir=str(keys))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_private_key_that_others_may_read_is_refused(secret: Path, mode: int) -> None:
    """As ssh does; `keygen` makes it 0600."""
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.chmod(mode)
    with pytest.raises(BundleError, match="chmod 600"):
        read_secret(str(secret))
