"""One hook command: a process group of its own, watched until it ends or its deadline passes."""

from __future__ import annotations

import os

from oomguard.clock import now_s
from oomguard.errors import HelperError
from oomguard.lean import signal

TAIL_BYTES = 4096
DRAIN_READS = 16        # 64 KiB each and turn: a command that floods its output cannot keep the helper busy
OURS = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "MEMORY_PRESSURE_", "OOMGUARD_")  # not meant for commands
SETPRIV = ("/usr/bin/setpriv", "/bin/setpriv")      # by path: never whatever comes first in PATH
RESTORED = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)   # ignored by Python or the helper


class Command:
    """A running command. Raises OSError when it cannot be started.

    It is over when its first process ends; what is left of its process group then, or at the deadline, is
    killed. That is our own command, never the app. It reads /dev/null; its output is kept to the last 4 KiB.
    """

    __slots__ = ("_out_fd", "_tail", "deadline_s", "pid", "started_s")

    def __init__(self, argv: list[str], environment: dict[str, str], deadline_s: float) -> None:
        """Start it; deadline_s is a duration."""
        out_fd, in_fd = os.pipe()
        try:
            self.started_s = now_s()
            self.pid = os.posix_spawnp(
                argv[0], argv, environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, in_fd, 1),
                    (os.POSIX_SPAWN_DUP2, in_fd, 2),
                ],
                setpgroup=0, setsigmask=(), setsigdef=RESTORED,
            )
        except BaseException:
            os.close(out_fd)
            raise
        finally:
            os.close(in_fd)
        os.set_blocking(out_fd, False)
        self.deadline_s = self.started_s + deadline_s
        self._out_fd, self._tail = out_fd, b""

    @property
    def out_fd(self) -> int:
        """The descriptor its output comes from; -1 once that has ended."""
        return self._out_fd

    def read(self) -> None:
        """Read what there is of its output, and keep the end."""
        for _ in range(DRAIN_READS):
            if self._out_fd < 0:
                return
            try:
                data = os.read(self._out_fd, 65536)
            except BlockingIOError:
                return
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            if not data:
                self._close_output()

    def has_ended(self) -> bool:
        """Return whether the first process has ended. It is not reaped yet, so its pid stays taken."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        """Kill the whole group. Only before `reap`: until then nobody else can have the number."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):   # all gone; or changed to another user
            return

    def reap(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), None while it has not ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def last_line(self) -> str:
        """Return the last line of the output that is not empty, at most 200 characters."""
        lines = self._tail.decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip()[-200:] if lines else ""

    def freed_bytes(self) -> int | None:
        """Return the whole number that is the last line of the output; None where it is something else."""
        line = self.last_line()
        return int(line) if line.isascii() and line.isdigit() and len(line) <= 18 else None

    def close(self) -> None:
        """Read the rest of the output and let the pipe go."""
        self.read()
        self._close_output()

    def _close_output(self) -> None:
        if self._out_fd >= 0:
            os.close(self._out_fd)
            self._out_fd = -1


def as_user(name: str, argv: list[str], extra: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return argv and environment that make a command run as another user, with none of our rights.

    Through util-linux's setpriv: to change users between fork and exec would need Python there, beside threads. What
    it starts can get no right back, not by sudo either, and keeps neither our groups nor our capabilities.

    Args:
        name: whom; empty for the helper's own user.
        argv: program and arguments.
        extra: variables beside our own.

    Raises:
        HelperError: there is no such user, or no setpriv. The command then does not run at all.
    """
    if not name:
        return argv, extra
    from pwd import getpwnam  # only where a hook asks for it

    try:
        user = getpwnam(name)
    except KeyError:
        raise HelperError(f"there is no user {name}: {argv[0]} is not run") from None
    extra = {**extra, "USER": name, "LOGNAME": name, "HOME": user.pw_dir}
    if user.pw_uid == os.geteuid():
        return argv, extra
    setpriv = next((path for path in SETPRIV if os.access(path, os.X_OK)), "")
    if not setpriv:
        raise HelperError(f"there is no setpriv (util-linux) to run {argv[0]} as {name}: it is not run")
    return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--no-new-privs",
            "--inh-caps=-all", "--ambient-caps=-all", "--", *argv], extra


def environment_of(extra: dict[str, str]) -> dict[str, str]:
    """Return the environment of a command: the helper's, less what speaks to a service, plus `extra`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
    return kept | extra
