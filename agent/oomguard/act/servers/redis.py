"""Redis gives memory back: maxmemory lowered for the moment, so that it evicts by its own policy, MEMORY PURGE, and
the operator's settings put back.

What is freed is what `used_memory_rss` fell by: evicted bytes that the allocator keeps are no memory given back.
"""

from __future__ import annotations

from oomguard.act.servers import debts
from oomguard.act.servers.ask import Ask, Freed, ServerError, Task
from oomguard.act.servers.redis_client import (
    Info,
    Redis,
    connected,
    counted,
    identity,
    number,
    resident,
    resident_at_once,
)

CAREFUL_POLICY = "volatile-lru"     # where the operator's is noeviction: only keys that were to go anyway
STEP_BYTES = 64 << 20               # before 6.2 a server stands still while it evicts: a step at a time
LOOK_AGAIN_S = 0.01
STALLED_LOOKS = 5                   # so often without any eviction: there is nothing more, and writes are refused
RESIDENT_AGE_S = 0.1                # it looks at its own resident size so often, or hz times a second if that is less
LOOKS_AFTER_RATIO = 1.25
SLACK_BYTES = 256 << 10             # of clients' buffers, ours too
SPARE_BYTES = 4 << 20
ROUNDS_MAX = 8
EVICTED_MAX_RATIO = 4               # times what is needed; a share of the data is never more than that share
NEAR_RATIO = 0.1                    # what may be missing of what is wanted
LAST_LOOK_S = 0.7                   # after the deadline, at what it came to


def release(ask: Ask, task: Task) -> Freed:
    """Have a Redis evict about what is wanted, and give it back to the kernel.

    Raises:
        ServerError: it cannot be asked, or nothing may be evicted.
    """
    with connected(ask, task) as server, debts.alone_with(identity(server, ask.address)):
        debt = debts.Note("redis", ask.address, ask.user, ask.password_file, ())
        _settle_alone(debt, server)
        before = server.info()
        wanted_bytes = _wanted(ask, before)
        policy = _policy(ask, before, server.setting("maxmemory-policy"))
        if ask.is_dry_run:
            return Freed(None, f"dry run: would evict {wanted_bytes} bytes by {policy}")
        try:
            at_most = 1 if ask.is_share() else EVICTED_MAX_RATIO
            remark = _evict_in_rounds(server, debt, policy, before, wanted_bytes, at_most, task)
        finally:
            _put_back(debt)
    with connected(ask, Task(LAST_LOOK_S) if task.is_over() else task) as server:
        after = server.info()
    evicted = f"evicted {counted(before) - counted(after)} bytes of data"
    return Freed(max(0, resident_at_once(before) - resident(after)), f"{remark}; {evicted}" if remark else evicted)


def _wanted(ask: Ask, info: Info) -> int:
    if info.get("role") == "slave":
        raise ServerError("it is a replica, which evicts nothing itself: name its master")
    return ask.wanted_bytes(max(0, number(info, "used_memory") - number(info, "used_memory_startup", 0)))


def _floor(info: Info) -> int:
    """Return how low maxmemory may go: below what is no data, with some room, every write would be refused."""
    return number(info, "used_memory_overhead", 0) + SPARE_BYTES


def _policy(ask: Ask, info: Info, operators: str) -> str:
    policy = ask.policy or (CAREFUL_POLICY if operators == "noeviction" else operators)
    may_expire = any(name.startswith("db") and ",expires=0" not in value for name, value in info.items()
                     if "expires=" in value)
    if policy.startswith("volatile-") and not may_expire:
        raise ServerError(f"no key has a time to live, and {policy} evicts no other; "
                          "where all may go, write policy: allkeys-lru")
    return policy


def _evict_in_rounds(
    server: Redis, debt: debts.Note, policy: str, first: Info, wanted_bytes: int, at_most: int, task: Task,
) -> str:
    """Evict until so much has left the process, and never more than `at_most` times that; return a remark where it
    did not.

    Small values leave pages that are half empty: of 50 MB of values of 1 kB the kernel got 19 (measured). So what is
    still missing is evicted in a next round, whose yield is better, since those pages get emptier.
    """
    info = first
    least_bytes = max(_floor(first), counted(first) - at_most * wanted_bytes)
    operators = debts.Setting("maxmemory-policy", server.setting("maxmemory-policy"), (policy,))
    lowered = _Lowered(server, debt, server.setting("maxmemory"), operators)
    for _ in range(ROUNDS_MAX):
        missing_bytes = wanted_bytes if info is first else \
            wanted_bytes - (resident_at_once(first) - resident(info))
        if missing_bytes <= NEAR_RATIO * wanted_bytes:
            return ""
        if counted(info) <= least_bytes + SLACK_BYTES:
            break
        remark = lowered.to(max(least_bytes, counted(info) - missing_bytes), policy, task)
        if task.is_over():
            return "partial: out of time"
        server.call("MEMORY", "PURGE")
        info = _fresh(server, task)
        if remark:
            return remark
    return "" if at_most == 1 else "partial: the allocator keeps pages that are half empty, or it grows meanwhile"


class _Lowered:
    """Its settings while they are ours."""

    __slots__ = ("_debt", "_last", "_operators", "_original", "_server")

    def __init__(self, server: Redis, debt: debts.Note, original: str, operators: debts.Setting) -> None:
        self._server, self._debt, self._original, self._operators = server, debt, original, operators
        self._last = original

    def to(self, goal_bytes: int, policy: str, task: Task) -> str:
        """Lower maxmemory step by step, each when the one before is reached; return a remark where one is not."""
        info = self._server.info()
        while not task.is_over():
            if self._server.setting("maxmemory") != self._last:
                return "partial: somebody else changed maxmemory meanwhile"
            step_bytes = max(goal_bytes, counted(info) - STEP_BYTES)
            bound = debts.Setting("maxmemory", self._original, (self._last, str(step_bytes)))
            debts.write(self._debt._replace(settings=(bound, self._operators)))
            if self._last == self._original:
                self._server.set("maxmemory-policy", policy)
            self._server.set("maxmemory", str(step_bytes))
            self._last = str(step_bytes)
            info = _wait(self._server, step_bytes + SLACK_BYTES, task)
            if counted(info) > step_bytes + SLACK_BYTES:
                return "partial: out of time" if task.is_over() else f"partial: {policy} finds no more to evict"
            if step_bytes == goal_bytes:
                return ""
        return "partial: out of time"


def _wait(server: Redis, step_bytes: int, task: Task) -> Info:
    """Wait until it has come down to a step, evicts no more, or time is up."""
    info = server.info()
    seen, still = info.get("evicted_keys"), 0
    while counted(info) > step_bytes and still < STALLED_LOOKS:
        task.rest(LOOK_AGAIN_S)
        if task.is_over():
            break
        info = server.info()
        still = still + 1 if info.get("evicted_keys") == seen else 0
        seen = info.get("evicted_keys")
    return info


def _put_back(debt: debts.Note) -> None:
    """Put the operator's settings back, over a connection and in a time of its own."""
    if not debts.is_noted(debt):
        return
    try:
        with connected(debt, Task(debts.SETTLE_S)) as server:
            _settle_alone(debt, server)
    except (ServerError, OSError) as error:
        raise ServerError(f"maxmemory is still lowered, and put back as soon as the server lets us: {error}") from error


def _settle_alone(debt: debts.Note, server: Redis) -> None:
    for note in debts.read_all():
        if note[:3] == debt[:3]:
            restore_alone(note, server)
    debts.drop(debt)


def restore(note: debts.Note, task: Task) -> str:
    """Put back what a note says, unless somebody is at it; return what was done."""
    with connected(note, task) as server, debts.alone_with(identity(server, note.address)):
        return restore_alone(note, server) if debts.is_noted(note) else ""


def restore_alone(note: debts.Note, server: Redis) -> str:
    """Put back each setting that still has a value of ours."""
    done = []
    for setting in note.settings:
        if setting.name in ("maxmemory", "maxmemory-policy") and server.setting(setting.name) in setting.ours:
            server.set(setting.name, setting.original)
            done.append(f"{setting.name} of {note.address} is {setting.original} again")
    return ", ".join(done)


def _fresh(server: Redis, task: Task) -> Info:
    """Return what the server tells once it has looked at itself anew; what it knows may be of before the last fill."""
    hz = max(1, number(server.info(), "hz", 10))
    task.rest(LOOKS_AFTER_RATIO * max(RESIDENT_AGE_S, 1 / hz))
    return server.info()
