"""memcached over a unix socket; its own bound is -m, where it evicts. What it took it keeps: slabs do not shrink."""

from __future__ import annotations

from typing import ClassVar

from oomguard.learn.lab.objects import Line, Objects
from oomguard.learn.lab.program import Program

TICK_S = 0.5
FAR_ABOVE_MB = 1 << 18
MB = 1 << 20
SLACK_MB = 8            # its smallest -m that still gives each class of sizes a page of its own


class Driver(Program):
    """A memcached with one worker."""

    needs: ClassVar = ("memcached",)
    base_bytes: ClassVar[float] = 11.0e6      # 1.1e6 when empty, then soon a page of 1 MiB per class of sizes
    charge_ratio: ClassVar[float] = 1.15      # memcached 1.6.18, values of 0.2 to 64 KiB
    bound_kind: ClassVar[str] = "evicts"

    line: Line

    def start(self) -> None:
        """Start it and connect."""
        bound_bytes = self.spec.bound_bytes
        bound_mb = max(int(bound_bytes / MB), SLACK_MB) if bound_bytes == bound_bytes else FAR_ABOVE_MB
        self.held = Objects(self.spec.seed)
        self.spawn(["memcached", "-s", "memcached.sock", "-u", "root", "-t", "1", "-m", str(bound_mb),
                    "-o", "no_lru_crawler"])
        self.line = Line.connect(self.spec.folder, "memcached.sock", b"\r\n", self.check)

    def hold(self, size_bytes: float) -> None:
        """Set keys, or delete the oldest."""
        self.check()
        if not self.line.ask():
            return
        added, dropped = self.held.change(size_bytes, self.spec.churn_bytes_per_s * TICK_S)
        orders = [b"set %d 0 0 %d\r\n%s\r\n" % (number, self.held.size_of(number), self.held.content(number))
                  for number in added]
        orders += [b"delete %d\r\n" % number for number in dropped]
        self.line.ask(b"".join(orders), len(orders))

    def stop(self) -> None:
        """Hang up and end it."""
        if hasattr(self, "line"):
            self.line.close()
        super().stop()
