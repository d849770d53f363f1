"""Signal a process, never its successor: a pid is only meant together with its start time.

Nor is a process signalled that does not handle the signal: the default action of most signals is to end it,
and the guard never kills.
"""

from __future__ import annotations

import os

from oomguard.lean import signal

HARMLESS = frozenset((signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH))  # nothing by default


def start_ticks(pid: int, proc: str = "/proc") -> int:
    """Return when a process started, in clock ticks since boot; -1 when there is no such process."""
    try:
        fd = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fields = os.read(fd, 1024).rpartition(b")")[2].split()     # the name before it may hold anything
        return int(fields[19])                                     # field 22 of the line, see proc(5)
    except (OSError, IndexError, ValueError):
        return -1
    finally:
        os.close(fd)


def signal_number(name: str) -> int:
    """Return the number of a signal such as `SIGUSR1` or `SIGRTMIN+3`. Raises ValueError."""
    first, plus, place = name.partition("+")
    if first == "SIGRTMIN" and plus and place.isdigit() and int(place) <= signal.SIGRTMAX - signal.SIGRTMIN:
        return signal.SIGRTMIN + int(place)
    number = getattr(signal, name, None) if name.startswith("SIG") and "_" not in name else None
    if not isinstance(number, int):
        raise ValueError(f"{name!r} is not a signal")
    return int(number)


def deliver(pid: int, started_ticks: int, number: int, is_dry_run: bool = False) -> str:
    """Signal a process; return "", or why it was not signalled.

    A pidfd is taken before the start time is read, so the process that was checked is the one that is
    signalled. Kernels before 5.3 have no pidfd: there, microseconds lie between the check and the signal.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return f"pid {pid} is gone"
    except OSError:                 # ENOSYS; EPERM under some seccomp filters
        pidfd = -1
    try:
        why = _why_not(pid, started_ticks, number)
        if not why and not is_dry_run:
            if pidfd < 0:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(pidfd, number)
        return why
    except ProcessLookupError:
        return f"pid {pid} is gone"
    except PermissionError:
        return f"pid {pid} may not be signalled by this user"
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def _why_not(pid: int, started_ticks: int, number: int) -> str:
    started = start_ticks(pid)
    if started < 0:
        return f"pid {pid} is gone"
    if started != started_ticks:
        return f"pid {pid} is another process now"
    if number in HARMLESS or _handles(pid, number):
        return ""
    from signal import Signals  # only to say a name: 0.4 MB of RSS

    return f"pid {pid} does not handle {Signals(number).name}, which would end it"


def _handles(pid: int, number: int) -> bool:
    """Return whether the process catches, ignores or, in each thread, blocks a signal (signalfd).

    One that waits in sigwait is not recognised, and left alone: the kernel lifts the block while it waits,
    and /proc shows that (tried, 6.18).
    """
    masks = _masks(f"/proc/{pid}/status")
    bit = 1 << (number - 1)
    if (masks.get(b"SigCgt", 0) | masks.get(b"SigIgn", 0)) & bit:
        return True
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return all(_masks(f"/proc/{pid}/task/{tid}/status").get(b"SigBlk", 0) & bit for tid in threads)


def _masks(path: str) -> dict[bytes, int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        lines = os.read(fd, 8192).splitlines()
    except OSError:
        return {}
    finally:
        os.close(fd)
    pairs = (line.partition(b":") for line in lines if line.startswith(b"Sig"))
    return {name: int(value, 16) for name, _, value in pairs if name != b"SigQ"}
