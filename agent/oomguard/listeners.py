"""Who is told without a rule naming them: apps on the pressure socket, and LowMemoryMonitor's on D-Bus.

Both are hooks, so that `hook: any` reaches them within every bound: `pressure` tells the apps that are in the
target, and `low-memory-monitor`, dearer since it tells everybody, the whole machine.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable, MutableMapping

from oomguard.act.hooks import Hook, Request
from oomguard.clock import now_s
from oomguard.errors import OomguardError
from oomguard.tell.monitor.link import MonitorLink
from oomguard.tell.paths import PRESSURE_NAME
from oomguard.tell.pressure_socket import NAME, PressureSocket
from oomguard.tell.service import passed_descriptors
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.guards import Guards
    from oomguard.tell.control import Poller
    from oomguard.tell.peer import Peer
    from oomguard.tell.service import ServiceManager

PRESSURE_COST = 0.5         # as the FIFO of `exec`
MONITOR_COST = 2.0          # after hooks that were named: it reaches apps that have no part in this

Tell = Callable[..., None]  # (event, severity, **fields)

class PressureHook(Hook):
    """Tells the apps of one target; on hold while none of them listens."""

    __slots__ = ("_is_heard",)

    def __init__(self, target: str, call: Callable[[Request], None], is_heard: Callable[[], bool]) -> None:
        super().__init__("pressure", "inline", call=call, cost=PRESSURE_COST, targets=(target,))
        self._is_heard = is_heard

    def is_on_hold(self, now_s: float) -> bool:
        """Return whether there is no use in asking: nobody of the target listens, or repeated failure."""
        return super().is_on_hold(now_s) or not self._is_heard()


class Listeners:
    """The listeners of a guard that `run` started."""

    __slots__ = ("_guards", "_is_monitor_joined", "_monitor", "_monitor_hook", "_passed", "_poller", "_pressure_hooks",
                 "_service", "_socket", "_tell")

    def __init__(
        self, guards: Guards, poller: Poller, service: ServiceManager, tell: Tell,
        environ: MutableMapping[str, str] | None = None,
    ) -> None:
        """Take what the service manager passed, before any child is started that could inherit it.

        Args:
            guards: whose targets the hooks are for.
            poller: the daemon's epoll.
            service: keeps the connections over a restart.
            tell: for the log.
            environ: with LISTEN_FDS, which is taken away; os.environ.
        """
        self._passed = passed_descriptors(environ)
        self._guards, self._poller, self._service, self._tell = guards, poller, service, tell
        self._socket: PressureSocket | None = None
        self._pressure_hooks: list[Hook] = []
        self._is_monitor_joined = False
        self._monitor = MonitorLink(poller, tell, self._follow_monitor)
        self._monitor_hook = Hook.from_call("low-memory-monitor", self._warn, cost=MONITOR_COST, is_inline=True)

    def start(self, runtime_dir: str, is_dry_run: bool) -> None:
        """Open the doors; what cannot be opened is one line in the log, and no stop.

        Args:
            runtime_dir: where the socket goes when no service manager passed one.
            is_dry_run: nobody will be told; so the name on the bus is left to others.
        """
        self._open_socket(runtime_dir)
        if not is_dry_run:
            self._monitor.start(now_s())

    def handle(self, fd: int, events: int) -> bool:
        """Serve what epoll reported; return whether the descriptor is one of ours."""
        if fd == self._monitor.fd and fd >= 0:
            self._monitor.handle(now_s())
            return True
        return self._socket is not None and self._socket.handle(fd, events)

    def tend(self) -> None:
        """Do what is to be done every tick."""
        if self._monitor.fd < 0:
            self._monitor.tend(now_s(), self._guards.has_room())
        if self._socket is not None:
            self._socket.tend()

    def rejoin(self) -> None:
        """Join again after a reload, which began with the hooks of the new plan alone."""
        self._pressure_hooks, self._is_monitor_joined = [], False
        self._follow_socket()
        self._follow_monitor()

    def counts(self) -> dict[str, int]:
        """Return how many listen; of the bus only whether somebody could."""
        return {"pressure": 0 if self._socket is None else len(self._socket.consumers),
                "low_memory_monitor": int(self._monitor.is_on)}

    def status(self) -> dict[str, object]:
        """Return what `oomguard status` shows."""
        consumers = () if self._socket is None else self._socket.consumers
        return {"socket": None if self._socket is None else self._socket.path,
                "consumers": [{"pid": each.peer.pid, "uid": each.peer.uid, "told": each.told,
                               "wrote": each.wish.decode("ascii", "backslashreplace")} for each in consumers],
                "low_memory_monitor": "on" if self._monitor.is_on else self._monitor.because or "starting"}

    def close(self) -> None:
        """Let go."""
        self._monitor.close()
        if self._socket is not None:
            self._socket.close()

    # -- the pressure socket -----------------------------------------------------------------------------------

    def _open_socket(self, runtime_dir: str) -> None:
        passed, self._passed = self._passed, []
        listening = [fd for fd, name in passed if name == NAME]
        kept = [(fd, name) for fd, name in passed if name.startswith(f"{NAME}-")]
        for fd, name in passed:
            if fd in listening[1:] or not (name == NAME or name.startswith(f"{NAME}-")):
                os.close(fd)
                self._tell("descriptor-refused", "warning", name=name, because="the guard knows no such socket")
        try:
            if listening:
                listener = _socket.socket(fileno=listening[0])
                self._socket = PressureSocket(listener, self._poller, self._service, self._tell,
                                              on_change=self._follow_socket)
            else:
                self._socket = PressureSocket.bound(os.path.join(runtime_dir, PRESSURE_NAME), self._poller,
                                                    self._service, self._tell, on_change=self._follow_socket)
        except (OomguardError, OSError) as error:
            self._tell("no-pressure-socket", "warning", because=str(error))
            return
        back = self._socket.take_back(kept)
        self._tell("pressure-socket", path=self._socket.path, consumers=back,
                   kept_by="the service manager" if listening else "nobody: they are hung up when the guard ends")

    def _follow_socket(self) -> None:
        """Join a hook per target when the first consumer comes, part when the last one goes."""
        is_heard = self._socket is not None and bool(self._socket.consumers)
        if is_heard and not self._pressure_hooks:
            self._pressure_hooks = [self._hook_for(target.name, target.kind) for target in self._guards.targets]
            for hook in self._pressure_hooks:
                self._guards.join(hook)
        elif not is_heard:
            for hook in self._pressure_hooks:
                self._guards.part(hook)
            self._pressure_hooks = []

    def _hook_for(self, name: str, kind: str) -> PressureHook:
        def is_meant(peer: Peer, pids: tuple[int, ...]) -> bool:
            return kind == "system" or peer.pid in pids or peer.pid <= 0    # 0: of another pid namespace

        def is_heard() -> bool:
            guard = self._guards.by_name.get(name)
            if self._socket is None or guard is None:
                return False
            pids = guard.sensor.pids()
            return any(is_meant(consumer.peer, pids) for consumer in self._socket.consumers)

        def ask(request: Request) -> None:
            if self._socket is not None:
                self._socket.tell(max(request.level, 1), now_s(), lambda peer: is_meant(peer, request.pids))

        return PressureHook(name, ask, is_heard)

    # -- LowMemoryMonitor --------------------------------------------------------------------------------------

    def _follow_monitor(self) -> None:
        if self._monitor.is_on != self._is_monitor_joined:
            (self._guards.join if self._monitor.is_on else self._guards.part)(self._monitor_hook)
        self._is_monitor_joined = self._monitor.is_on

    def _warn(self, request: Request) -> None:
        self._monitor.tell(max(request.level, 1))
