"""What a server hook is asked for, as it came over the channel, and what came of it."""

from __future__ import annotations

import math
import time

from oomguard.act import channel
from oomguard.clock import now_s
from oomguard.errors import OomguardError
from oomguard.typed import NamedTuple

PAUSE_S = 0.05      # how soon whatever waits notices that the helper ends


class ServerError(OomguardError):
    """A server cannot be asked, or answers what it should not: the text is for people."""


class BusyError(ServerError):
    """Another release of the server is under way."""


class Ask(NamedTuple):
    """One request to one server."""

    address: str                # redis, memcached, chromium: host:port or unix:/path; nginx: its cache's folder;
                                # webhook: the URL; jvm: empty
    user: str
    password_file: str
    policy: str                 # redis: evict by this one for the moment
    level: int
    needed_bytes: int
    release_all: bool
    ratio: float                # NaN: no share was asked for
    deadline_s: float           # a duration
    reason: str
    target: str
    processes: tuple[tuple[int, int], ...]      # the target's, each with its start time in clock ticks
    is_dry_run: bool

    def is_share(self) -> bool:
        """Return whether a share of what the server holds is asked for, or all, and not a number of bytes."""
        return self.release_all or self.ratio == self.ratio

    def wanted_bytes(self, held_bytes: int) -> int:
        """Return how much to free of a server that holds so much."""
        if self.release_all:
            return held_bytes
        return math.ceil(self.ratio * held_bytes) if self.ratio == self.ratio else self.needed_bytes


class Freed(NamedTuple):
    """What came of an Ask."""

    bytes: int | None           # None: the server does not tell
    remark: str = ""


def read_ask(message: channel.Message, processes: list[tuple[int, int]]) -> Ask:
    """Return the request in a message, to these processes. Raises HelperError."""
    ratio = math.nan if message.get("ratio") is None else channel.number(message, "ratio")
    return Ask(
        channel.text(message, "address"), channel.text(message, "user"),
        channel.text(message, "password_file"), channel.text(message, "policy"),
        channel.whole(message, "level"), channel.whole(message, "needed_bytes"),
        channel.flag(message, "release_all"), ratio, channel.number(message, "deadline_s"),
        channel.text(message, "reason"), channel.text(message, "target"),
        tuple(processes), channel.flag(message, "is_dry_run"))


class Task:
    """How long something may take, and whether it is still wanted."""

    __slots__ = ("deadline_s", "is_cancelled")

    def __init__(self, duration_s: float) -> None:
        self.deadline_s = now_s() + duration_s
        self.is_cancelled = False

    def is_over(self) -> bool:
        """Return whether there is no time left, or nobody waits any more."""
        return self.is_cancelled or now_s() >= self.deadline_s

    def left_s(self) -> float:
        """Return how much time is left, > 0. Raises ServerError once it is over."""
        if self.is_cancelled:
            raise ServerError("the helper ends")
        left_s = self.deadline_s - now_s()
        if left_s <= 0:
            raise ServerError("no answer in time")
        return left_s

    def slice_s(self) -> float:
        """Return how long to wait at most before looking again. Raises ServerError once it is over."""
        return min(self.left_s(), PAUSE_S)

    def rest(self, duration_s: float) -> None:
        """Wait so long, or until it is over."""
        until_s = min(now_s() + duration_s, self.deadline_s)
        while not self.is_cancelled and (left_s := until_s - now_s()) > 0:
            time.sleep(min(left_s, PAUSE_S))
