"""SQLite's page caches: `PRAGMA shrink_memory` on a connection, in a thread that may use it."""

from __future__ import annotations

import sqlite3
import threading

from oomguard.adaptors.adaptor import Adaptor, stop_at_s
from oomguard.adaptors.locks import NO_LOCK, checked, under
from oomguard.errors import UsageError
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.act.hooks import Request

SQLITE_COST = 0.3           # pages are read again, mostly from the kernel's cache
SERIALIZED = 3              # sqlite3.threadsafety: SQLite itself lets one thread at a time into a connection


class Sqlite(Adaptor):
    """One connection of `sqlite3`. Its unused cache pages go; a transaction under way keeps those it changed.

    A connection belongs to the thread that opened it, unless `check_same_thread=False`. Such a bound one has to be
    asked in its own thread, by `Posted`. SQLite does not tell Python how much it caches.
    """

    __slots__ = ("_connection", "_lock")

    def __init__(self, connection: sqlite3.Connection, name: str, *, cost: float = SQLITE_COST,
                 lock: object = None) -> None:
        """Check the connection.

        Args:
            lock: which the app takes around it; not needed where SQLite serializes (`sqlite3.threadsafety == 3`):
                a release then waits for the statement under way.

        Raises:
            UsageError: it is none, or several threads must not use it without a lock.
        """
        super().__init__(name, cost)
        if not isinstance(connection, sqlite3.Connection):
            raise UsageError(f"{name}: a {type(connection).__name__} is no sqlite3.Connection")
        if lock is None and sqlite3.threadsafety != SERIALIZED and not is_bound(connection):
            raise UsageError(f"{name}: this SQLite is not serialized: it needs lock=, which the app takes around it")
        self._connection = connection
        self._lock = NO_LOCK if lock is None else checked(lock)

    def give(self, request: Request) -> float | None:
        """Shrink; the bytes are not known."""
        shrunk = under(self._lock, self._shrink, stop_at_s(request), keeps_forks_out=False)
        return None if shrunk else 0.0

    def _shrink(self) -> None:
        self._connection.execute("PRAGMA shrink_memory").close()


def is_bound(connection: sqlite3.Connection) -> bool:
    """Return whether only the thread that opened a connection may use it; asked in another thread, for it is no fact
    that a connection tells.
    """
    refused: list[bool] = []

    def ask() -> None:
        try:
            connection.cursor().close()
            refused.append(False)
        except sqlite3.ProgrammingError:
            refused.append(True)

    asker = threading.Thread(target=ask, name="oomguard-asks")
    asker.start()
    asker.join()
    return refused == [True]
