"""What `oomguard exec` puts around an app: a cgroup of its own where that may be, a pressure FIFO, its end."""

from __future__ import annotations

import os
from collections.abc import Callable

from oomguard.act.hooks import Hook, Request
from oomguard.app import App
from oomguard.briefing import Options
from oomguard.clock import now_s
from oomguard.decide.plan import TargetPlan
from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError, OomguardError
from oomguard.lean import signal
from oomguard.tell.pressure import PressureFifo
from oomguard.tell.service import ServiceManager

Tell = Callable[..., None]


class Sidecar:
    """An app that was started to be guarded."""

    __slots__ = ("_app", "_enclosure", "_fifo", "_tell", "ended", "hook", "target")

    def __init__(self, options: Options, name: str, tell: Tell) -> None:
        """Start the app.

        Args:
            options: its `argv`, `limit_bytes`, and the runtime folder, which is this sidecar's alone.
            name: of the target, in log and status.
            tell: of the daemon.

        Raises:
            UsageError: there is no such program.
            NotPermittedError: a limit is wanted and no cgroup can be made, or the program may not be run.
        """
        self._tell = tell
        self.ended = ""                 # oom, exit or crash, once it has
        self._fifo = PressureFifo(os.path.join(options.runtime_dir, "pressure"))
        self._enclosure = _enclosure(name, options.limit_bytes, tell)
        environ = self._fifo.applied_to(os.environ) | {"OOMGUARD_SOCKET": options.socket}
        for variable in ServiceManager.VARIABLES:       # the app does not speak for our service
            environ.pop(variable, None)
        try:
            self._app = App(options.argv, environ, self._enclosure.join if self._enclosure else _nothing)
        except OomguardError:
            self.close()
            raise
        self.target = TargetPlan(name, "pid", str(self._app.pid))
        if self._enclosure is not None:
            self.target = TargetPlan(name, "cgroup", self._enclosure.path)
        self.hook = Hook.from_call("pressure", self._ask, cost=0.5, is_inline=True)

    def poll(self) -> int | None:
        """Return the app's exit code once it has ended; say how it ended."""
        code = self._app.poll()
        if code is not None and not self.ended:
            kills = -1 if self._enclosure is None else self._enclosure.kills()
            is_killed = code == 128 + signal.SIGKILL and kills != 0
            self.ended = "exit" if code < 128 else "oom" if is_killed else "crash"
            self._tell("end", "error" if is_killed else "info", target=self.target.name, ended=self.ended,
                       app_exit_code=code, oom_kills=kills)
        return code

    def forward(self, number: int) -> None:
        """Pass a signal on to the app."""
        if number != signal.SIGCHLD:
            self._app.forward(number)

    def close(self) -> None:
        """Remove what was made for the app."""
        self._fifo.close(is_app_gone=True)
        if self._enclosure is not None and not self._enclosure.remove():
            self._tell("cgroup-left", "notice", because="somebody is still in it", cgroup=self._enclosure.path)

    def _ask(self, request: Request) -> None:
        self._fifo.tell(max(request.level, 1), now_s())


def _enclosure(name: str, limit_bytes: int, tell: Tell) -> Enclosure | None:
    try:
        return Enclosure.make(name, limit_bytes or None)
    except NotPermittedError as error:
        if limit_bytes:
            raise
        tell("no-cgroup", "notice", because=str(error), what_follows="the program's own process is guarded")
        return None


def _nothing() -> None:
    """Do nothing between fork and exec."""


def remove_folder(path: str) -> None:
    """Remove the runtime folder of an app that has ended."""
    try:
        for folder, _folders, files in os.walk(path, topdown=False):
            for file in files:
                os.unlink(os.path.join(folder, file))
            os.rmdir(folder)
    except OSError:
        pass                    # somebody put something in: it stays
