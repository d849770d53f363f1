"""A JVM gives memory back: a full collection (`GC.run`), then its C heap is trimmed (`System.trim_native_heap`).

What `jcmd` does, spoken to the JVM itself: jcmd is a JVM of its own, 40 MB at the worst moment. Whether a collection
gives the kernel anything is the collector's business. Seen on OpenJDK 17: G1 and Shenandoah shrink the heap and give
it back at once; Serial and Parallel keep what was committed; ZGC gives back after ZUncommitDelay (300 s). What is
freed is what the process' resident memory fell by, and the remark says which collector kept its heap.
"""

from __future__ import annotations

import os
import signal
import stat
from contextlib import suppress

from oomguard.act.processes import deliver
from oomguard.act.servers.ask import Ask, Freed, ServerError, Task
from oomguard.act.servers.resident import resident_bytes, settle_bytes
from oomguard.act.servers.stream import Connection

LIBRARY = b"/libjvm.so"
MAPS_MAX_BYTES = 8 << 20
ANSWER_MAX_BYTES = 65536
PROTOCOL = "1"              # since JDK 1.6; 21 speaks 2 as well
JVMS_MAX = 16
LOOK_AGAIN_S = 0.02
COLLECTORS = {"garbage-first": "G1", "Shenandoah": "Shenandoah", "ZHeap": "ZGC", "PSYoungGen": "Parallel",
              "def new": "Serial", "Epsilon": "Epsilon"}
GIVING = ("G1", "Shenandoah")
KEPT_RATIO = 0.5            # of what was wanted: below it the remark names the collector


def release(ask: Ask, task: Task) -> Freed:
    """Have the target's JVMs collect, the largest first, until what is needed is free. Raises ServerError."""
    jvms = _jvms(ask)
    if ask.is_dry_run:
        return Freed(None, f"dry run: {len(jvms)} JVMs")
    freed_bytes, remarks = 0, []
    for pid, ticks in jvms:
        held_bytes = resident_bytes([pid]) or 0
        wanted_bytes = held_bytes if ask.release_all else max(1, ask.wanted_bytes(held_bytes) - freed_bytes)
        try:
            one = _collect(pid, ticks, wanted_bytes, task)
        except (ServerError, OSError) as error:
            remarks.append(f"pid {pid}: {error}")
            continue
        freed_bytes += one.bytes or 0
        remarks.append(one.remark)
        if freed_bytes >= ask.needed_bytes and not ask.is_share():
            break
    else:
        if all(remark.startswith("pid ") for remark in remarks):
            raise ServerError("; ".join(remarks[:3]))
    return Freed(freed_bytes, "; ".join(filter(None, remarks[:3])))


def _jvms(ask: Ask) -> list[tuple[int, int]]:
    """Return which of the target's processes are JVMs, the largest first."""
    found = [(resident_bytes([pid]) or 0, pid, ticks) for pid, ticks in ask.processes if is_jvm(pid)]
    if not found:
        raise ServerError(f"none of the target's {len(ask.processes)} processes is a JVM that can be seen from here")
    return [(pid, ticks) for _, pid, ticks in sorted(found, reverse=True)[:JVMS_MAX]]


def is_jvm(pid: int) -> bool:
    """Return whether a process has loaded a JVM."""
    try:
        fd = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        tail, seen = b"", 0
        while seen < MAPS_MAX_BYTES and (data := os.read(fd, 65536)):
            if LIBRARY in tail + data:
                return True
            tail, seen = data[-len(LIBRARY):], seen + len(data)
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _collect(pid: int, ticks: int, wanted_bytes: int, task: Task) -> Freed:
    before_bytes = resident_bytes([pid]) or 0
    heap = jcmd(pid, ticks, "GC.heap_info", task)
    jcmd(pid, ticks, "GC.run", task)
    after_bytes = settle_bytes([pid], before_bytes - wanted_bytes, task)
    with suppress(ServerError):         # an older JVM does not know it
        jcmd(pid, ticks, "System.trim_native_heap", task)
        after_bytes = resident_bytes([pid]) or after_bytes
    freed_bytes = max(0, before_bytes - after_bytes)
    return Freed(freed_bytes, _remark(collector(heap), freed_bytes, wanted_bytes))


def collector(heap: str) -> str:
    """Return which collector a heap is of; "" for one that is not known."""
    return next((name for word, name in COLLECTORS.items() if word in heap), "")


def _remark(name: str, freed_bytes: int, wanted_bytes: int) -> str:
    if freed_bytes >= KEPT_RATIO * wanted_bytes:
        return ""
    if name in GIVING:
        return f"{name} had little that was free to give back"
    if name == "ZGC":
        return "ZGC gives its heap back after -XX:ZUncommitDelay (300 s), not on demand"
    return f"{name or 'its collector'} keeps its heap: use -XX:+UseG1GC or -XX:+UseShenandoahGC"


def jcmd(pid: int, ticks: int, line: str, task: Task) -> str:
    """Return what a JVM answers to a diagnostic command. Raises ServerError."""
    with Connection(f"unix:{_door(pid, ticks, task)}", task) as connection:
        connection.send("".join(f"{part}\0" for part in (PROTOCOL, "jcmd", line, "", "")).encode())
        status = connection.line()
        answer = connection.rest(ANSWER_MAX_BYTES).decode("utf-8", "replace")
    if status != b"0":
        raise ServerError(f"{line} was refused: {answer.strip().splitlines()[-1:] or status!r}")
    return answer


def _door(pid: int, ticks: int, task: Task) -> str:
    """Return the socket at which a JVM listens; one that has none yet opens it on SIGQUIT if it finds our trigger.

    The pid's own file system and its pid there count: it may live in a container.
    """
    own, uid = _identity(pid)
    folder = f"/proc/{pid}/root/tmp"
    if os.path.islink(folder):
        raise ServerError(f"pid {pid}: its /tmp is a link")
    door = f"{folder}/.java_pid{own}"
    if _is_socket_of(door, uid):
        return door
    trigger = f"{folder}/.attach_pid{own}"
    os.close(os.open(trigger, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        if why := deliver(pid, ticks, signal.SIGQUIT):
            raise ServerError(why)
        while not _is_socket_of(door, uid):
            task.left_s()
            task.rest(LOOK_AGAIN_S)
    finally:
        with suppress(OSError):
            os.unlink(trigger)
    return door


def _identity(pid: int) -> tuple[int, int]:
    """Return a process' pid in its own name space, and its effective user."""
    try:
        with open(f"/proc/{pid}/status", "rb", 0) as file:
            lines = dict(line.split(b":", 1) for line in file.read(8192).splitlines() if b":" in line)
        return int(lines.get(b"NSpid", b"%d" % pid).split()[-1]), int(lines[b"Uid"].split()[1])
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise ServerError(f"pid {pid} is gone") from error


def _is_socket_of(path: str, uid: int) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid in (uid, 0)
