"""Remote hooks: registered by clients of the control socket, asked like any other hook, gone with their client."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from oomguard.act.hooks import ANY, Hook, Request
from oomguard.decide.plan import Action, Release
from oomguard.errors import BusyError, NotPermittedError, UsageError
from oomguard.tell import remote
from oomguard.tell.remote import HOOKS_MAX, HOOKS_PER_CLIENT, NAME_MAX, Registration
from oomguard.tell.wire import Message, WireError
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.act.runner import Runner
    from oomguard.guards import Guards
    from oomguard.tell.connection import Client

Send = Callable[[int, Mapping[str, object]], bool]      # client id, message → whether it is there
Log = Callable[..., None]
Operation = Callable[[Message, "Client"], Message]


class _Owner:
    """What one client has registered."""

    __slots__ = ("hooks", "phases", "tickets")

    def __init__(self) -> None:
        self.hooks: dict[str, Hook] = {}            # by the name the client gave
        self.tickets: dict[str, int] = {}           # by that name: the last request that it was sent
        self.phases: set[str] = set()               # targets whose phase it told


class Remotes:
    """The operations of the control socket that let apps join in."""

    __slots__ = ("_guards", "_log", "_owners", "_phase_of", "_runner", "_send")

    def __init__(self, guards: Guards, runner: Runner, send: Send, log: Log) -> None:
        """Args: send: to one client, by its id. log: told who registers and who is gone."""
        self._guards, self._runner, self._send, self._log = guards, runner, send, log
        self._owners: dict[int, _Owner] = {}
        self._phase_of: dict[str, int] = {}         # target → the client that told its phase last

    def operations(self) -> dict[str, Operation]:
        """Return the handlers, by operation."""
        return {"register": self._register, "unregister": self._unregister, "released": self._released,
                "gauge": self._gauge, "state": self._state, "release": self._release}

    def gone(self, client_id: int) -> None:
        """Forget a client: its hooks go, what they were asked fails, its phase is no more."""
        owner = self._owners.pop(client_id, None)
        if owner is None:
            return
        for hook in owner.hooks.values():
            self._take_back(hook, "its client is gone")
        for target in owner.phases:
            if self._phase_of.get(target) == client_id:
                self._set_phase(target, None, client_id)
        if owner.hooks:
            self._log("hooks-gone", because="their client is gone", hooks=[hook.name for hook in owner.hooks.values()])

    def _register(self, message: Message, client: Client) -> Message:
        asked = remote.registration(message)
        owner = self._owners.setdefault(client.id, _Owner())
        target = self._target(asked.target, client)
        hook = owner.hooks.get(asked.name)
        if hook is None:
            self._refuse_unless_room(owner)
            hook = owner.hooks[asked.name] = self._join(asked, target, client.id)
            self._log("hook-registered", hook=hook.name, target=target, cost=hook.cost, pid=client.peer.pid,
                      uid=client.peer.uid)
        elif target not in hook.targets:
            raise UsageError(f"hook {asked.name} is of target {hook.targets[0]}: unregister it first")
        hook.cost, hook.deadline_s, hook.minimum_bytes = asked.cost, asked.deadline_s, asked.minimum_bytes
        hook.evictable_bytes = asked.evictable_bytes
        return {"hook": hook.name, "target": target}

    def _join(self, asked: Registration, target: str, client_id: int) -> Hook:
        def send(ticket: int, request: Request) -> bool:
            return self._ask(client_id, asked.name, ticket, request)

        name = self._free_name(asked.name, target)
        hook = Hook.from_remote(name, send, word=asked.name, cost=asked.cost, deadline_s=asked.deadline_s,
                                minimum_bytes=asked.minimum_bytes, target=target)
        self._guards.join(hook)
        return hook

    def _unregister(self, message: Message, client: Client) -> Message:
        name, hook = self._own(message, client)
        owner = self._owners[client.id]
        del owner.hooks[name]
        owner.tickets.pop(name, None)
        self._take_back(hook, "it was taken back")
        self._log("hooks-gone", because="their client took them back", hooks=[hook.name])
        return {"hook": hook.name}

    def _released(self, message: Message, client: Client) -> Message:
        answer, owner = remote.released(message), self._owners.get(client.id)
        name = next((name for name, ticket in owner.tickets.items() if ticket == answer.ticket), "") if owner else ""
        if owner is None or not name:
            raise UsageError(f"ticket {answer.ticket} is none of yours")
        del owner.tickets[name]
        if not self._runner.answer(answer.ticket, answer.freed_bytes, answer.why):
            raise UsageError(f"ticket {answer.ticket} is over: its deadline has passed")
        return {"ticket": answer.ticket}

    def _gauge(self, message: Message, client: Client) -> Message:
        _name, evictable_bytes = remote.gauge(message)
        name, hook = self._own(message, client)
        hook.evictable_bytes = evictable_bytes
        return {"hook": name}

    def _state(self, message: Message, client: Client) -> Message:
        phase, target = remote.phase(message), self._target(remote.target_in(message), client)
        self._owners.setdefault(client.id, _Owner()).phases.add(target)
        self._set_phase(target, phase, client.id)
        return {"target": target, "phase": phase}

    def _release(self, message: Message, client: Client) -> Message:
        if client.peer.uid not in (0, os.geteuid()):
            raise NotPermittedError("release is for root and for the guard's own user")
        asked = remote.wanted(message)
        target = self._target(asked.target, client)
        guard = self._guards.by_name.get(target)
        if guard is None:
            raise UsageError(f"target {target} is not there now")
        action = Action(asked.hook, Release(asked.kind, asked.amount_bytes))
        problem = guard.release(action, f"asked for by pid {client.peer.pid}, uid {client.peer.uid}")
        if problem:
            raise BusyError(f"nothing was asked for: {problem}")
        return {"target": target, "hook": asked.hook}

    def _ask(self, client_id: int, name: str, ticket: int, request: Request) -> bool:
        owner = self._owners.get(client_id)
        if owner is None or name not in owner.hooks:
            return False
        owner.tickets[name] = ticket
        return self._send(client_id, {
            "event": "release", "hook": name, "ticket": ticket, "level": request.level,
            "needed_bytes": request.needed_bytes, "all": request.release_all, "deadline_s": request.deadline_s,
            "reason": request.reason})

    def _own(self, message: Message, client: Client) -> tuple[str, Hook]:
        name, owner = remote.name_in(message, "hook"), self._owners.get(client.id)
        hook = None if owner is None else owner.hooks.get(name)
        if hook is None:
            raise UsageError(f"hook {name} is not registered on this connection")
        return name, hook

    def _take_back(self, hook: Hook, why: str) -> None:
        self._guards.part(hook)
        self._runner.abandon(hook, why)

    def _set_phase(self, target: str, phase: str | None, client_id: int) -> None:
        self._phase_of[target] = client_id
        self._guards.set_phase(target, phase)

    def _refuse_unless_room(self, owner: _Owner) -> None:
        if len(owner.hooks) >= HOOKS_PER_CLIENT:
            raise WireError(f"a client has at most {HOOKS_PER_CLIENT} hooks")
        if sum(len(each.hooks) for each in self._owners.values()) >= HOOKS_MAX:
            raise WireError(f"there are {HOOKS_MAX} remote hooks already")

    def _free_name(self, name: str, target: str) -> str:
        """Return the name, or name:2, name:3 … where other clients of the target, such as its workers, have it too."""
        hooks = [hook for hook in self._guards.hooks if hook.serves(target)]
        if name == ANY or any(hook.word == name and hook.executor != "remote" for hook in hooks):
            raise UsageError(f"{name} is a hook of the guard's own: take another name")
        taken, number, free = {hook.name for hook in hooks}, 1, name
        while free in taken:
            number += 1
            free = f"{name[:NAME_MAX - 5]}:{number}"
        return free

    def _target(self, name: str, client: Client) -> str:
        """Return the target that is meant: the one named, the one the client's process is part of, or the only one."""
        names = [target.name for target in self._guards.targets]
        if name:
            if name not in names:
                raise UsageError(f"there is no target {name[:NAME_MAX]!r}; there are {', '.join(names[:16])}")
            return name
        if len(names) == 1:
            return names[0]
        pids = {guard.name: guard.sensor.pids() for guard in self._guards.by_name.values()}
        around = [each for each in pids if client.peer.pid in pids[each]]
        if around:
            return min(around, key=lambda each: len(pids[each]))        # the innermost of nested groups
        whole = [target.name for target in self._guards.targets if target.kind == "system"]
        if len(whole) == 1:
            return whole[0]
        raise UsageError(f"pid {client.peer.pid} is in no target: name one of {', '.join(names[:16])}")
