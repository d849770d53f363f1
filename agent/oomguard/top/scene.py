"""What the view knows: targets with their last minutes, the last release of each, and what happened."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from oomguard.tell.history import EVERY_S, POINTS
from oomguard.tell.wire import Message

TARGETS_MAX = 4096
HAPPENED_MAX = 200
NUMBER_MAX = 1e18            # what is more is no count of bytes, and JSON's whole numbers have no end
SORTS = ("guard", "level", "used", "time", "name")

Facts = Mapping[str, object]


class Trail:
    """Used over limit of the last 300 s: the greatest value of each 5 s."""

    def __init__(self) -> None:
        self._by_part: dict[int, float] = {}

    def add(self, ratio: float, t_s: float) -> None:
        """Take one value; an unknown one (NaN) leaves a gap."""
        part = int(t_s // EVERY_S)
        if ratio == ratio and ratio >= self._by_part.get(part, -math.inf):
            self._by_part[part] = ratio
        for old in [each for each in self._by_part if each <= part - POINTS]:
            del self._by_part[old]

    def fill(self, ratios: list[object], t_s: float) -> None:
        """Take what was before we came, oldest first, the last one being now."""
        for back, ratio in enumerate(reversed(ratios[-POINTS:])):
            self.add(number({"": ratio}, ""), t_s - back * EVERY_S)

    def ratios(self, t_s: float) -> list[float | None]:
        """Return the last 300 s, oldest first; None where nothing is known."""
        part = int(t_s // EVERY_S)
        return [self._by_part.get(each) for each in range(part - POINTS + 1, part + 1)]


@dataclass
class Track:
    """One target as the view follows it."""

    facts: Facts
    place: int                                  # in the guard's own order
    trail: Trail = field(default_factory=Trail)
    released_s: float = math.nan                # when, on our clock
    release: Facts | None = None                # the event, where we heard it

    @property
    def name(self) -> str:
        """What the guard calls it."""
        return str(self.facts.get("name", "?"))

    @property
    def ratio(self) -> float:
        """Used over limit, NaN where unknown."""
        used, limit = number(self.facts, "used_bytes"), number(self.facts, "limit_bytes")
        return used / limit if limit > 0 else math.nan


class Scene:
    """Takes in what comes over the link; everything in it may be missing or odd."""

    def __init__(self) -> None:
        self.status: Facts = {}
        self.tracks: dict[str, Track] = {}
        self.happened: deque[tuple[float, Facts]] = deque(maxlen=HAPPENED_MAX)      # (wall clock, event)
        self.is_old = False                     # what is shown is of a guard that is gone

    def take(self, message: Message, t_s: float, at: float) -> list[str]:
        """Take in a message; return the names of targets whose past should be asked for.

        Args: t_s: now on our clock. at: now on people's.
        """
        result = message.get("result")
        if "event" in message:
            self._take_event(message, t_s, at)
        elif message.get("id") == "status" and isinstance(result, Mapping):
            return self._take_status(result, t_s)
        elif message.get("id") == "history" and isinstance(result, Mapping):
            self._take_history(result, t_s)
        return []

    def sorted_tracks(self, sort: str) -> list[Track]:
        """Return the targets in order: as the guard has them, or the most pressing first, or by name."""
        keys = {
            "guard": lambda track: (track.place,),
            "level": lambda track: (-number(track.facts, "level", 0.0), -_known(track.ratio, 0.0), track.place),
            "used": lambda track: (-_known(track.ratio, -1.0), track.place),
            "time": lambda track: (number(track.facts, "time_to_limit_s", math.inf), -_known(track.ratio, 0.0)),
            "name": lambda track: (track.name,),
        }
        return sorted(self.tracks.values(), key=keys[sort])

    def _take_status(self, status: Facts, t_s: float) -> list[str]:
        if self.status.get("pid") != status.get("pid"):
            self.tracks.clear()                 # another guard; its windows remember, as `history` will tell
        self.status, self.is_old = status, False
        listed = status.get("targets")
        targets = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
        before, self.tracks = self.tracks, {}
        for place, facts in enumerate(targets[:TARGETS_MAX]):
            name = str(facts.get("name", "?"))
            track = self.tracks[name] = before.get(name) or Track(facts, place)
            track.facts, track.place = facts, place
            track.trail.add(track.ratio, t_s)
        return [name for name in self.tracks if name not in before]

    def _take_history(self, result: Facts, t_s: float) -> None:
        track, ratios = self.tracks.get(str(result.get("target"))), result.get("used_ratios")
        if track is None:
            return
        if isinstance(ratios, list):
            track.trail.fill(ratios, t_s)
        if track.release is None:
            track.released_s = t_s - number(result, "released_s_ago")

    def _take_event(self, event: Facts, t_s: float, at: float) -> None:
        self.happened.append((at, event))
        track = self.tracks.get(str(event.get("target")))
        if track is not None and event.get("event") == "release":
            track.release, track.released_s = event, t_s


def number(facts: Facts, key: str, default: float = math.nan) -> float:
    """Return a number that a guard told, the default where it told none."""
    value = facts.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) > NUMBER_MAX:
        return default
    return float(value)


def _known(value: float, default: float) -> float:
    return default if value != value else value
