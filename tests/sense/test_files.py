"""Kept descriptors."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from oomguard.errors import NotPermittedError, OomguardError, TargetGoneError
from oomguard.sense.files import KeptFile, below, open_if_there, raise_for, read_if_there


def few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every descriptor be one too many."""
    monkeypatch.setattr(os, "sysconf", lambda _name: 0)


def test_reads_the_present_text(tmp_path: Path) -> None:
    """Each read starts at the file's beginning and sees what is there now."""
    (tmp_path / "a").write_text("one")
    file = KeptFile(str(tmp_path / "a"))
    assert file.read() == b"one"
    (tmp_path / "a").write_text("two!")
    assert file.read() == b"two!"
    assert file.is_kept
    file.close()


def test_opens_on_demand_where_descriptors_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the reserve no descriptor is held, and the text is still read."""
    few_descriptors(monkeypatch)
    (tmp_path / "a").write_text("one")
    before = len(os.listdir("/proc/self/fd"))
    file = KeptFile(str(tmp_path / "a"))
    assert (file.is_kept, file.read(), len(os.listdir("/proc/self/fd"))) == (False, b"one", before)


def test_another_file_of_that_name_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On demand, a file that took the place of ours is not read as ours."""
    few_descriptors(monkeypatch)
    (tmp_path / "a").write_text("one")
    file, proc = KeptFile(str(tmp_path / "a")), KeptFile(str(tmp_path / "a"), has_inode=False)
    (tmp_path / "b").write_text("other")
    (tmp_path / "b").rename(tmp_path / "a")
    with pytest.raises(OSError, match="another file"):
        file.read()
    assert proc.read() == b"other"


def test_closing_twice_is_closing(tmp_path: Path) -> None:
    """A second close does not close someone else's descriptor."""
    (tmp_path / "a").write_text("one")
    file = KeptFile(str(tmp_path / "a"))
    file.close()
    other = os.open(tmp_path / "a", os.O_RDONLY)
    file.close()
    assert os.pread(other, 3, 0) == b"one"
    os.close(other)


def test_an_absent_file_is_none_or_empty(tmp_path: Path) -> None:
    """What is not there is unknown, not an error."""
    assert open_if_there(str(tmp_path / "none")) is None
    assert read_if_there(str(tmp_path / "none")) == b""
    assert read_if_there(str(tmp_path)) == b""


def test_a_long_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    """A hostile file costs no more than we allow."""
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    assert len(read_if_there(str(tmp_path / "a"), 70_000)) == 70_000


@pytest.mark.parametrize(("number", "family"), [
    (errno.ENOENT, TargetGoneError), (errno.ENODEV, TargetGoneError), (errno.ESRCH, TargetGoneError),
    (errno.EACCES, NotPermittedError), (errno.EPERM, NotPermittedError), (errno.EIO, OomguardError)])
def test_errors_join_the_family(number: int, family: type[OomguardError]) -> None:
    """Gone, forbidden and broken are told apart, and the cause is kept."""
    with pytest.raises(family, match="cgroup /a") as caught:
        raise_for(OSError(number, os.strerror(number)), "cgroup /a")
    assert type(caught.value) is family


def test_a_root_is_put_before_the_path() -> None:
    """Only a fake tree has a prefix."""
    assert (below("/", "/proc"), below("/t/", "/proc"), below("/t", "/proc")) == ("/proc", "/t/proc", "/t/proc")
