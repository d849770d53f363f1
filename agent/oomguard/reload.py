"""Taking up another plan and model while guarding: a briefing left in the runtime folder, believed only from its owner.

`oomguard reload` reads and checks rules and model again, in a short-lived process, leaves the result here and asks the
daemon over the control socket to take it. What does not check is never left; what is not ours is never read.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable

from oomguard.briefing import BRIEFING_MAX_BYTES, Briefing, read_briefing
from oomguard.errors import ConfigError, NotPermittedError
from oomguard.tell.peer import Peer

FILE_NAME = "briefing.next"


def leave_briefing(folder: str, briefing: bytes) -> str:
    """Put a briefing where the daemon of this runtime folder looks for it; return its path."""
    path = os.path.join(folder, FILE_NAME)
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(briefing)
    os.replace(path + ".new", path)
    return path


def take_briefing(folder: str, peer: Peer) -> Briefing:
    """Return the briefing that was left in the folder, and remove it.

    Raises:
        NotPermittedError: who asks is neither root nor our own user, or the file is not theirs.
        ConfigError, BundleError: there is none, or it is not a briefing of this version.
    """
    ours = (0, os.geteuid())
    if peer.uid not in ours:
        raise NotPermittedError("only root, or the user the guard runs as, may reload it")
    path = os.path.join(folder, FILE_NAME)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in ours or status.st_mode & 0o022:
            raise NotPermittedError(f"{path} is not a file of ours that nobody else may write")
        if status.st_size > BRIEFING_MAX_BYTES:
            raise ConfigError(f"{status.st_size} bytes are more than {BRIEFING_MAX_BYTES}", file=path)
        return read_briefing(os.dup(fd))
    finally:
        os.close(fd)
        os.unlink(path)


class Reloader:
    """What SIGHUP starts: the short-lived process that checks everything again and talks to us over our own socket."""

    __slots__ = ("_pid", "_problem")

    def __init__(self) -> None:
        self._pid, self._problem = 0, ""

    def start(self, socket: str) -> None:
        """Start it, unless one is at work. Spawned, not forked: no page of ours is copied."""
        if not self._pid:
            argv = [sys.executable, "-I", "-m", "oomguard", "reload", "--socket", socket]
            try:
                self._pid = os.posix_spawn(sys.executable, argv, os.environ)
            except OSError as error:        # in a signal's handler: nothing may come of it but a line in the log
                self._problem = f"it cannot be started: {error.strerror}; the old rules hold"

    def poll(self, tell: Callable[..., None]) -> None:
        """See whether it has ended; say so if it was not content. Its own words are on standard error."""
        if self._problem:
            tell("reload-refused", "error", because=self._problem)
            self._problem = ""
        if self._pid:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                if status:
                    tell("reload-refused", "error", because="the new rules or model do not check; the old ones hold",
                         exit_code=os.waitstatus_to_exitcode(status))
