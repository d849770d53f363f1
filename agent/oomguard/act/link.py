"""The daemon's end of the helper: start it, speak with it, notice its death, start it again when quiet."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable

from oomguard.act import channel
from oomguard.act.processes import start_ticks
from oomguard.errors import HelperError
from oomguard.lean import signal
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from socket import socket

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
LIVED_S = 60.0          # a helper that lived so long starts again with the first back-off
FAREWELL_S = 1.0        # how long closing waits for the helper to kill what it runs

# By path and without `site`: -I ignores PYTHONPATH, and an app may have found the package in any way.
_BOOT = "import sys; sys.path.append(sys.argv[2]); from oomguard.act.helper import main; sys.exit(main())"


class Hello(NamedTuple):
    """The helper is ready."""

    pid: int


class Spawned(NamedTuple):
    """A command runs, as this process group."""

    ticket: int
    pid: int
    started_ticks: int


class Answer(NamedTuple):
    """What came of a request."""

    ticket: int
    ok: bool
    freed_bytes: float
    duration_s: float
    why: str


class Scored(NamedTuple):
    """What a net said of rows of features: the probabilities of the classes of each, empty where it gave no number."""

    ticket: int
    classes: list[list[float]]


def read_message(message: channel.Message) -> Hello | Spawned | Answer | Scored:
    """Return what a message of the helper means. Raises HelperError, also for another version's hello."""
    if "hello" in message:
        if message["hello"] != channel.VERSION:
            raise HelperError(f"the helper speaks version {message['hello']!r:.20}, not {channel.VERSION}")
        return Hello(channel.whole(message, "pid"))
    ticket = channel.whole(message, "ticket")
    if "pid" in message:
        return Spawned(ticket, channel.whole(message, "pid"), channel.whole(message, "started_ticks"))
    if "classes" in message:
        return Scored(ticket, channel.tables(message, "classes"))
    freed = math.nan if message.get("freed_bytes") is None else channel.number(message, "freed_bytes")
    return Answer(ticket, channel.flag(message, "ok"), freed, channel.number(message, "duration_s"),
                  channel.text(message, "why"))


class HelperLink:
    """At most one helper process, our own or a service's. `fd` is -1 while there is none."""

    __slots__ = (
        "_backoff_s", "_born_ticks", "_dead", "_retry_at_s", "_started_s", "address", "executable", "fd",
        "is_ready", "pid", "starts",
    )

    def __init__(self, executable: str = "", address: str = "") -> None:
        """Say where the helper comes from.

        Args:
            executable: the Python to run it with; empty: this one.
            address: path of the socket where a helper of its own service listens; then none is started here.
        """
        self.executable, self.address = executable or sys.executable, address
        self.fd = self.pid = self._born_ticks = -1
        self.starts = 0
        self.is_ready = False               # it has said hello
        self._dead: list[int] = []          # killed or gone, not reaped yet
        self._backoff_s = FIRST_BACKOFF_S
        self._retry_at_s = self._started_s = 0.0

    def start(self, now_s: float) -> None:
        """Start the helper. Raises HelperError where that fails; it is tried again after the back-off."""
        self._retry_at_s, self._started_s = now_s + self._backoff_s, now_s
        try:
            self._open()
        except OSError as error:            # no descriptor left for it
            raise HelperError(f"the helper cannot be started: {error.strerror}") from error
        os.set_blocking(self.fd, False)
        self.starts += 1

    def _open(self) -> None:
        from socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair  # 1.4 MB of RSS: not without a helper

        if self.address:
            with socket(AF_UNIX, SOCK_SEQPACKET) as ours:
                ours.setblocking(False)
                self._connect(ours)
                self.fd = ours.detach()
        else:
            ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
            with ours, theirs:
                self.pid = self._spawn(theirs.fileno())
                self._born_ticks = start_ticks(self.pid)
                self.fd = ours.detach()

    def _connect(self, ours: socket) -> None:
        try:
            ours.connect(self.address)
        except OSError as error:
            raise HelperError(f"no helper listens at {self.address}: {error.strerror}") from error

    def _spawn(self, fd: int) -> int:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        argv = [self.executable, "-I", "-S", "-c", _BOOT, "3", root]
        try:
            return os.posix_spawn(
                self.executable, argv, os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, fd, 3),
                ],
                setpgroup=0, setsigmask=(), setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGPIPE),
            )
        except (OSError, ValueError) as error:
            raise HelperError(f"the helper cannot be started: {error}") from error

    def tend(self, now_s: float, is_quiet: bool) -> bool:
        """Reap what has ended; start the helper when there is none, it is quiet and the back-off is over.

        Returns whether it was started. Raises HelperError when that failed.
        """
        self._dead = [pid for pid in self._dead if not _has_ended(pid)]
        may_start = is_quiet or bool(self.address)      # to connect is no fork
        if self.fd >= 0 or not may_start or now_s < self._retry_at_s:
            return False
        self.start(now_s)
        return True

    def send(self, message: channel.Message) -> None:
        """Send a request. Raises HelperError when there is no helper, or it does not read."""
        if self.fd < 0:
            raise HelperError("the helper is down; it is started again at a quiet time")
        channel.send(self.fd, message)

    def receive(self) -> Spawned | Answer | Scored | None:
        """Return the next message, None where there is none. Raises HelperError once the helper is gone or
        speaks nonsense.
        """
        while self.fd >= 0:
            try:
                message = channel.receive(self.fd)
            except BlockingIOError:
                return None
            if message is None:
                raise HelperError("the helper is gone")
            meant = read_message(message)
            if not isinstance(meant, Hello):
                return meant
            self.is_ready = True
            if self.address:
                self.pid = meant.pid
            elif self._born_ticks < 0:      # there was no descriptor to look with when it was started
                self._born_ticks = start_ticks(self.pid)
        return None

    def drop(self, now_s: float) -> None:
        """Give the helper up: kill it if it lives. The next start waits for the back-off: 1, 2, 4 … 60 s."""
        if self.fd < 0:
            return
        self._hang_up()
        if not self.address:
            self._kill()
            if not _has_ended(self.pid):
                self._dead.append(self.pid)
        lived = now_s - self._started_s >= LIVED_S
        self._backoff_s = FIRST_BACKOFF_S if lived else self._backoff_s
        self._retry_at_s = now_s + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)

    def close(self) -> None:
        """Close the channel: the helper kills what it runs, and exits; after a second it is killed itself."""
        if self.fd < 0:
            return
        self._hang_up()
        if self.address:
            return
        for _ in range(int(FAREWELL_S / 0.01)):
            if _has_ended(self.pid):
                return
            time.sleep(0.01)
        self._kill()

    def _hang_up(self) -> None:
        os.close(self.fd)
        self.fd, self.is_ready = -1, False

    def _kill(self) -> None:
        if start_ticks(self.pid) == self._born_ticks:   # an app that reaps all its children frees the number
            _kill(os.kill, self.pid)


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:       # somebody else reaps all children of this process
        return True


def kill_group(pid: int, started_ticks: int) -> None:
    """Kill the process group of a command whose helper died, if it is still that command."""
    if pid > 1 and start_ticks(pid) == started_ticks:
        _kill(os.killpg, pid)


def _kill(how: Callable[[int, int], None], pid: int) -> None:
    try:
        how(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
