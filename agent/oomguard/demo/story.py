"""What became of one arm: told by the app's own report, by the guard's log and by the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Spoken:
    """A level that the guard told of, by the model (`forest`) or by a plain level."""

    t_s: float
    level: int
    scorer: str


@dataclass(slots=True)
class Story:
    """One arm's facts as they come in. Every `t_s` counts from the app's own start."""

    name: str
    limit_bytes: int
    started_s: float | None = None              # CLOCK_BOOTTIME, once the app says that it runs
    pid: int = 0
    is_leaving: bool = False                    # the app has said that it is at its planned end
    used: list[tuple[float, float]] = field(default_factory=list)           # (t_s, bytes)
    evictions: list[tuple[float, int]] = field(default_factory=list)        # (t_s, bytes given back)
    levels: list[Spoken] = field(default_factory=list)                      # changes of level
    figures: dict[str, int] = field(default_factory=dict)                   # the app's last report
    model: str = ""                             # the guard's, as it says at its start
    oom_kills: int = -1                         # the kernel's count in its cgroup; -1: it has none
    ended: str = ""                             # oom | exit | crash | stopped, empty while it runs
    killer: str = ""                            # kernel | supervisor
    exit_code: int | None = None
    survived_s: float = 0.0

    def take_report(self, line: Mapping[str, Any]) -> None:
        """Take in a line of the app's report."""
        if line["event"] == "start":
            self.started_s, self.pid = float(line["start_s"]), int(line["pid"])
        elif line["event"] == "evicted" and line["freed_bytes"] > 0:
            self.evictions.append((float(line["t_s"]), int(line["freed_bytes"])))
        elif line["event"] == "end":
            self.is_leaving = True
        self.figures = {name: int(line[name]) for name in
                        ("hits", "misses", "cache_bytes", "leak_bytes", "evictions", "evicted_bytes")}

    def take_log(self, line: Mapping[str, Any], now_s: float) -> None:
        """Take in a line of the guard's log, read at `now_s`."""
        if line["event"] == "level":
            self.levels.append(Spoken(self.t_s(now_s), int(line["level"]), str(line["scorer"])))
        elif line["event"] == "start":
            self.model = str(line["model"])
        elif line["event"] == "end":
            self.oom_kills = int(line["oom_kills"])

    def t_s(self, now_s: float) -> float:
        """Return `now_s` as seconds since the app's start; 0 before it."""
        return 0.0 if self.started_s is None else max(0.0, now_s - self.started_s)

    def take_used(self, t_s: float, used_bytes: float) -> None:
        """Take in a reading of its memory, unless it is that of a process on its way out, which is falling."""
        if not self.is_leaving:
            self.used.append((t_s, used_bytes))

    def take_death(self) -> None:
        """Forget a last reading that fell into the kill."""
        if self.used and self.used[-1][1] < 0.9 * self.peak_used_ratio * self.limit_bytes:
            self.used.pop()

    @property
    def level(self) -> int:
        """The level the guard last told of."""
        return self.levels[-1].level if self.levels else 0

    @property
    def first_alarm(self) -> Spoken | None:
        """The first time the guard told of a level of 1 or more."""
        return next((each for each in self.levels if each.level >= 1), None)

    @property
    def used_bytes(self) -> float:
        """What was used at the last look."""
        return self.used[-1][1] if self.used else 0.0

    @property
    def peak_used_ratio(self) -> float:
        """The most that was seen used, as a share of the limit."""
        return max((used for _t_s, used in self.used), default=0.0) / self.limit_bytes

    @property
    def cache_hit_ratio(self) -> float:
        """Hits of all requests so far; 0 before the first."""
        asked = self.figures.get("hits", 0) + self.figures.get("misses", 0)
        return self.figures.get("hits", 0) / asked if asked else 0.0

    @property
    def evicted_bytes(self) -> int:
        """What the app gave back on being told."""
        return sum(freed for _t_s, freed in self.evictions)


def lead_s(unguarded: Story, guarded: Story) -> float | None:
    """Return how long before the unguarded app's death the guard first spoke, in the apps' own time."""
    first = guarded.first_alarm
    return None if first is None or unguarded.ended != "oom" else unguarded.survived_s - first.t_s


def is_shown(unguarded: Story, guarded: Story) -> bool:
    """Return whether the demo showed what it is for: killed without the guard, alive with it."""
    return unguarded.ended == "oom" and guarded.ended == "exit"
