"""What a lab program is given to hold: numbered objects of varied sizes, the oldest dropped first, and a line to it.

Sizes and content follow from the seed and an object's number, so that a driver remembers nothing per object.
"""

from __future__ import annotations

import os
import random
import select
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from oomguard.learn.lab.program import ProgramGoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEP_BYTES = 16 << 20       # sent by one call; there are two a second
DROP_BYTES = 64 << 20       # dropping costs less
USED_BYTES = 8192           # replaced by each call at least: what holds still is still used
ANSWER_S = 4.0              # a program that thrashes at its limit answers late: its driver goes on with the next call
START_S = 30.0              # dozens start together on two cores
_POOL_BYTES = 1 << 20
_WORDS = (b'{"id": ', b'"name": "', b'", "at": ', b"null, ", b"true, ", b'"price": ', b"<td>", b"</td>", b"2024-")


class Objects:
    """Numbered objects, log-uniform in size; how small and how large they are differs from seed to seed."""

    __slots__ = ("_due_bytes", "_pool", "_ratio", "_salt", "_smallest_bytes", "end", "first", "size_bytes")

    def __init__(self, seed: int, smallest_bytes: int = 200, largest_bytes: int = 65_536) -> None:
        chance = random.Random(seed)
        self._smallest_bytes = chance.randint(smallest_bytes, min(4 * smallest_bytes, largest_bytes))
        largest_bytes = chance.randint(max(self._smallest_bytes, largest_bytes // 4), largest_bytes)
        self._ratio = largest_bytes / self._smallest_bytes
        self._salt = chance.getrandbits(32)
        self._pool, self._due_bytes = b"", 0.0
        self.first = self.end = self.size_bytes = 0

    def change(self, wish_bytes: float, churn_bytes: float = 0.0) -> tuple[range, range]:
        """Take up the numbers that bring the whole nearer to the wish, at most a step; return the added, the dropped.

        Args:
            wish_bytes: what the whole is to come to.
            churn_bytes: so many are replaced besides; what is less than an object is put off to a later call.
        """
        end, first = self.end, self.first
        self._due_bytes = min(self._due_bytes + max(churn_bytes, USED_BYTES), STEP_BYTES)
        step_bytes = STEP_BYTES
        while wish_bytes > 0 and step_bytes > 0:
            size_bytes = self.size_of(self.end)
            if self.size_bytes >= wish_bytes:
                if self._due_bytes < size_bytes:
                    break
                self._due_bytes -= size_bytes
            step_bytes -= size_bytes
            self.size_bytes += size_bytes
            self.end += 1
        dropped_bytes = 0
        while self.first < self.end and dropped_bytes < DROP_BYTES:
            size_bytes = self.size_of(self.first)
            if self.size_bytes - size_bytes < wish_bytes:
                break
            self.size_bytes -= size_bytes
            dropped_bytes += size_bytes
            self.first += 1
        return range(end, self.end), range(first, self.first)

    def size_of(self, number: int) -> int:
        """Return the size of an object, in bytes."""
        mixed = ((number + 1) * 0x9E3779B97F4A7C15 ^ self._salt * 0xBF58476D1CE4E5B9) >> 24 & 0xFFFFFF
        return int(self._smallest_bytes * self._ratio ** (mixed / 0x1000000))

    def content(self, number: int) -> bytes:
        """Return the bytes of an object: about half of them random, the rest words that come again and again."""
        self._pool = self._pool or _pool(self._salt)
        size_bytes = self.size_of(number)
        at = (number * 7919 + self._salt) % (_POOL_BYTES - size_bytes)
        return self._pool[at:at + size_bytes]


def _pool(seed: int) -> bytes:
    chance = random.Random(seed)
    parts = [chance.randbytes(64) + b"".join(chance.choices(_WORDS, k=12))[:64] for _ in range(_POOL_BYTES // 100)]
    return b"".join(parts)[:_POOL_BYTES]


class Line:
    """Orders to a program and the count of its answers; what it still owes is waited for at the next call.

    Orders that could not be sent in time are not lost: a driver's account of what it holds stays true.
    """

    __slots__ = ("_end", "_in_fd", "_out_fd", "_owed", "_tail", "_unsent", "socket")

    def __init__(self, out_fd: int, in_fd: int, end: bytes) -> None:
        """Take over two descriptors (one, twice, for a socket); each answer has one `end`."""
        self._out_fd, self._in_fd, self._end = out_fd, in_fd, end
        os.set_blocking(out_fd, False)
        os.set_blocking(in_fd, False)
        self._unsent, self._owed, self._tail = bytearray(), 0, b""
        self.socket: socket.socket | None = None

    @classmethod
    def connect(cls, folder: str, name: str, end: bytes, check: Callable[[], None]) -> Line:
        """Connect to a socket that a program is about to open. Raises ProgramGoneError when it ends instead."""
        until_s = time.monotonic() + START_S
        with reachable(folder, name) as path:
            while True:
                talk = socket.socket(socket.AF_UNIX)
                try:
                    talk.connect(path)
                except OSError as error:
                    talk.close()
                    check()
                    if time.monotonic() > until_s:
                        raise ProgramGoneError(f"{name}: nobody listens after {START_S:.0f} s") from error
                    time.sleep(0.05)
                    continue
                line = cls(talk.fileno(), talk.fileno(), end)
                line.socket = talk
                return line

    def ask(self, orders: bytes = b"", answers: int = 0, wait_s: float = ANSWER_S) -> bool:
        """Send, and wait for that many answers and those owed; return whether none is owed any more.

        Raises ProgramGoneError when the other side hung up.
        """
        self._unsent += orders
        self._owed += answers
        until_s = time.monotonic() + wait_s
        look = select.poll()
        while self._unsent or self._owed > 0:
            look.register(self._in_fd, select.POLLIN)
            if self._unsent:
                look.register(self._out_fd, select.POLLOUT | (select.POLLIN if self._out_fd == self._in_fd else 0))
            elif self._out_fd != self._in_fd:
                with suppress(KeyError):
                    look.unregister(self._out_fd)
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not (ready := dict(look.poll(left_s * 1000))):
                return False
            self._go_on(ready)
        return True

    def _go_on(self, ready: dict[int, int]) -> None:
        try:
            if ready.get(self._in_fd, 0) & ~select.POLLOUT:
                self._count(os.read(self._in_fd, 1 << 16))
            if self._unsent and ready.get(self._out_fd, 0) & ~select.POLLIN:
                del self._unsent[:os.write(self._out_fd, self._unsent[:1 << 16])]
        except BlockingIOError:
            return
        except OSError as error:
            raise ProgramGoneError(f"it hung up: {error.strerror}") from None

    def _count(self, data: bytes) -> None:
        if not data:
            raise ProgramGoneError("it hung up")
        data = self._tail + data
        self._owed -= data.count(self._end)
        self._tail = data[-len(self._end) + 1:] if len(self._end) > 1 else b""

    def close(self) -> None:
        """Hang up, where it is a socket; a pipe belongs to the child."""
        if self.socket is not None:
            self.socket.close()


@contextmanager
def reachable(folder: str, name: str) -> Iterator[str]:
    """Give a short path to a file in a folder: that of a socket may have 107 bytes."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
