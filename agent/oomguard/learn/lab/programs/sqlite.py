"""SQLite's shell with a database in memory; its own bound is PRAGMA max_page_count, where it refuses rows."""

from __future__ import annotations

import subprocess
from typing import ClassVar

from oomguard.learn.lab.objects import Line, Objects
from oomguard.learn.lab.program import Program, ProgramGoneError

TICK_S = 0.5
BATCH = 64              # rows deleted by one statement
DROP = "DELETE FROM held WHERE"
ANSWER = b"lab-answer\n"
# Large pages above malloc's threshold are mapped one by one, so that those of deleted rows go back to the system.
PAGE_BYTES = 65_536
SETTING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "60000", "MALLOC_ARENA_MAX": "1"}
SCHEMA = """
.mode list
PRAGMA page_size = {page_bytes};
PRAGMA auto_vacuum = FULL;
PRAGMA journal_mode = {journal};
PRAGMA temp_store = MEMORY;
CREATE TABLE held(n INTEGER PRIMARY KEY, v TEXT NOT NULL);
"""


class Driver(Program):
    """A sqlite3 that reads statements from a pipe."""

    needs: ClassVar = ("sqlite3",)
    base_bytes: ClassVar[float] = 1.0e6
    charge_ratio: ClassVar[float] = 1.17      # what the pages of 64 KiB leave unused; SQLite 3.40.1
    bound_kind: ClassVar[str] = "refuses"

    def start(self) -> None:
        """Start it and make the table."""
        bound_bytes = self.spec.bound_bytes
        self.held = Objects(self.spec.seed, smallest_bytes=1000)
        child = self.spawn(["sqlite3", "-batch", ":memory:"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                           env={"HOME": self.spec.folder, "PATH": "/usr/bin:/bin", **SETTING})
        if child.stdin is None or child.stdout is None:
            raise ProgramGoneError("sqlite3 has no pipes")
        self.line = Line(child.stdin.fileno(), child.stdout.fileno(), ANSWER)
        # A refused row is taken back by the journal; without a bound none is refused. (hard_heap_limit counts the
        # journal, too: at that limit rows cannot be deleted any more.)
        is_bound = bound_bytes == bound_bytes
        limit = f"PRAGMA max_page_count = {max(int(bound_bytes) // PAGE_BYTES, 2)};\n" if is_bound else ""
        self._tell(SCHEMA.format(page_bytes=PAGE_BYTES, journal="MEMORY" if is_bound else "OFF") + limit)

    def hold(self, size_bytes: float) -> None:
        """Insert rows, or delete the oldest."""
        self.check()
        if not self.line.ask():
            return
        added, dropped = self.held.change(size_bytes, self.spec.churn_bytes_per_s * TICK_S)
        rows = [f"INSERT INTO held VALUES({number}, hex(randomblob({self.held.size_of(number) // 2})));\n"
                for number in added]        # hex: half of it compresses
        stops = range(dropped.start + BATCH, dropped.stop + BATCH, BATCH)      # few at once: its journal is in memory
        rows += [f"{DROP} n < {min(stop, dropped.stop)};\n" for stop in stops]
        if rows:
            self._tell("".join(rows))

    def _tell(self, statements: str) -> None:
        """Have them done, if it can in time; refused is done, too."""
        self.line.ask(f"{statements}SELECT '{ANSWER.decode().strip()}';\n".encode(), 1)
