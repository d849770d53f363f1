"""Where runtime files go."""

import os
import stat

import pytest

from oomguard.errors import NotPermittedError
from oomguard.tell.paths import (
    SYSTEM_DIR,
    lock_runtime_dir,
    make_runtime_dir,
    own_socket_path,
    runtime_dir,
    socket_path,
)


@pytest.fixture
def as_user(monkeypatch):
    """We are uid 1000."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_root_uses_run():
    """Root's guard and root's clients meet in /run/oomguard."""
    if os.geteuid() != 0:
        pytest.skip("is about root")
    assert runtime_dir({"XDG_RUNTIME_DIR": "/run/user/0"}) == SYSTEM_DIR
    assert own_socket_path({}) == socket_path({}) == "/run/oomguard/control.sock"


def test_a_user_uses_the_session_folder(as_user, tmp_path):
    """Without a system guard a user's guard and clients meet in XDG_RUNTIME_DIR, else in /tmp."""
    environ, none = {"XDG_RUNTIME_DIR": "/run/user/1000"}, str(tmp_path)
    assert runtime_dir(environ) == "/run/user/1000/oomguard"
    assert socket_path(environ, none) == own_socket_path(environ) == "/run/user/1000/oomguard/control.sock"
    assert runtime_dir({}) == "/tmp/oomguard-1000"
    assert runtime_dir({"XDG_RUNTIME_DIR": "relative"}) == "/tmp/oomguard-1000"


def test_a_user_asks_the_systems_guard_where_it_is(as_user, tmp_path):
    """A socket of the system goes before the user's own for a client, not for a guard that is started."""
    (tmp_path / "control.sock").touch()
    environ = {"XDG_RUNTIME_DIR": "/run/user/1000"}
    assert socket_path(environ, str(tmp_path)) == str(tmp_path / "control.sock")
    assert own_socket_path(environ) == "/run/user/1000/oomguard/control.sock"


def test_the_environment_decides():
    """OOMGUARD_SOCKET names the socket, RUNTIME_DIRECTORY (systemd; the first of several) the folder."""
    environ = {"OOMGUARD_SOCKET": "/x.sock"}
    assert socket_path(environ) == own_socket_path(environ) == "/x.sock"
    assert runtime_dir({"RUNTIME_DIRECTORY": "/run/a:/run/b"}) == "/run/a"


def test_the_folder_is_made_with_the_right_mode(tmp_path, monkeypatch):
    """Root's is open to pass through, a user's is private; one that is there is kept."""
    if os.geteuid() == 0:
        assert stat.S_IMODE(os.stat(make_runtime_dir(str(tmp_path / "a"))).st_mode) == 0o755
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    assert stat.S_IMODE(os.lstat(tmp_path).st_mode) == 0o700
    if os.getuid() == 0:
        os.mkdir(tmp_path / "b", 0o700)
        assert make_runtime_dir(str(tmp_path / "b")) == str(tmp_path / "b")     # root's folder is trusted


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    """In /tmp anybody may have been there first: a link or another user's folder is not used."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(NotPermittedError, match="not a folder of uid"):
        make_runtime_dir(str(tmp_path / "link"))
    (tmp_path / "file").touch()
    with pytest.raises(NotPermittedError, match="cannot make"):
        make_runtime_dir(str(tmp_path / "file"))
    if os.geteuid() == 0:
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 12345, -1)
        with pytest.raises(NotPermittedError, match="not a folder of uid 0"):
            make_runtime_dir(str(tmp_path / "theirs"))


def test_a_runtime_folder_has_one_guard(tmp_path):
    """A second lock on the same folder is refused; after the first is let go it is granted."""
    fd = lock_runtime_dir(str(tmp_path))
    with pytest.raises(NotPermittedError, match="another guard"):
        lock_runtime_dir(str(tmp_path))
    os.close(fd)
    os.close(lock_runtime_dir(str(tmp_path)))
