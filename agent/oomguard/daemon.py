"""The daemon: one thread that waits for the next tick, a socket, a hook or the end of an app; nothing else.

Started as `python -I -m oomguard.daemon FD` by `oomguard run` and `oomguard exec`, with a briefing in FD.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from oomguard._version import __version__
from oomguard.act.hooks import Hook
from oomguard.act.runner import Runner
from oomguard.app import FORWARDED, App
from oomguard.briefing import Briefing, read_briefing
from oomguard.clock import now_s
from oomguard.decide.plan import TargetPlan
from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError, OomguardError, TargetGoneError, WindowError
from oomguard.guard import TargetGuard
from oomguard.guards import Guards
from oomguard.sense.machine import open_machine
from oomguard.tell.control import ControlServer
from oomguard.tell.log import Log, is_journal
from oomguard.tell.paths import make_runtime_dir
from oomguard.tell.pressure import PressureFifo
from oomguard.tell.service import ServiceManager
from oomguard.ticker import Ticker

OOM_SCORE_ADJ = -900        # the kernel should find others first; kept only where it is allowed
LOOK_FOR_TARGETS_S = 5.0


class Daemon:
    """The loop and what it serves."""

    def __init__(self, briefing: Briefing) -> None:
        self.plan, self.model, self.options = briefing
        self.log = _open_log(self.options.log_file, self.options.is_json_log)
        self.poller = select.epoll()
        self.machine = open_machine(is_portable=self.options.is_portable or None)
        self.runner = Runner(dry_run=self.plan.is_dry_run)
        self.service = ServiceManager()
        self.control: ControlServer | None = None
        self.app: App | None = None
        self.enclosure: Enclosure | None = None
        self.fifo: PressureFifo | None = None
        self.exit_code: int | None = None
        self._signals = _catch_signals(self._on_signal)
        self.guards = Guards(self)

    # -- life ------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Guard until told to stop, or until the app ends; return the exit code."""
        try:
            self._start()
            self._loop()
        finally:
            self._stop()
        return self.exit_code or 0

    def _start(self) -> None:
        plan, options = self.plan, self.options
        make_runtime_dir(options.runtime_dir)
        if options.argv:
            self._start_app()
        _set_oom_score_adj(OOM_SCORE_ADJ)
        for fd in (*self.runner.fds(), self._signals):
            self.poller.register(fd, select.EPOLLIN)
        for hook_plan in plan.hooks:
            self.guards.hooks.append(hook := Hook.from_plan(hook_plan))
            self.runner.register(hook)
        if options.socket:
            self.control = ControlServer(options.socket, {"status": lambda _request, _client: self.status()}, self.poller, self.log)
        self.log.event("start", version=__version__, rules=plan.source, rules_digest=plan.digest[:12],
                       model=self.model.model_id if self.model else "none", scorer="forest" if self.model else "plain",
                       cadence_s=plan.cadence_s, dry_run=plan.is_dry_run, targets=[target.name for target in plan.targets],
                       hooks=[hook.name for hook in self.guards.hooks], socket=options.socket or None, pid=os.getpid())
        if options.model_problem:
            self.log.event("no-model", "error", because=options.model_problem, scorer="plain")
        self.guards.look_for_targets()
        if not self.guards.by_name and not self.guards.may_come:
            raise TargetGoneError(self.guards.last_problem or "no target is named")
        for warning in self.warnings():
            self.log.event("warning", "warning", because=warning)
        self.service.ready(f"guarding {len(self.guards.by_name)} of {len(plan.targets)} targets")

    def _loop(self) -> None:
        ticker = Ticker(self.plan.cadence_s)
        ticks = 0
        while self.exit_code is None:
            for fd, events in self.poller.poll(ticker.timeout_s()):
                self._serve(fd, events)
            late_s = ticker.tick()
            if late_s is not None:
                self.guards.tick(late_s)
                self.service.watchdog(now_s())
                ticks += 1
                if ticks == self.options.ticks:
                    self.exit_code = 0

    def _serve(self, fd: int, events: int) -> None:
        if self.control is not None and self.control.handle(fd, events):
            return
        if fd == self._signals:
            os.read(fd, 512)            # the handlers have run; this only woke us
        elif fd in self.runner.fds():
            self.guards.collect()
        else:
            self.guards.target_ended(fd)
        self._watch_app()

    def _stop(self) -> None:
        self.service.stopping()
        self.guards.close()
        for outcome in self.runner.close():
            self.log.event("hook-ended", hook=outcome.hook, ok=outcome.ok, because=outcome.why)
        if self.control is not None:
            self.control.close()
        if self.fifo is not None:
            self.fifo.close(is_app_gone=True)
        if self.enclosure is not None:
            if not self.enclosure.remove():
                self.log.event("cgroup-left", because="somebody is still in it", cgroup=self.enclosure.path)
        if self.app is not None:
            _remove_folder(self.options.runtime_dir)
        self.log.event("stop", exit_code=self.exit_code)
        self.machine.close()
        self.log.close()

    # -- the app of `exec` -----------------------------------------------------------------------------------

    def _start_app(self) -> None:
        options = self.options
        target = self.plan.targets[0].name
        try:
            self.enclosure = Enclosure.make(target, options.limit_bytes or None)
        except NotPermittedError as error:
            if options.limit_bytes:
                raise
            self.log.event("no-cgroup", because=str(error))
        self.fifo = PressureFifo(os.path.join(options.runtime_dir, "pressure"))
        environ = self.fifo.applied_to(os.environ) | {"OOMGUARD_SOCKET": options.socket}
        for variable in ServiceManager.VARIABLES:
            environ.pop(variable, None)
        enclosure = self.enclosure
        self.app = App(options.argv, environ, enclosure.join if enclosure else _nothing)
        where = TargetPlan(target, "cgroup", enclosure.path) if enclosure else TargetPlan(target, "pid", str(self.app.pid))
        self.plan = self.plan._replace(targets=(where,))
        fifo = self.fifo
        self.guards.hooks.append(Hook.from_call("pressure", lambda request: _tell(fifo, request.level), cost=0.5, is_inline=True))

    def _watch_app(self) -> None:
        if self.app is None or (code := self.app.poll()) is None or self.exit_code is not None:
            return
        kills = self.enclosure.kills() if self.enclosure else -1
        ended = "oom" if code == 128 + signal.SIGKILL and kills != 0 else "exit" if code < 128 else "signal"
        self.log.event("end", "error" if ended == "oom" else "info", target=self.plan.targets[0].name, ended=ended,
                       app_exit_code=code, oom_kills=kills)
        self.exit_code = code

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._watch_app()
        elif self.app is not None:
            self.app.forward(number)
        elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.exit_code = 0

    # -- telling ---------------------------------------------------------------------------------------------

    def tell(self, event: str, severity: str = "info", /, **fields: object) -> None:
        """Write an event to the log and to whoever subscribed."""
        self.log.event(event, severity, **fields)
        if self.control is not None:
            self.control.publish({"event": event, **fields})

    def warnings(self) -> list[str]:
        """Return what an operator should mend."""
        found = []
        if not self.guards.hooks:
            found.append("nobody listens and no hook is named: alarms will only be logged; name hooks in the rules, or start the app "
                         "under `oomguard exec`")
        if self.options.model_problem:
            found.append(f"no model: {self.options.model_problem}; the plain levels hold")
        return found

    def status(self) -> dict[str, object]:
        """Return what `oomguard status` shows."""
        return {"targets": [guard.status() for guard in self.guards.by_name.values()], "waiting_for": self.guards.missing,
                "model": None if self.model is None else {"id": self.model.model_id, "digest": self.model.digest},
                "rules": {"source": self.plan.source, "digest": self.plan.digest, "names": [rule.name for rule in self.plan.rules]},
                "dry_run": self.plan.is_dry_run, "warnings": self.warnings(), "agent_version": __version__, "pid": os.getpid()}


def _nothing() -> None:
    """Do nothing before exec."""


def _tell(fifo: PressureFifo, level: int) -> None:
    fifo.tell(level, now_s())


def _open_log(path: str, is_json: bool) -> Log:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640) if path else 2
    log = Log(fd, is_json, is_journal(fd, os.environ))
    if path:
        os.close(fd)
    return log


def _catch_signals(handle: object) -> int:
    """Let signals wake the loop; return the descriptor to wait on."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda signum, _frame: handle(signum))  # type: ignore[operator]
    return read_fd


def _set_oom_score_adj(value: int) -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(value))
    except OSError:
        pass                    # an ordinary user may not; `doctor` says so


def _remove_folder(path: str) -> None:
    """Remove the runtime folder of an `exec`, which is ours alone."""
    try:
        for folder, _folders, files in os.walk(path, topdown=False):
            for name in files:
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
    except OSError:
        pass                    # somebody put something in: it stays


def main(argv: list[str]) -> int:
    """Run the daemon; what goes wrong at the start is one line on standard error and an exit code."""
    try:
        return Daemon(read_briefing(int(argv[1]))).run()
    except OomguardError as error:
        sys.stderr.write(f"oomguard: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
