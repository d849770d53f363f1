"""Where the guard's runtime files are: windows, FIFOs and the control socket."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping

from oomguard.errors import NotPermittedError

SYSTEM_DIR = "/run/oomguard"
SOCKET_NAME = "control.sock"
PRESSURE_SOCKET = "/run/oomguard-pressure.sock"     # the service's; deploy/oomguard-pressure.socket listens there:
                                                    # not in SYSTEM_DIR, which a stop of the service removes
NO_ROOM = frozenset((errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO))    # the disk's trouble, and no lack of rights
PRESSURE_NAME = "pressure.sock"                     # in the runtime folder of a guard without a service manager


def runtime_dir(environ: Mapping[str, str] | None = None) -> str:
    """Return the folder of a guard that is started here; it need not exist yet.

    `$RUNTIME_DIRECTORY` (set by systemd for the unit), else /run/oomguard for root, else
    `$XDG_RUNTIME_DIR/oomguard`, else `/tmp/oomguard-UID`.
    """
    environ = os.environ if environ is None else environ
    given = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if given.startswith("/"):
        return given
    return SYSTEM_DIR if os.geteuid() == 0 else _user_dir(environ)


def own_socket_path(environ: Mapping[str, str] | None = None) -> str:
    """Return where a guard that is started here listens: `$OOMGUARD_SOCKET`, else in its runtime folder."""
    environ = os.environ if environ is None else environ
    return environ.get("OOMGUARD_SOCKET", "") or os.path.join(runtime_dir(environ), SOCKET_NAME)


def socket_path(environ: Mapping[str, str] | None = None, system_dir: str = SYSTEM_DIR) -> str:
    """Return where a client looks for the guard.

    `$OOMGUARD_SOCKET`, else the system's socket for root and wherever it exists, else the user's own.
    """
    environ = os.environ if environ is None else environ
    given = environ.get("OOMGUARD_SOCKET", "")
    if given:
        return given
    system = os.path.join(system_dir, SOCKET_NAME)
    if os.geteuid() == 0 or os.path.exists(system):
        return system
    return os.path.join(_user_dir(environ), SOCKET_NAME)


def make_runtime_dir(path: str) -> str:
    """Create the folder where it is missing, check whose it is, and return it.

    0755 for root's, so that a configured group reaches the socket in it, which is 0660 itself; 0700 for
    a user's.

    Raises:
        NotPermittedError: It cannot be made, is a symbolic link, or belongs to somebody else.
    """
    uid = os.geteuid()
    try:
        os.makedirs(path, mode=0o755 if uid == 0 else 0o700, exist_ok=True)
        found = os.lstat(path)
    except OSError as error:
        raise NotPermittedError(f"cannot make {path}: {error.strerror}; set RUNTIME_DIRECTORY to a folder"
                                " you may write in") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (uid, 0):
        raise NotPermittedError(f"{path} is not a folder of uid {uid}: remove it or set RUNTIME_DIRECTORY")
    return path


def lock_runtime_dir(path: str) -> int:
    """Make the folder this process' alone for as long as the returned descriptor is open.

    Two guards over the same windows would spoil them for each other.

    Raises:
        NotPermittedError: another guard has it, or no lock can be made there. A full disk is no reason: -1.
    """
    try:
        fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in NO_ROOM:
            return -1
        raise NotPermittedError(f"cannot lock {path}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise NotPermittedError(f"another guard uses {path}: stop it, or give this one its own --runtime-dir") from None
    return fd


def _user_dir(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_RUNTIME_DIR", "")
    return os.path.join(base, "oomguard") if base.startswith("/") else f"/tmp/oomguard-{os.geteuid()}"  # noqa: S108
