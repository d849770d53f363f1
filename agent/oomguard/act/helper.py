"""The helper process: runs hooks that may block or need other rights, so that the daemon's loop never does.

Contract: each request with a ticket gets exactly one answer with that ticket, in any order; when the daemon's
end closes, running commands are killed and the helper exits. Started before there is pressure, as
`python -I -m oomguard.act.helper FD`, FD being one end of a SOCK_SEQPACKET pair; or, as a service of its own
with its own user and rights, with `listen` instead: systemd then hands it the listening socket
(ListenSequentialPacket=), whose file mode says who may connect, and it serves one daemon after the other. There its
loop says that it goes round (WatchdogSec=): a helper that hangs is killed and started again by systemd.
"""

from __future__ import annotations

import _socket  # `socket` would be 1.4 MB of RSS: see channel
import os
import select
import sys
from collections.abc import Callable

from oomguard.act import channel
from oomguard.act.errands import Errands
from oomguard.clock import now_s
from oomguard.errors import HelperError
from oomguard.lean import signal
from oomguard.tell.service import ServiceManager

BEATS = 4       # in the time that the service manager allows: one that comes late is no reason to be killed


def serve(fd: int, wake_fd: int, beat: Callable[[], object] = lambda: None) -> int:
    """Serve requests that come over a channel until it closes; return the exit code.

    Args: beat: is called each time the loop has gone round.
    """
    errands = Errands(fd, wake_fd)
    try:
        channel.send(fd, {"hello": channel.VERSION, "pid": os.getpid()})
        while not errands.is_stopping:
            errands.turn()
            beat()
    except HelperError as error:
        sys.stderr.write(f"oomguard: helper stops: {error}\n")
        return 70
    finally:
        errands.close()
    return 0


def listen(fd: int, wake_fd: int) -> int:
    """Serve one daemon after the other, until told to stop by SIGTERM."""
    listening, beat = _socket.socket(fileno=fd), _heart()
    poller = select.poll()
    for each in (fd, wake_fd):
        poller.register(each, select.POLLIN)
    while True:
        beat()
        ready = [each for each, _events in poller.poll()]
        if wake_fd in ready:
            os.read(wake_fd, 512)
        if fd in ready:
            daemon_fd = listening._accept()[0]      # type: ignore[attr-defined]  # what socket.accept calls
            try:
                serve(daemon_fd, wake_fd, beat)
            finally:
                os.close(daemon_fd)
            _reap_all()


def _heart() -> Callable[[], object]:
    """Return what tells the service manager that the loop goes round; where it wants to know, a timer turns the loop.

    The timer's handler says nothing itself: it runs in a loop that hangs, too.
    """
    manager = ServiceManager()
    if manager.watchdog_s:
        signal.signal(signal.SIGALRM, lambda _number, _frame: None)
        signal.setitimer(signal.ITIMER_REAL, manager.watchdog_s / BEATS, manager.watchdog_s / BEATS)
    return lambda: manager.watchdog(now_s())


def _reap_all() -> None:
    """Reap what the last daemon's commands left; what cannot end yet is reaped after the next daemon."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _wake_on_signals() -> int:
    wake_fd, signalled_fd = os.pipe()
    for fd in (wake_fd, signalled_fd):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(signalled_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # a terminal's ^C is for the daemon
    return wake_fd


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _be_killable() -> None:
    """Give up the daemon's protection from the kernel's killer; commands inherit this, not -900."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return      # no /proc: nothing to give up either
    try:
        os.write(fd, b"0")
    except OSError as error:    # EACCES: ours is above 0, and lowering it needs a right
        sys.stderr.write(f"oomguard: helper keeps its oom_score_adj: {error.strerror}\n")
    finally:
        os.close(fd)


def main(argv: list[str] | None = None) -> int:
    """Run the helper on the descriptor named by the first argument."""
    arguments = sys.argv[1:] if argv is None else argv
    is_service = arguments == ["listen"] and os.environ.get("LISTEN_PID") == str(os.getpid())
    if not is_service and not (len(arguments) > 0 and arguments[0].isdigit()):
        sys.stderr.write("usage: python -I -m oomguard.act.helper FD | listen (by socket activation)\n")
        return 2
    fd = 3 if is_service else int(arguments[0])     # sd_listen_fds(3): the first one is always 3
    os.set_inheritable(fd, False)
    os.set_blocking(fd, True)
    _be_killable()
    return (listen if is_service else serve)(fd, _wake_on_signals())


if __name__ == "__main__":
    sys.exit(main())
