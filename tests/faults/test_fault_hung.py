"""What hangs does not hang the guard: a helper that is stopped, clients that never answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guarded import MIB, Guard, Holder, is_alive, until
from test_fault_descriptors import HOOKED, helper_of

from oomguard.act import channel
from oomguard.enclosure import Enclosure

Start = Callable[..., Guard]
Child = Callable[..., "subprocess.Popen[str]"]
AGENT = Path(__file__).parents[2] / "agent"
WATCHDOG_S = 1.0
# The descriptor of a listening socket becomes the one that systemd hands over.
LISTEN = """import os, sys
os.dup2(int(sys.argv[2]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "WATCHDOG_PID": str(os.getpid())}
sys.path.append(sys.argv[1])
from oomguard.act.helper import main
main(["listen"])
"""


def test_a_helper_that_hangs_is_replaced(
    start: Start, child: Child, enclosure: Callable[..., Enclosure], rules: Callable[[str], str], folder: Path,
) -> None:
    """SIGSTOP: the loop ticks on, the hook fails at its deadline, the helper is killed, and the next one works."""
    group, mark = enclosure("hung", 64 * MIB), folder / "mark"
    Holder(child, join=group.join).take(53)
    text = HOOKED.format(mark=mark).replace("]}\n", "], deadline: 1s}\n", 1)
    guard = start("run", "--rules", rules(text), "--target", f"cgroup:{group.path}")
    until(mark.exists, "the first hook", guard.said)
    hung = helper_of(guard.pid)
    os.kill(hung, signal.SIGSTOP)
    before = guard.samples(1)
    assert guard.samples(before + 10)       # while it hangs
    assert guard.event("hook-failed")["because"] == "the helper does not answer"
    until(lambda: not is_alive(hung), "its end", guard.said)
    lines = len(mark.read_text())
    until(lambda: len(mark.read_text()) > lines, "a hook by the next helper", guard.said)
    assert guard.target()["hooks"][0]["on_hold_until_s"] == float("-inf") or guard.target()["hooks"][0]["failures"] == 0


class Manager:
    """What systemd is to oomguard-hooks.service: holds its socket, hears its heart, starts it again when that stops."""

    def __init__(self, folder: Path, child: Child) -> None:
        """Start the service."""
        self.address, self._child = str(folder / "hooks.sock"), child
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.bind(self.address)
        self.listening.listen()
        self._heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard.bind(str(folder / "notify"))
        self.beats: list[bytes] = []
        self.service = self.start()

    def start(self) -> subprocess.Popen[str]:
        """Start the service, or the next one."""
        fd = self.listening.fileno()
        environ = {"NOTIFY_SOCKET": self._heard.getsockname(), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        return self._child(sys.executable, "-I", "-S", "-c", LISTEN, str(AGENT), str(fd), pass_fds=[fd],
                           env=os.environ | environ)

    def hear(self, patience_s: float) -> bool:
        """Wait for the next beat; return whether one came in time."""
        self._heard.settimeout(patience_s)
        try:
            self.beats.append(self._heard.recv(4096))
        except TimeoutError:
            return False
        return True

    def restart_when_silent(self) -> None:
        """Hear it out, and do what a watchdog does."""
        while self.hear(WATCHDOG_S):
            pass
        assert self.service.poll() is None
        self.service.kill()
        self.service.wait()
        self.service = self.start()

    def close(self) -> None:
        """Let its sockets go."""
        self.listening.close()
        self._heard.close()


@pytest.fixture
def manager(folder: Path, child: Child) -> Iterator[Manager]:
    """A service manager with a helper service that has shown that it lives."""
    made = Manager(folder, child)
    assert made.hear(60)
    yield made
    made.close()


def connect(manager: Manager) -> socket.socket:
    """Be a guard: connect, and wait for the service's hello."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    ours.connect(manager.address)
    assert channel.decode(ours.recv(4096))["pid"] == manager.service.pid
    return ours


def test_a_hooks_service_that_is_well_says_so(manager: Manager) -> None:
    """With a guard and without one, with a command under way or not, its heart beats."""
    for _ in range(3):
        assert manager.hear(60)
    with connect(manager) as ours:
        order = {"ticket": 1, "do": "command", "argv": ["sleep", "1000"], "environment": {}, "deadline_s": 600,
                 "is_dry_run": False, "user": ""}
        ours.send(channel.encode(order))
        assert "pid" in channel.decode(ours.recv(4096))
        for _ in range(3):
            assert manager.hear(60)
    assert set(manager.beats) == {b"WATCHDOG=1"}


def test_a_hooks_service_that_hangs_is_started_again(manager: Manager, folder: Path) -> None:
    """Its loop held for ever by a file that nobody reads: the heart stops, and the next one serves."""
    os.mkfifo(folder / "memory.reclaim")
    with connect(manager) as ours:
        ours.send(channel.encode({"ticket": 1, "do": "reclaim", "folder": str(folder), "wanted_bytes": 1,
                                  "deadline_s": 1, "is_dry_run": False}))
        manager.restart_when_silent()
    with connect(manager) as ours:
        ours.send(channel.encode({"ticket": 2, "do": "reclaim", "folder": "/nowhere", "wanted_bytes": 1,
                                  "deadline_s": 1, "is_dry_run": False}))
        assert channel.decode(ours.recv(4096))["ticket"] == 2
    assert manager.hear(60)
