"""Redis, its keys set in pipelines over a unix socket; its own bound is maxmemory, where it evicts."""

from __future__ import annotations

from typing import ClassVar

from oomguard.learn.lab.objects import Line, Objects
from oomguard.learn.lab.program import Program

TICK_S = 0.5


class Driver(Program):
    """A redis-server that writes nothing to the disk."""

    needs: ClassVar = ("redis-server",)
    base_bytes: ClassVar[float] = 3.0e6       # with jemalloc 5.3, values of 0.2 to 64 KiB, redis 7.0.15
    charge_ratio: ClassVar[float] = 1.17      # fragmentation; decays to it some 10 s after a drop
    bound_kind: ClassVar[str] = "evicts"
    has_cache: ClassVar[bool] = True

    line: Line

    def start(self) -> None:
        """Start it and connect."""
        bound_bytes = self.spec.bound_bytes
        self.held = Objects(self.spec.seed)
        # Large values have pages of their own in jemalloc: those of the cache go back to the system when dropped.
        self.kept = Objects(self.spec.seed + 1, smallest_bytes=16_384, largest_bytes=131_072)
        self.spawn(["redis-server", "--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no",
                    "--maxmemory", str(int(bound_bytes) if bound_bytes == bound_bytes else 0),
                    "--maxmemory-policy", "allkeys-lru", "--hz", "2", "--dynamic-hz", "no"])
        self.line = Line.connect(self.spec.folder, "redis.sock", b"\r\n", self.check)

    def hold(self, size_bytes: float) -> None:
        """Set keys, or delete the oldest."""
        self._bring(b"held", self.held, size_bytes, self.spec.churn_bytes_per_s * TICK_S)

    def keep(self, size_bytes: float) -> None:
        """Set keys of the cache, or delete the oldest and purge."""
        if self._bring(b"kept", self.kept, size_bytes, 0.0):
            self.line.ask(_command(b"MEMORY", b"PURGE"), 1)

    def _bring(self, name: bytes, objects: Objects, size_bytes: float, churn_bytes: float) -> bool:
        """Bring the keys called `name` nearer to a size; return whether many were dropped."""
        self.check()
        if not self.line.ask():
            return False
        added, dropped = objects.change(size_bytes, churn_bytes)
        orders = [_command(b"SET", b"%s:%d" % (name, number), objects.content(number)) for number in added]
        orders += [_command(b"UNLINK", b"%s:%d" % (name, number)) for number in dropped]
        self.line.ask(b"".join(orders), len(orders))
        return len(dropped) > len(added)

    def stop(self) -> None:
        """Hang up and end it."""
        if hasattr(self, "line"):
            self.line.close()
        super().stop()


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
