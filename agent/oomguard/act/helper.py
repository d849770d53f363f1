"""The helper process: runs hooks that may block or need other rights, so that the daemon's loop never does.

Contract: each request with a ticket gets exactly one answer with that ticket, in any order; when the daemon's
end closes, running commands are killed and the helper exits. Started before there is pressure, as
`python -I -m oomguard.act.helper FD`, FD being one end of a SOCK_SEQPACKET pair; or, as a service of its own
with its own user and rights, with `listen` instead: systemd then hands it the listening socket
(ListenSequentialPacket=), whose file mode says who may connect, and it serves one daemon after the other.
"""

from __future__ import annotations

import os
import signal
import sys

from oomguard.act import channel
from oomguard.act.errands import Errands
from oomguard.errors import HelperError


def serve(fd: int, wake_fd: int) -> int:
    """Serve requests that come over a channel until it closes; return the exit code."""
    errands = Errands(fd, wake_fd)
    try:
        channel.send(fd, {"hello": channel.VERSION, "pid": os.getpid()})
        while not errands.is_stopping:
            errands.turn()
    except HelperError as error:
        sys.stderr.write(f"oomguard: helper stops: {error}\n")
        return 70
    finally:
        errands.close()
    return 0


def listen(fd: int, wake_fd: int) -> int:
    """Serve one daemon after the other, until told to stop by SIGTERM."""
    from socket import socket  # only here: see channel

    with socket(fileno=fd) as listening:
        listening.setblocking(True)
        while True:
            with listening.accept()[0] as daemon:
                serve(daemon.fileno(), wake_fd)
            _reap_all()


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
