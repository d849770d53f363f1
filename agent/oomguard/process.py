"""The daemon as a process: its log, its signals, its name, its place in memory."""

from __future__ import annotations

import os
from collections.abc import Callable

from oomguard.app import FORWARDED
from oomguard.errors import NotPermittedError
from oomguard.lean import signal
from oomguard.tell.log import Log, is_journal

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4          # mlockall(2)


def open_log(path: str, is_json: bool) -> Log:
    """Open the log: a file to append to, or standard error where no path is given. Raises NotPermittedError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640) if path else 2
    except OSError as error:
        raise NotPermittedError(f"cannot log to {path}: {error.strerror}") from None
    log = Log(fd, is_json, is_journal(fd, os.environ))
    if path:
        os.close(fd)
    return log


def catch_signals(handle: Callable[[int], None]) -> int:
    """Let signals wake the loop; return the descriptor to wait on."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda signum, _frame: handle(signum))
    return read_fd


def write_own(name: str, value: str) -> None:
    """Write one of our own files below /proc: our name in `ps`, who the kernel should rather kill."""
    try:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(value)
    except OSError:
        pass                    # an ordinary user may not lower the score; `doctor` says so


def lock_memory() -> bool:
    """Keep what we have touched, and shall touch, from being swapped out or dropped; return whether that holds.

    Only where there is no limit on it (LimitMEMLOCK=infinity in the unit): under a limit later allocations would fail.
    Without `ctypes`, which takes 0.7 MB of RSS; the extension below it takes 0.25.
    """
    if not _has_no_limit(b"Max locked memory"):
        return False
    try:
        import _ctypes

        address = _ctypes.dlsym(_ctypes.dlopen(None, 0), "mlockall")      # type: ignore[arg-type]  # None: this process
        return bool(_ctypes.call_function(address, (MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT,)) == 0)
    except (ImportError, OSError):      # a Python without libffi, a libc without the call
        return False


def _has_no_limit(name: bytes) -> bool:
    """Return whether a resource is ours without limit; the module `resource` would cost RSS."""
    try:
        with open("/proc/self/limits", "rb") as file:
            return any(line.startswith(name) and line[len(name):].split()[:1] == [b"unlimited"] for line in file)
    except OSError:
        return False
