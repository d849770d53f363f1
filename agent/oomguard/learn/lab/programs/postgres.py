"""PostgreSQL with a session that keeps sorted rows in open cursors: its own memory, within a large work_mem."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import ClassVar

from oomguard.learn.lab.objects import START_S, Line, Objects
from oomguard.learn.lab.program import Program, ProgramGoneError

TICK_S = 0.5
BIN = "/usr/lib/postgresql/15/bin"
ANSWER = b"lab-answer\n"
ROW_BYTES = 900
# It refuses to run as root, and root's folders may be closed to other users: a user of its own namespace is both.
AS_NOBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
SETTINGS = {
    "listen_addresses": "", "shared_buffers": "4MB", "max_connections": "5",
    "work_mem": "2000GB", "fsync": "off", "autovacuum": "off", "max_wal_senders": "0", "wal_level": "minimal",
    "max_parallel_workers": "0", "max_logical_replication_workers": "0", "bgwriter_delay": "10s", "jit": "off",
    "bgwriter_lru_maxpages": "0", "wal_writer_delay": "10s", "checkpoint_timeout": "1d", "log_min_messages": "panic",
    "dynamic_shared_memory_type": "mmap", "restart_after_crash": "off"}
# Blocks of a sort are mapped one by one: those of a closed cursor go back to the system, whoever sits above them.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
# A cursor holds the rows that its sort wrote down. Rows just below 1 KiB: the allocator rounds up to a power of two.
OPEN = """
DECLARE c{number} NO SCROLL CURSOR FOR SELECT v FROM (
    SELECT substr(p, 1 + (random() * 4000)::int, {row_bytes}) AS v FROM generate_series(1, {rows}),
        (SELECT string_agg(md5(random()::text), '') AS p FROM generate_series(1, 160)) AS q OFFSET 0) AS r ORDER BY v;
MOVE 1 FROM c{number};
"""


class Driver(Program):
    """A server for one session; psql, which speaks for it, stays outside of the cgroup."""

    needs: ClassVar = (f"{BIN}/postgres", f"{BIN}/initdb", "psql", "unshare")
    base_bytes: ClassVar[float] = 8.0e6       # five processes, shared_buffers of 4 MB
    charge_ratio: ClassVar[float] = 1.2       # row headers, the sort's array, what blocks leave unused; PostgreSQL 15

    line: Line

    def start(self) -> None:
        """Make an empty database outside of the cgroup, start a server for it, and open the session."""
        folder = self.spec.folder
        subprocess.run([*AS_NOBODY, f"{BIN}/initdb", "-D", "data", "-A", "trust", "-U", "lab", "--no-sync",
                        "--wal-segsize=1", "--encoding=UTF8", "--locale=C"], cwd=folder, check=True,
                       capture_output=True)
        # Few and large: some 250 KB of each cursor stay with the session's heap when it is closed.
        self.held = Objects(self.spec.seed, smallest_bytes=1 << 20, largest_bytes=8 << 20)
        # A socket without a file: those have paths of 107 bytes at most.
        place = f"@oomguard-lab-{os.getpid()}-{self.spec.seed}"
        settings = {**SETTINGS, "unix_socket_directories": place}
        self.spawn([*AS_NOBODY, f"{BIN}/postgres", "-D", f"{folder}/data",
                    *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))],
                   env={"HOME": folder, "PATH": "/usr/bin:/bin", **MALLOC})
        self._wait(place)
        session = subprocess.Popen(["psql", "-h", place, "-U", "lab", "-X", "-q", "-A", "-t", "-f", "-", "postgres"],
                                   stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   start_new_session=True, bufsize=0)
        self.children.append(session)
        if session.stdin is None or session.stderr is None:
            raise ProgramGoneError("psql has no pipes")
        self.line = Line(session.stdin.fileno(), session.stderr.fileno(), ANSWER)
        self._tell("BEGIN;\n")

    def _wait(self, place: str) -> None:
        """Wait until it takes sessions. Raises ProgramGoneError."""
        until_s = time.monotonic() + START_S
        while subprocess.run([f"{BIN}/pg_isready", "-q", "-h", place, "-t", "2"], check=False).returncode != 0:
            self.check()
            if time.monotonic() > until_s:
                raise ProgramGoneError(f"postgres: takes no sessions after {START_S:.0f} s")
            time.sleep(0.1)

    def hold(self, size_bytes: float) -> None:
        """Open cursors, or close the oldest."""
        self.check()
        if not self.line.ask():
            return
        added, dropped = self.held.change(size_bytes, self.spec.churn_bytes_per_s * TICK_S)
        orders = [OPEN.format(number=number, row_bytes=ROW_BYTES, rows=self.held.size_of(number) // ROW_BYTES + 1)
                  for number in added]
        orders += [f"CLOSE c{number};\n" for number in dropped]
        if orders:
            self._tell("".join(orders))

    def _tell(self, statements: str) -> None:
        self.line.ask(f"{statements}\\warn {ANSWER.decode()}".encode(), 1)

    def stop(self) -> None:
        """End the session and the server."""
        super().stop()
        shutil.rmtree(f"{self.spec.folder}/data", ignore_errors=True)
