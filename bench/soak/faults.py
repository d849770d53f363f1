"""The faults of a soak: each is injected for real, ends, and waits until the guard is as it was."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from bench.soak.site import LONG_PATIENCE_S, Site, until
from tests.faults.broken import SYNCING, WRITING, Broken

FREEZER = Path("/sys/fs/cgroup/freezer")
DAY_S = 86400.0
SHOUTS = (b"", b"{", b"\0" * 5000, b'{"op":"status"}\n', b'{"op":"subscribe"}\n')    # the first: whatever is drawn


class Faults:
    """Breaks one site; what it draws comes from the seed."""

    def __init__(self, site: Site, broken: Broken, chance: random.Random) -> None:
        self._site, self._broken, self._chance = site, broken, chance
        self._wall_s = self._boot_s = 0.0
        self.kills = 0                      # of the guard
        self.outages_s: list[float] = []    # kill -9 to the next sample
        self.bare_s: list[float] = []       # what a bare interpreter takes to start and end, just before
        self.counts: dict[str, int] = {}
        self.gentle: tuple[Callable[[], None], ...] = (
            self.kill_the_app, self.kill_the_worker, self.replace_the_cgroup, self.kill_the_helper,
            self.hang_the_helper, self.stop_the_guard, self.freeze_the_guard, self.fill_the_disk, self.let_the_disk_err,
            self.starve_of_descriptors, self.shout_at_the_socket, self.reload, self.leap_the_wall_clock,
            self.sleep_the_machine)
        self.deadly = (self.kill_the_guard, self.tear_the_journal, self.spoil_a_window)

    def one(self, may_kill: bool) -> str:
        """Inject one fault, drawn at random; return its name."""
        fault = self._chance.choice(self.gentle + self.deadly if may_kill else self.gentle)
        name = fault.__name__.replace("_", " ")
        self.counts[name] = self.counts.get(name, 0) + 1
        fault()
        self._site.ticks_on()
        return name

    # -- the guard -----------------------------------------------------------------------------------------------

    def kill_the_guard(self) -> None:
        """kill -9 at a random moment of a tick."""
        time.sleep(self._chance.random() * 0.2)
        self.kills += 1
        self.bare_s.append(self._site.bare_start())
        self.outages_s.append(self._site.kill_guard())
        until(lambda: self._site.targets() >= {"system"}, "the guard's targets")

    def tear_the_journal(self) -> None:
        """kill -9, and garbage behind the last frame of its newest segment."""
        site = self._site
        segments = sorted(site.journal.glob("*.journal"))
        self.kill_the_guard()
        with segments[-1].open("ab") as file:
            file.write(self._chance.randbytes(self._chance.randrange(1, 500)))

    def spoil_a_window(self) -> None:
        """kill -9, and the file of a target's window damaged before the guard comes back."""
        site = self._site
        path = site.runtime / "windows" / "worker.window"
        site.guard.kill()
        site.guard.wait()
        self.kills += 1
        if path.exists():
            data = bytearray(path.read_bytes())
            at = self._chance.randrange(64)
            data[at:at + 64] = self._chance.randbytes(64)
            path.write_bytes(data[:self._chance.choice((len(data), 100, 5000))])
        site.guard = site.start_guard()
        site.ticks_on()

    def stop_the_guard(self) -> None:
        """SIGSTOP for up to two seconds."""
        self._site.guard.send_signal(signal.SIGSTOP)
        time.sleep(self._chance.random() * 2)
        self._site.guard.send_signal(signal.SIGCONT)

    def freeze_the_guard(self) -> None:
        """The cgroup freezer, for up to two seconds."""
        if not FREEZER.is_dir():
            return
        place = FREEZER / f"oomguard-soak-{os.getpid()}"
        place.mkdir(exist_ok=True)
        (place / "cgroup.procs").write_text(str(self._site.guard.pid))
        (place / "freezer.state").write_text("FROZEN")
        time.sleep(self._chance.random() * 2)
        (place / "freezer.state").write_text("THAWED")
        for pid in (place / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (FREEZER / "cgroup.procs").write_text(pid)
        with contextlib.suppress(OSError):
            place.rmdir()

    def starve_of_descriptors(self) -> None:
        """No further descriptor for two seconds, and a helper that would have to be started meanwhile."""
        pid = self._site.guard.pid
        highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, hard))
        if helper := self._site.helper():
            os.kill(helper, signal.SIGKILL)
        time.sleep(2)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    def reload(self) -> None:
        """SIGHUP; wait until it is taken up, or refused for a hook that is at work."""
        before = self._site.said("reload") + self._site.said("reload-refused")
        self._site.guard.send_signal(signal.SIGHUP)
        until(lambda: self._site.said("reload") + self._site.said("reload-refused") > before, "the reload")

    def shout_at_the_socket(self) -> None:
        """A hundred clients, garbage, half messages and silence."""
        clients = []
        for _ in range(100):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(1)
            clients.append(client)
            with contextlib.suppress(OSError):
                client.connect(str(self._site.runtime / "control.sock"))
                client.sendall(self._chance.choice(SHOUTS) or self._chance.randbytes(200) + b"\n")
        time.sleep(self._chance.random())
        for client in clients:
            client.close()

    # -- what it guards, and its hands ------------------------------------------------------------------------------

    def kill_the_app(self) -> None:
        """kill -9 of the program in the cgroup, and another one in its place."""
        site = self._site
        site.app.kill()
        site.app.wait()
        site.app = site.start_app()

    def kill_the_worker(self) -> None:
        """kill -9 of the process that is guarded by its name; the next one is found."""
        site = self._site
        site.worker.kill()
        site.worker.wait()
        site.worker = site.start_worker()
        until(lambda: "worker" in site.targets(), "the new worker")

    def replace_the_cgroup(self) -> None:
        """Kill all in the guarded cgroup, remove it, and make it again."""
        site = self._site
        site.app.kill()
        site.app.wait()
        site.group.remove(kill=True)
        os.mkdir(site.group.directory)
        Path(site.group.directory, "memory.limit_in_bytes").write_text(str(96 << 20))
        site.app = site.start_app()
        until(lambda: "app" in site.targets(), "the new cgroup")

    def kill_the_helper(self) -> None:
        """kill -9; another one does the next hook."""
        if helper := self._site.helper():
            os.kill(helper, signal.SIGKILL)
            until(lambda: self._site.helper() not in (0, helper), "another helper", LONG_PATIENCE_S)

    def hang_the_helper(self) -> None:
        """SIGSTOP: found out at a hook's deadline, killed and replaced."""
        if helper := self._site.helper():
            os.kill(helper, signal.SIGSTOP)
            until(lambda: self._site.helper() not in (0, helper), "another helper for one that hangs", LONG_PATIENCE_S)

    # -- the disk ----------------------------------------------------------------------------------------------------

    def fill_the_disk(self) -> None:
        """Not a byte is left, for up to three seconds."""
        fill, paused = self._site.disk / "fill", self._site.said("recording-paused")
        with fill.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 65536):
                pass
        until(lambda: self._site.said("recording-paused") > paused, "the pause")
        time.sleep(self._chance.random() * 3)
        fill.unlink()
        self._await_resumed(paused + 1)

    def let_the_disk_err(self) -> None:
        """EIO at each write and flush, for up to three seconds."""
        paused = self._site.said("recording-paused")
        self._broken.fail(WRITING | SYNCING, errno.EIO, str(self._site.journal))
        until(lambda: self._site.said("recording-paused") > paused, "the pause")
        time.sleep(self._chance.random() * 3)
        self._broken.mend()
        self._await_resumed(paused + 1)

    def _await_resumed(self, times: int) -> None:
        until(lambda: self._site.said("recording-resumed") >= times, "the recording to be resumed", LONG_PATIENCE_S)

    # -- the clocks --------------------------------------------------------------------------------------------------

    def leap_the_wall_clock(self) -> None:
        """Up to a day on or back."""
        self._wall_s += self._chance.uniform(-DAY_S, DAY_S)
        self._broken.leap(wall_s=self._wall_s, boot_s=self._boot_s)

    def sleep_the_machine(self) -> None:
        """A standby of up to ten minutes: CLOCK_BOOTTIME alone moves on."""
        self._boot_s += self._chance.uniform(0, 600)
        self._broken.leap(wall_s=self._wall_s, boot_s=self._boot_s)
