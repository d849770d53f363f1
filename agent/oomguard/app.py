"""The program that `oomguard exec` starts, guards and outlives by nothing: its start, its signals, its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from oomguard.errors import NotPermittedError, UsageError
from oomguard.lean import signal

FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH)


class App:
    """A child process. Its exit status becomes ours."""

    __slots__ = ("exit_code", "pid")

    def __init__(self, argv: tuple[str, ...], environ: Mapping[str, str], before_exec: Callable[[], None]) -> None:
        """Start it.

        Args:
            argv: the program, looked for in PATH, and its arguments.
            environ: its whole environment.
            before_exec: called in the child, between fork and exec: joins the cgroup.

        Raises:
            UsageError: there is no such program; the exit code of a shell, 127, is kept in `exit_code`.
            NotPermittedError: it may not be run.
        """
        self.exit_code: int | None = None
        told, tell = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            _run(argv, environ, before_exec, tell)
        os.close(tell)
        with os.fdopen(told, "rb") as file:
            problem = file.read(4096).decode("utf-8", "replace")
        if problem:
            os.waitpid(self.pid, 0)
            number, _, text = problem.partition(" ")
            raise (UsageError if number == "2" else NotPermittedError)(f"{argv[0]}: {text}")

    def poll(self) -> int | None:
        """Return its exit code once it has ended: its own, or 128 + the signal that ended it; None while it lives."""
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code
        return self.exit_code

    def forward(self, number: int) -> None:
        """Pass a signal on, unless the terminal has already sent it to our whole foreground group."""
        if self.exit_code is None and not (number in _FROM_TERMINAL and _is_in_foreground()):
            os.kill(self.pid, number)


def _is_in_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _run(argv: tuple[str, ...], environ: Mapping[str, str], before_exec: Callable[[], None], tell: int) -> None:
    """Become the program; in the child."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (*FORWARDED, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        before_exec()
        os.execvpe(argv[0], argv, dict(environ))  # noqa: S606
    except OSError as error:
        os.write(tell, f"{error.errno} {error.strerror}".encode())
    except BaseException as error:  # noqa: BLE001  nothing of the parent's may run on in the child; it is told, not lost
        os.write(tell, f"0 {type(error).__name__}: {error}".encode())
    os._exit(127)
