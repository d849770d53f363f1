"""memcached gives slab pages back: its limit lowered for the moment, pages moved out of their classes one by one, and
the operator's limit put back.

A slab page (1 MB) belongs to one size class for good: deleted, expired and flushed items leave it there, so
`flush_all` alone gives the kernel nothing (tried, 1.6.18). What works: with the limit below what is
allocated, a page reassigned to class 0, the pool of free pages, is freed at once; its items move to free chunks of
their class, or go. One page of each class in use stays, and so do the hash table and buffers; memory preallocated at
the start (-L, or a restartable cache) is never given back. Needs slab_reassign, on by default since 1.5.

glibc spoils it from the second release on: the first freed page makes it take later ones from its heap, where
freed ones stay (tried: of 25 MiB each time 25, then 10, then 0). A memcached with MALLOC_MMAP_THRESHOLD_=131072
in its environment gives back every time. So where its process can be seen, what is freed is what that fell by.
"""

from __future__ import annotations

from oomguard.act.servers import debts
from oomguard.act.servers.ask import Ask, Freed, ServerError, Task
from oomguard.act.servers.resident import resident_bytes
from oomguard.act.servers.stream import Connection
from oomguard.decide.addresses import UNIX, is_local, split_address

MIB = 1 << 20
LIMIT_MIN_MIB = 8           # it refuses less
STATS_MAX = 8192            # lines: 63 classes with a dozen each are usual
POOL_CLASS = "0"
BUSY_REST_S = 0.001
LAST_LOOK_S = 0.1
KEPT_RATIO = 0.8

Stats = dict[str, str]


class Memcached(Connection):
    """A connection that speaks the text protocol."""

    __slots__ = ()

    def stats(self, what: str = "") -> Stats:
        """Return what `stats` tells, by name. Raises ServerError."""
        self.send(f"stats {what}".rstrip().encode() + b"\r\n")
        found: Stats = {}
        for _ in range(STATS_MAX):
            line = self.line()
            if line == b"END":
                return found
            word, _, rest = line.partition(b" ")
            if word != b"STAT":
                raise ServerError(f"stats {what} was answered with {line[:80]!r}")
            name, _, value = rest.decode("utf-8", "replace").partition(" ")
            found[name] = value
        raise ServerError(f"stats {what} told more than {STATS_MAX} lines")

    def say(self, line: str) -> str:
        """Return the one line that answers a command."""
        self.send(line.encode() + b"\r\n")
        return self.line().decode("utf-8", "replace")[:200]

    def set_limit(self, limit_mib: int) -> None:
        """Set how much it may hold. Raises ServerError."""
        answer = self.say(f"cache_memlimit {limit_mib}")
        if answer != "OK":
            raise ServerError(f"cache_memlimit was refused: {answer}")


def release(ask: Ask, task: Task) -> Freed:
    """Have a memcached give about what is wanted back to the kernel, in pages.

    Raises:
        ServerError: it cannot be asked, or does not reassign pages.
    """
    with Memcached(ask.address, task) as server:
        with debts.alone_with(_identity(server, ask.address)):
            debt = debts.Note("memcached", ask.address, "", "", ())
            _settle_alone(debt, server)
            limit_bytes = whole(server.stats(), "limit_maxbytes")
            if server.stats("settings").get("slab_reassign") != "yes":
                raise ServerError("it was started without slab_reassign, and gives no page back")
            before_bytes, pid = allocated(server), _local_pid(server, ask.address)
            resident_before = resident_bytes([pid])
            goal_bytes = before_bytes - ask.wanted_bytes(before_bytes)
            goal_mib = max(LIMIT_MIN_MIB, goal_bytes // MIB)
            if ask.is_dry_run:
                return Freed(None, f"dry run: would lower the limit to {goal_mib} MiB")
            debts.write(debt._replace(settings=(
                debts.Setting("limit_maxbytes", str(limit_bytes), (str(goal_mib * MIB),)),)))
            try:
                server.set_limit(goal_mib)
                after_bytes, remark = _move_pages(server, goal_mib * MIB, task)
            finally:
                _put_back(debt)
        freed_bytes, resident_after = max(0, before_bytes - after_bytes), resident_bytes([pid])
        if resident_before is None or resident_after is None:
            return Freed(freed_bytes, remark)
        return _what_left(freed_bytes, max(0, resident_before - resident_after), remark)


def _what_left(freed_bytes: int, left_bytes: int, remark: str) -> Freed:
    """Return what really left the process, and why that is less than what memcached freed."""
    if left_bytes < KEPT_RATIO * freed_bytes:
        kept = f"it freed {freed_bytes} bytes, which its C library keeps: start it with MALLOC_MMAP_THRESHOLD_=131072"
        return Freed(left_bytes, f"{remark}; {kept}" if remark else kept)
    return Freed(min(left_bytes, freed_bytes), remark)


def _local_pid(server: Memcached, address: str) -> int:
    """Return the pid of a memcached of this machine, 0 where it may be another's."""
    pid = server.stats().get("pid", "")
    is_here = address.startswith(UNIX) or is_local(split_address(address)[0])
    if not is_here or not _digits(pid):
        return 0
    try:
        with open(f"/proc/{pid}/comm", "rb", 0) as file:
            return int(pid) if file.read(32).startswith(b"memcached") else 0
    except OSError:
        return 0


def _move_pages(server: Memcached, goal_bytes: int, task: Task) -> tuple[int, str]:
    """Free page after page; return what is still allocated, and a remark where that is more than the goal."""
    stuck: set[str] = set()
    while True:
        stats = server.stats("slabs")
        left_bytes = whole(stats, "total_malloced")
        if left_bytes <= goal_bytes:
            return left_bytes, ""
        choice = richest_class(stats, stuck)
        if not choice:
            return left_bytes, "partial: one page of each size class stays"
        if task.left_s() < LAST_LOOK_S:
            return left_bytes, "partial: out of time"
        answer = server.say(f"slabs reassign {choice} {POOL_CLASS}")
        if answer.startswith("BUSY"):
            task.rest(BUSY_REST_S)
        elif answer != "OK":        # NOSPARE, NOTFULL: nothing to take from this class
            stuck.add(choice)


def richest_class(stats: Stats, stuck: set[str]) -> str:
    """Return the class to take a page from: first one with a page's worth of free chunks, so that no item is
    lost, else the one with most pages; "" when none has two.
    """
    best, best_rank = "", (False, 1)
    for name, value in stats.items():
        number, _, what = name.partition(":")
        if what != "total_pages" or number in (POOL_CLASS, *stuck) or not _digits(value):
            continue
        per_page, free = stats.get(f"{number}:chunks_per_page", ""), stats.get(f"{number}:free_chunks", "")
        is_free = _digits(per_page) and _digits(free) and int(free) >= int(per_page) > 0
        rank = (is_free, int(value))
        if int(value) > 1 and rank > best_rank:
            best, best_rank = number, rank
    return best


def allocated(server: Memcached) -> int:
    """Return how many bytes of slab pages it holds."""
    return whole(server.stats("slabs"), "total_malloced")


def whole(stats: Stats, name: str) -> int:
    """Return a number that it tells. Raises ServerError."""
    value = stats.get(name, "")
    if not _digits(value):
        raise ServerError(f"its stats tell no {name}")
    return int(value)


def restore(note: debts.Note, task: Task) -> str:
    """Put back what a note says, unless somebody is at it; return what was done."""
    with Memcached(note.address, task) as server, debts.alone_with(_identity(server, note.address)):
        return restore_alone(note, server) if debts.is_noted(note) else ""


def restore_alone(note: debts.Note, server: Memcached) -> str:
    """Put the limit back if it is still ours."""
    for setting in note.settings:
        if setting.name == "limit_maxbytes" and _digits(setting.original) \
                and server.stats().get("limit_maxbytes") in setting.ours:
            server.set_limit(-(-int(setting.original) // MIB))
            return f"the limit of {note.address} is {setting.original} bytes again"
    return ""


def _settle_alone(debt: debts.Note, server: Memcached) -> None:
    for note in debts.read_all():
        if note[:3] == debt[:3]:
            restore_alone(note, server)
    debts.drop(debt)


def _put_back(debt: debts.Note) -> None:
    """Put the operator's limit back, over a connection and in a time of its own."""
    try:
        with Memcached(debt.address, Task(debts.SETTLE_S)) as server:
            _settle_alone(debt, server)
    except (ServerError, OSError) as error:
        raise ServerError(f"its limit is still lowered, and put back as soon as it lets us: {error}") from error


def _identity(server: Memcached, address: str) -> str:
    return f"memcached {server.stats().get('pid', address)}"


def _digits(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 20
