"""A connection to a Redis, and what it tells of its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oomguard.act.servers import debts, resp
from oomguard.act.servers.ask import Ask, ServerError, Task
from oomguard.act.servers.secret import read_secret
from oomguard.act.servers.stream import Connection

Info = dict[str, str]


class Redis:
    """A connection that has been let in."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection, user: str, password_file: str) -> None:
        self._connection = connection
        if password_file:
            password = read_secret(password_file)
            self.call("AUTH", *([user] if user else []), password)

    def call(self, *words: str) -> resp.Reply:
        """Return the reply to a command. Raises ServerError when it is refused."""
        self._connection.send(resp.command(*words))
        reply = resp.read_reply(self._connection)
        if isinstance(reply, resp.ErrorReply):
            named = " ".join(words[:2]) if words[0] != "AUTH" else "AUTH"
            raise ServerError(f"{named} was refused: {reply}")
        return reply

    def info(self) -> Info:
        """Return what INFO tells, by name."""
        reply = self.call("INFO")
        if not isinstance(reply, bytes):
            raise ServerError("INFO was not answered with text")
        pairs = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
        return {name: value for name, colon, value in pairs if colon}

    def setting(self, name: str) -> str:
        """Return one of its settings."""
        reply = self.call("CONFIG", "GET", name)
        if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], bytes):
            raise ServerError(f"CONFIG GET {name} was not answered with one value")
        return reply[1].decode("utf-8", "replace")

    def set(self, name: str, value: str) -> None:
        """Change one of its settings."""
        self.call("CONFIG", "SET", name, value)


@contextmanager
def connected(whom: Ask | debts.Note, task: Task) -> Iterator[Redis]:
    """Connect, log in, and hang up afterwards. Raises ServerError."""
    with Connection(whom.address, task) as connection:
        yield Redis(connection, whom.user, whom.password_file)


def identity(server: Redis, address: str) -> str:
    """Return what tells a server from all others, whatever address it is called by."""
    return "redis " + server.info().get("run_id", address)


def counted(info: Info) -> int:
    """Return the bytes that maxmemory is compared with."""
    return number(info, "used_memory") - number(info, "mem_not_counted_for_evict", 0)


def resident_at_once(info: Info) -> int:
    """Return the resident size without waiting for a fresh figure: what was filled since must at least be there."""
    return max(resident(info), number(info, "used_memory"))


def resident(info: Info) -> int:
    """Return the resident size as it last saw it."""
    return number(info, "used_memory_rss")


def number(info: Info, name: str, missing: int | None = None) -> int:
    """Return a whole number that INFO tells. Raises ServerError where it does not, and nothing stands for it."""
    value = info.get(name, "")
    if value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if missing is None:
        raise ServerError(f"INFO tells no {name}")
    return missing
