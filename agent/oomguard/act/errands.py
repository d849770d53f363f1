"""What the helper has under way: commands, signals, reclaims and servers, each answered once under its ticket."""

from __future__ import annotations

import os
import select

from oomguard.act import channel
from oomguard.act.commands import Command, as_user, environment_of
from oomguard.act.processes import deliver, signal_number, start_ticks
from oomguard.act.reclaim import Reclaim, why_not
from oomguard.clock import now_s
from oomguard.decide.plan import SERVER_KINDS
from oomguard.errors import HelperError
from oomguard.tell.paths import runtime_dir
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.act.onnx_scorer import OnnxScorer
    from oomguard.act.servers.jobs import Jobs

OWED = "owed"           # servers/debts.py: notes of what an earlier helper left lowered
COMMANDS_MAX = 8        # at once; more of them under pressure would add to it


class Errands:
    """Everything under way, by ticket."""

    __slots__ = ("_commands", "_dying", "_fd", "_jobs", "_poller", "_reclaims", "_scorer", "_wake_fd",
                 "is_stopping")

    def __init__(self, fd: int, wake_fd: int) -> None:
        """Take the channel, and a descriptor that becomes readable when a child ends."""
        self._fd, self._wake_fd = fd, wake_fd
        self._commands: dict[int, Command] = {}
        self._reclaims: dict[int, tuple[str, Reclaim, float, float]] = {}   # folder, reclaim, start, deadline
        self._jobs: Jobs | None = None          # from the first server hook on
        self._scorer: OnnxScorer | None = None  # from the first net on
        self._dying: list[Command] = []         # killed, not reaped yet
        self._poller = select.poll()
        for descriptor in (fd, wake_fd):
            self._poller.register(descriptor, select.POLLIN)
        self.is_stopping = False
        if os.path.isdir(os.path.join(runtime_dir(), OWED)):
            self._servers().settle_debts()

    def turn(self) -> None:
        """Wait for something to happen, and deal with it."""
        for fd, _events in self._poller.poll(self._timeout_ms()):
            if fd == self._fd:
                self._listen()
            elif fd == self._wake_fd:
                os.read(fd, 512)
            elif self._jobs is not None and fd == self._jobs.fd:
                continue                        # collected below
            else:
                self._read_output(fd)
        self._look_after_commands(now_s())
        self._reclaim_some()
        self._collect_jobs(now_s())

    def close(self) -> None:
        """Kill what runs, and let it go."""
        for command in self._commands.values():
            command.kill()
            command.close()
        for _folder, reclaim, _started, _deadline in self._reclaims.values():
            reclaim.close()
        if self._jobs is not None:
            self._jobs.close()

    def _timeout_ms(self) -> float | None:
        if self._reclaims:
            return 0
        deadlines = [command.deadline_s for command in self._commands.values()]
        if self._jobs is not None and (expires_s := self._jobs.expires_s()) < float("inf"):
            deadlines.append(expires_s)
        return max(0.0, min(deadlines) - now_s()) * 1000 + 1 if deadlines else None

    def _listen(self) -> None:
        message = channel.receive(self._fd)
        if message is None:
            self.is_stopping = True
            return
        ticket = channel.whole(message, "ticket")       # without one there is nobody to answer: HelperError
        started_s = now_s()
        does = {"command": self._command, "signal": self._signal, "reclaim": self._reclaim,
                "net": self._take_net, "score": self._score}
        try:
            do = channel.text(message, "do")
            if do in SERVER_KINDS:
                self._serve(ticket, do, message)
            elif do in does:
                does[do](ticket, message)
            else:
                raise HelperError(f"the helper cannot do {do[:60]!r}")
        except (HelperError, ValueError) as error:
            self._answer(ticket, started_s, str(error))

    def _answer(
        self, ticket: int, started_s: float, why: str, ok: bool = False, freed: int | None = None,
    ) -> None:
        try:
            channel.send(self._fd, {"ticket": ticket, "ok": ok, "freed_bytes": freed,
                                    "duration_s": max(0.0, now_s() - started_s), "why": why[:1000]})
        except HelperError:
            self.is_stopping = True

    # Commands

    def _command(self, ticket: int, message: channel.Message) -> None:
        argv = channel.texts(message, "argv")
        extra = {key: str(value) for key, value in _object(message, "environment").items()}
        deadline_s = channel.number(message, "deadline_s")
        if len(self._commands) >= COMMANDS_MAX:
            raise HelperError(f"{COMMANDS_MAX} commands are running already")
        if channel.flag(message, "is_dry_run"):
            self._answer(ticket, now_s(), "dry run", ok=True)
            return
        try:
            argv, extra = as_user(channel.text(message, "user"), argv, extra)
            command = Command(argv, environment_of(extra), deadline_s)
        except OSError as error:
            raise HelperError(f"{argv[0]} cannot be started: {error.strerror}") from error
        self._commands[ticket] = command
        self._poller.register(command.out_fd, select.POLLIN)
        channel.send(self._fd, {"ticket": ticket, "pid": command.pid,
                                "started_ticks": start_ticks(command.pid)})

    def _read_output(self, fd: int) -> None:
        for command in self._commands.values():
            if command.out_fd == fd:
                command.read()
                if command.out_fd < 0:
                    self._poller.unregister(fd)
                return

    def _look_after_commands(self, now: float) -> None:
        self._dying = [command for command in self._dying if command.reap() is None]
        for ticket, command in list(self._commands.items()):
            if command.has_ended():
                self._end(ticket, command)
            elif now >= command.deadline_s:
                took_s = command.deadline_s - command.started_s
                self._end(ticket, command, f"deadline of {took_s:g} s passed; its processes were killed")

    def _end(self, ticket: int, command: Command, why: str = "") -> None:
        del self._commands[ticket]
        if command.out_fd >= 0:
            self._poller.unregister(command.out_fd)
        command.kill()
        command.close()
        status = command.reap()
        if status is None:
            self._dying.append(command)
        if not why and status:
            said = f": {command.last_line()}" if command.last_line() else ""
            why = (f"ended by signal {-status}" if status < 0 else f"exit status {status}") + said
        self._answer(ticket, command.started_s, why, ok=not why, freed=None if why else command.freed_bytes())

    # Signals

    def _signal(self, ticket: int, message: channel.Message) -> None:
        number = signal_number(channel.text(message, "signal"))
        is_dry_run = channel.flag(message, "is_dry_run")
        started_s = now_s()
        processes = _pairs(message, "processes")
        refused = [why for pid, ticks in processes if (why := deliver(pid, ticks, number, is_dry_run))]
        signalled = len(processes) - len(refused)
        why = "dry run" if is_dry_run else f"signalled {signalled} of {len(processes)}" if refused else ""
        if not signalled:
            why = "no process to signal"
        self._answer(ticket, started_s, "; ".join([why, *refused[:3]]), ok=signalled > 0)

    # Reclaim

    def _reclaim(self, ticket: int, message: channel.Message) -> None:
        folder = channel.text(message, "folder")
        wanted = None if message.get("wanted_bytes") is None else channel.whole(message, "wanted_bytes")
        deadline_s = channel.number(message, "deadline_s")
        is_dry_run = channel.flag(message, "is_dry_run")
        started_s = now_s()
        try:
            reclaim = Reclaim(folder, wanted, is_dry_run)
        except OSError as error:
            raise HelperError(why_not(folder, error)) from error
        if is_dry_run:
            reclaim.close()
            self._answer(ticket, started_s, "dry run", ok=True)
        else:
            self._reclaims[ticket] = (folder, reclaim, started_s, started_s + deadline_s)

    def _reclaim_some(self) -> None:
        for ticket, (folder, reclaim, started_s, deadline_s) in list(self._reclaims.items()):
            why = ""
            try:
                reclaim.step()
            except OSError as error:
                why = why_not(folder, error)
            if not why and not reclaim.is_over and now_s() < deadline_s:
                continue
            del self._reclaims[ticket]
            reclaim.close()
            remark = "partial: the kernel found no more" if reclaim.is_partial else ""
            remark = remark or ("" if reclaim.is_over else "partial: out of time")
            freed = None if why else reclaim.freed_bytes()
            self._answer(ticket, started_s, why or remark, ok=not why, freed=freed)

    # Nets

    def _net(self) -> OnnxScorer:
        if self._scorer is None:
            from oomguard.act.onnx_scorer import OnnxScorer  # brings the feature table, and later numpy

            self._scorer = OnnxScorer()
        return self._scorer

    def _take_net(self, ticket: int, message: channel.Message) -> None:
        started_s = now_s()
        self._net().take(message)
        self._answer(ticket, started_s, "", ok=True)

    def _score(self, ticket: int, message: channel.Message) -> None:
        channel.send(self._fd, {"ticket": ticket, "classes": self._net().score(message)})

    # Servers

    def _servers(self) -> Jobs:
        if self._jobs is None:
            from oomguard.act.servers.jobs import Jobs  # brings sockets and threads

            self._jobs = Jobs()
            self._poller.register(self._jobs.fd, select.POLLIN)
        return self._jobs

    def _serve(self, ticket: int, kind: str, message: channel.Message) -> None:
        from oomguard.act.servers.ask import read_ask

        self._servers().start(ticket, kind, read_ask(message, _pairs(message, "processes")))

    def _collect_jobs(self, now: float) -> None:
        for job in self._jobs.collect(now) if self._jobs is not None else ():
            if job.result is None:
                self._answer(job.ticket, job.started_s, job.why)
            else:
                self._answer(job.ticket, job.started_s, job.result.remark, ok=True, freed=job.result.bytes)


def _object(message: channel.Message, key: str) -> dict[str, object]:
    value = message.get(key)
    if type(value) is not dict:
        raise HelperError(f"{key} is not an object")
    return value


def _pairs(message: channel.Message, key: str) -> list[tuple[int, int]]:
    value = message.get(key)
    if type(value) is not list:
        raise HelperError(f"{key} is not a list")
    pairs = []
    for item in value:
        if type(item) is not list or [type(one) for one in item] != [int, int] or item[0] < 2:
            raise HelperError(f"{key} holds what is not a pid (from 2) and its start time")
        pairs.append((item[0], item[1]))
    return pairs
