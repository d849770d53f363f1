"""The daemon: one thread that waits for the next tick, a socket, a hook or the end of an app; nothing else.

Started by `oomguard run` and `oomguard exec`, which become it, with a briefing in a descriptor.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Mapping

from oomguard import notes
from oomguard._version import __version__
from oomguard.act.hooks import Hook
from oomguard.act.runner import Runner
from oomguard.briefing import Briefing, read_briefing
from oomguard.clock import now_s
from oomguard.errors import BusyError, ConfigError, OomguardError, TargetGoneError
from oomguard.guards import Guards
from oomguard.lean import signal
from oomguard.listeners import Listeners
from oomguard.process import catch_signals, lock_memory, open_log, write_own
from oomguard.record.journal import Journal
from oomguard.reload import Reloader, take_briefing
from oomguard.remotes import Remotes
from oomguard.scorer import scorer_in
from oomguard.sense.machine import open_machine
from oomguard.tell.consumer import PressureAlarm
from oomguard.tell.control import ControlServer
from oomguard.tell.door import NoRoomError
from oomguard.tell.history import history
from oomguard.tell.paths import lock_runtime_dir, make_runtime_dir
from oomguard.tell.service import ServiceManager
from oomguard.ticker import Ticker
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.guard import TargetGuard
    from oomguard.sidecar import Sidecar
    from oomguard.tell.connection import Client
    from oomguard.tell.metrics import Facts
    from oomguard.tell.scrape import Exporter

OOM_SCORE_ADJ = "-900"      # the kernel should find others first; kept only where it is allowed
DEAF = ("nobody listens and no hook is named: alarms will only be logged; name hooks in the rules, "
        "or start the app under `oomguard exec`")


class Daemon:
    """The loop and what it serves."""

    def __init__(self, briefing: Briefing) -> None:
        self._plan, self._model, self._options = briefing
        make_runtime_dir(self._options.runtime_dir)
        self._lock_fd = -1
        self._log = open_log(self._options.log_file, self._options.is_json_log)
        self._poller = select.epoll()
        self._exit_code: int | None = None
        self._sidecar: Sidecar | None = None
        self._control: ControlServer | None = None
        self._exporter: Exporter | None = None
        self._early_signals: list[int] = []
        self._signal_fd = catch_signals(self._on_signal)
        self._machine = open_machine(is_portable=self._options.is_portable or None)
        self._runner = Runner(dry_run=self._plan.is_dry_run, helper_address=self._options.helper_address)
        self._hooks = [Hook.from_plan(hook) for hook in self._plan.hooks]
        self._journal: Journal | None = None
        self._guards = Guards(briefing, self._machine, self._runner, self._hooks, self._tell)
        self._ticker = Ticker(self._plan.cadence_s)
        self._reloader = Reloader()
        self._service = ServiceManager()
        self._awaited: dict[int, TargetGuard] = {}
        self._guards_seen = 0                   # up to which change of the guards their ends are awaited
        self._alarm = PressureAlarm(self._poller, self._tell)
        self._listeners: Listeners | None = None
        if not self._options.argv:              # an app of `exec` has a FIFO of its own
            self._listeners = Listeners(self._guards, self._poller, self._service, self._tell)

    def run(self) -> int:
        """Guard until told to stop, or until the app ends; return the exit code."""
        try:
            self._start()
            self._loop()
        except OomguardError as error:
            self._exit_code = error.exit_code
            raise
        finally:
            self._stop()
        return self._exit_code or 0

    def _start(self) -> None:
        for fd in (*self._runner.fds(), self._signal_fd):
            self._poller.register(fd, select.EPOLLIN)
        if self._options.socket:
            self._open_socket(self._options.socket)
        self._lock_fd = lock_runtime_dir(self._options.runtime_dir)
        if self._options.metrics_file or self._options.metrics_http:
            self._start_exporter()
        if self._options.journal_dir:
            self._open_journal(self._options.journal_dir)
        if self._options.argv:                  # last of what can be refused: no app runs on without its guard
            self._start_app()
        write_own("comm", "oomguard")
        write_own("oom_score_adj", OOM_SCORE_ADJ)      # after the app was started: it keeps its own
        lock_memory()
        for hook in self._hooks:
            self._runner.register(hook)
        self._tell_settings()
        self._alarm.start()
        if self._listeners is not None:
            self._listeners.start(self._options.runtime_dir, self._plan.is_dry_run)
        self._guards.look_for_targets()
        if self._sidecar is None and self._guards.is_hopeless:      # an app that ended at once has its own exit code
            raise self._guards.problem
        for warning in self.warnings():
            self._log.event("warning", "warning", because=warning)
        self._service.ready(f"guarding {len(self._guards.by_name)} of {len(self._guards.targets)} targets")

    def _open_socket(self, path: str) -> None:
        remotes = Remotes(self._guards, self._runner, self._send, self._log.event)
        handlers = {"status": lambda _request, _client: self.status(), "reload": self._reload,
                    "history": lambda request, _client: history(self._guards.by_name, request),
                    **remotes.operations()}
        try:
            self._control = ControlServer(path, handlers, self._poller, self._log,
                                          group_gid=self._options.socket_gid, on_gone=remotes.gone)
        except NoRoomError as error:            # a disk that is full or read-only: guarding comes first
            self._tell("no-socket", "warning", because=str(error))

    def _start_exporter(self) -> None:
        from oomguard.tell.metrics import Metrics  # 0.1 MB of RSS, paid by those who asked for metrics
        from oomguard.tell.scrape import Exporter

        self._exporter = Exporter(Metrics(self._facts), self._poller, self._tell, file=self._options.metrics_file,
                                  address=self._options.metrics_http)

    def _open_journal(self, folder: str) -> None:
        try:
            self._guards.journal = self._journal = Journal.open(folder, tell=self._tell)
        except OomguardError as error:          # another records there: guarding comes first
            self._tell("not-recording", "warning", because=str(error))

    def _start_app(self) -> None:
        from oomguard.sidecar import Sidecar  # 0.1 MB of RSS, paid by `exec` alone

        self._sidecar = Sidecar(self._options, self._plan.targets[0].name, self._tell)
        self._hooks.append(self._sidecar.hook)
        self._guards.targets = (self._sidecar.target,)
        for number in self._early_signals:
            self._sidecar.forward(number)

    def _loop(self) -> None:
        ticks = 0
        while self._exit_code is None:
            for fd, events in self._poller.poll(min(self._ticker.timeout_s(), self._alarm.timeout_s())):
                self._serve(fd, events)
                if self._ticker.timeout_s() == 0:       # a tick waits for nobody; epoll reports the others again
                    break
            late_s = self._ticker.tick()
            if late_s is None and self._exit_code is None and self._alarm.is_due():
                self._guards.tick(0.0)
                self._watch()
            elif late_s is not None and self._exit_code is None:
                self._guards.tick(late_s)
                self._alarm.ticked()
                if self._listeners is not None:
                    self._listeners.tend()
                if self._exporter is not None:
                    self._exporter.tick(late_s)
                self._service.watchdog(now_s())
                self._watch()
                ticks += 1
                if ticks == self._options.ticks:
                    self._exit_code = 0

    def _serve(self, fd: int, events: int) -> None:
        if self._control is not None and self._control.handle(fd, events):
            return
        if self._exporter is not None and self._exporter.handle(fd, events):
            return
        if self._alarm.handle(fd, events) or (self._listeners is not None and self._listeners.handle(fd, events)):
            return
        if fd == self._signal_fd:
            os.read(fd, 512)            # the handlers have run; this only woke us
        elif fd in self._runner.fds():
            self._guards.collect()
        else:
            self._guards.lose(fd)
        self._watch()

    def _reload(self, _request: object, client: Client) -> dict[str, object]:
        """Take up the briefing that `oomguard reload` left, between two ticks; raises where it is not taken."""
        if self._guards.is_busy:
            raise BusyError("a hook is at work: try again when it is done")
        plan, model, options = briefing = take_briefing(self._options.runtime_dir, client.peer)
        if plan.is_dry_run != self._plan.is_dry_run:
            raise ConfigError("dry_run cannot change while guarding: restart the guard")
        self._service.reloading()
        targets = plan.targets if self._sidecar is None else self._guards.targets
        known = {hook.plan: hook for hook in self._hooks}
        remote = [hook for hook in self._hooks if hook.executor == "remote"]
        self._hooks = [known.get(each) or Hook.from_plan(each) for each in plan.hooks] + remote
        self._hooks += [] if self._sidecar is None else [self._sidecar.hook]
        for hook in self._hooks:
            self._runner.register(hook)
        if plan.cadence_s != self._plan.cadence_s:
            self._ticker = Ticker(plan.cadence_s)
        self._plan, self._model = plan, model
        self._options = self._options._replace(model_problem=options.model_problem)
        self._guards.reload(briefing._replace(options=self._options), self._hooks, targets)
        if self._listeners is not None:
            self._listeners.rejoin()
        self._tell_settings("reload")
        self._service.ready(f"guarding {len(self._guards.by_name)} of {len(targets)} targets")
        return {"rules": plan.source, "digest": plan.digest, "model": None if model is None else model.model_id}

    def _watch(self) -> None:
        """See whether the app, or the last target, has ended; wait for the ends of those that are there."""
        self._reloader.poll(self._tell)
        if self._sidecar is not None:
            self._exit_code = self._sidecar.poll()
        elif self._guards.is_hopeless:
            self._exit_code = TargetGoneError.exit_code
        if self._guards.changes == self._guards_seen:
            return
        self._guards_seen, awaited = self._guards.changes, self._guards.end_fds()
        for fd, guard in awaited.items():
            if self._awaited.get(fd) is not guard:      # not by number alone: the next pidfd may have the last one's
                self._poller.register(fd, select.EPOLLIN)
        self._awaited = awaited         # epoll forgets closed descriptors by itself

    def _stop(self) -> None:
        self._service.stopping()
        self._guards.ended("stopped" if self._sidecar is None else self._sidecar.ended or "stopped")
        self._guards.close()
        if self._journal is not None:
            self._journal.close()
        for outcome in self._runner.close():
            self._log.event("hook-ended", hook=outcome.hook, ok=outcome.ok, because=outcome.why)
        if self._exporter is not None:
            self._exporter.close()
        if self._control is not None:
            self._control.close()
        self._alarm.close()
        if self._listeners is not None:
            self._listeners.close()
        if self._sidecar is not None:
            self._sidecar.close()
        if self._options.argv:
            from oomguard.sidecar import remove_folder

            remove_folder(self._options.runtime_dir)        # it was made for this app alone
        self._log.event("stop", exit_code=self._exit_code)
        self._machine.close()
        self._log.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)

    def _on_signal(self, number: int) -> None:
        if self._sidecar is not None:
            self._sidecar.forward(number)
        elif self._options.argv:
            self._early_signals.append(number)
        elif number == signal.SIGHUP and self._options.socket:
            self._reloader.start(self._options.socket)
        elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._exit_code = 0

    def _send(self, client_id: int, message: Mapping[str, object]) -> bool:
        return self._control is not None and self._control.send(client_id, message)

    # -- telling ---------------------------------------------------------------------------------------------

    def _tell(self, event: str, severity: str = "info", /, **fields: object) -> None:
        """Write an event to the log and to whoever subscribed."""
        self._log.event(event, severity, **fields)
        if self._exporter is not None:
            self._exporter.metrics.count(event, severity)
        if self._control is not None:
            self._control.publish({"event": event, **fields})

    def _tell_settings(self, event: str = "start") -> None:
        plan, model = self._plan, self._model
        self._tell(event, version=__version__, pid=os.getpid(), rules=plan.source, rules_digest=plan.digest[:12],
                   model="none" if model is None else model.model_id, scorer=scorer_in(model),
                   cadence_s=plan.cadence_s, dry_run=plan.is_dry_run,
                   targets=[target.name for target in plan.targets], hooks=[hook.name for hook in self._hooks],
                   socket=self._options.socket or None, recording=self._options.journal_dir or None)

    def warnings(self) -> list[str]:
        """Return what an operator should mend."""
        found = [] if self._hooks else [DEAF]
        if self._options.model_problem:
            found.append(f"no model: {self._options.model_problem}; the plain levels hold")
        return found

    def _facts(self) -> Facts:
        """Return what the metrics show."""
        from oomguard.tell.metrics import Facts

        model, plan, control = self._model, self._plan, self._control
        return Facts(tuple(self._guards.by_name.values()), [target.name for target in self._guards.missing],
                     self._hooks, None if model is None else (model.model_id, model.digest), (plan.source, plan.digest),
                     plan.is_dry_run, self._ticker.skipped, 0 if control is None else control.clients,
                     0 if control is None else control.subscribers, len(self.warnings()))

    def status(self) -> dict[str, object]:
        """Return what `oomguard status` shows."""
        model, plan = self._model, self._plan
        return {
            "targets": [notes.status(guard) for guard in self._guards.by_name.values()],
            "waiting_for": [target.name for target in self._guards.missing],
            "model": None if model is None else {"id": model.model_id, "digest": model.digest},
            "rules": {"source": plan.source, "digest": plan.digest, "names": [rule.name for rule in plan.rules]},
            "listeners": {"subscribers": 0 if self._control is None else self._control.subscribers,
                          "pressure": int(self._sidecar is not None),
                          **({} if self._listeners is None else self._listeners.counts())},
            "pressure": {**self._alarm.status(), **({} if self._listeners is None else self._listeners.status())},
            "started": {"as": list(self._options.started_as), "in": self._options.started_in,
                        "runtime_dir": self._options.runtime_dir},
            "dry_run": plan.is_dry_run, "warnings": self.warnings(), "agent_version": __version__, "pid": os.getpid()}


def main(argv: list[str]) -> int:
    """Run the daemon; what goes wrong at the start is one line on standard error and an exit code."""
    try:
        return Daemon(read_briefing(int(argv[1]))).run()
    except OomguardError as error:
        sys.stderr.write(f"oomguard: {error}\n")
        return error.exit_code
    except Exception:  # noqa: BLE001  our own mistake: the traceback is shown, and the code says whose it is
        sys.excepthook(*sys.exc_info())
        return OomguardError.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
