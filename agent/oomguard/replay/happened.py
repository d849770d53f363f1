"""What happened, as events: from recordings, from a log file, or from the running guard; and how they are filtered."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from oomguard.errors import UsageError
from oomguard.forest import HORIZONS_S
from oomguard.replay.recording import Acted, RecordedRun
from oomguard.units import format_bytes, format_seconds

LINE_MAX_BYTES = 64 * 1024
BRIEF_S = 0.05          # what took less took no time: it would read 0.0 s
ALIASES = {"action": "release", "actions": "release", "releases": "release", "kills": "kill", "levels": "level",
           "decisions": "decision", "ends": "end"}
ERRORS = ("error", "errors")
_PAIR = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)=("(?:[^"\\]|\\.)*"|\S*)')
_ESCAPE = re.compile(r"\\(n|r|t|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.S)

Fields = dict[str, object]


class Event(NamedTuple):
    """One thing that happened."""

    time_s: float               # UTC, seconds since 1970; NaN where unknown
    name: str
    target: str
    fields: Fields              # everything else, as it was told

    def plain(self) -> Fields:
        """Return the event as one flat JSON object."""
        shown: Fields = {"time": None if self.time_s != self.time_s else
                         datetime.fromtimestamp(self.time_s).astimezone().isoformat(timespec="milliseconds"),
                         "event": self.name}
        if self.target:
            shown["target"] = self.target
        return shown | {key: None if value != value else value for key, value in self.fields.items()}


class Filter(NamedTuple):
    """Which events are wanted; empty and infinite mean all."""

    names: frozenset[str] = frozenset()
    target: str = ""
    since_s: float = float("-inf")

    def wants(self, event: Event) -> bool:
        """Return whether an event is wanted; one whose time is not known is never too old."""
        if self.target and self.target not in (event.target, event.fields.get("run_id")):
            return False
        if event.time_s < self.since_s:
            return False
        is_error = event.fields.get("severity") in ("error", "critical")
        return not self.names or event.name in self.names or ("error" in self.names and is_error)


def filter_of(names: str, target: str, since: str, last_s: float, now_s: float) -> Filter:
    """Return the filter in the words of a command line. Raises UsageError."""
    wanted = frozenset(ALIASES.get(name, name) if name not in ERRORS else "error"
                       for name in (each.strip() for each in names.split(",")) if name)
    since_s = float("-inf")
    if since:
        try:
            since_s = datetime.fromisoformat(since).timestamp()
        except (ValueError, OverflowError):
            raise UsageError(f"--since: {since!r} is no time like 2026-11-22T14:30 (or 2026-11-22T14:30:00+01:00)"
                             ) from None
    return Filter(wanted, target, max(since_s, now_s - last_s))


# -- recordings --------------------------------------------------------------------------------------------------

def of_runs(runs: Iterable[RecordedRun]) -> list[Event]:
    """Return the decisions, releases, kills and ends of recorded runs, oldest first."""
    from oomguard.replay.compare import first_actions

    events = []
    for run in runs:
        told: list[tuple[float, str, Fields]] = [
            (_decided_s(run, action), "decision", {"rule": action.rule,
                                                   "level": action.level if action.level >= 0 else None})
            for action in first_actions(run.actions)]
        told += [(action.t_s, "release", {
            "rule": action.rule, "hook": action.hook, "requested_bytes": action.requested_bytes,
            "freed_bytes": action.freed_bytes, "duration_s": action.duration_s}) for action in run.actions]
        told += [(kill.t_s, "kill", {"killer": kill.killer, "pid": kill.pid or None, "severity": "error",
                                     "whole_target": kill.is_whole_target}) for kill in run.kills]
        if run.ended_after_s == run.ended_after_s:
            worse: Fields = {"severity": "error"} if run.ended in ("oom", "crash") else {}
            told.append((run.ended_after_s, "end", {"ended": run.ended} | worse))
        events += [Event(run.started_at_s + t_s, name, run.app, {"run_id": run.run_id, "t_s": t_s} | fields)
                   for t_s, name, fields in told]
    return sorted(events, key=lambda event: (event.time_s, str(event.fields["run_id"])))


def _decided_s(run: RecordedRun, action: Acted) -> float:
    """Return the time of the sample that an action was decided on: the guard read once more before it asked."""
    at = int(run.t_s.searchsorted(action.t_s, side="right")) - 1
    return float(run.t_s[at]) if at >= 0 else action.t_s


# -- logs --------------------------------------------------------------------------------------------------------

def of_lines(lines: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events in a log that the guard wrote, JSON or logfmt; other lines are passed over."""
    for line in lines:
        found = _line_fields(line[:LINE_MAX_BYTES].decode("utf-8", "replace").strip())
        if found is not None:
            yield of_fields(found)


def of_fields(found: Mapping[str, object], time_s: float = float("nan")) -> Event:
    """Return the event in a line's fields; `time_s` is when it was heard, where the line does not say when it was."""
    fields = {key: value for key, value in found.items() if key not in ("time", "event", "target", "v")}
    told = found.get("time")
    if isinstance(told, str):
        with suppress(ValueError, OverflowError):       # not our kind of time: it is unknown, what is said is not
            time_s = datetime.fromisoformat(told).timestamp()
    return Event(time_s, str(found.get("event", "")), str(found.get("target") or ""), fields)


def _line_fields(line: str) -> Fields | None:
    at = line.find("{")
    if at >= 0 and line.endswith("}") and '"event"' in line:
        try:
            found = json.loads(line[at:])
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and isinstance(found.get("event"), str):
            return found
    pairs: Fields = {key: _value(text) for key, text in _PAIR.findall(line)}
    return pairs if isinstance(pairs.get("event"), str) else None


def _value(text: str) -> object:
    if text.startswith('"'):
        return _ESCAPE.sub(_unescaped, text[1:-1])
    if text in ("null", "true", "false"):
        return {"null": None, "true": True, "false": False}[text]
    try:
        return int(text) if text.lstrip("-").isdigit() and len(text) < 20 else float(text)
    except ValueError:
        return text


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if number <= 0x10FFFF else "\ufffd"
    return {"n": "\n", "r": "\r", "t": "\t"}.get(code, code)


# -- for people --------------------------------------------------------------------------------------------------

def one_line(event: Event) -> str:
    """Return an event as people read it, on one line; nothing in it is escaped yet."""
    when = "--------- --:--:--" if event.time_s != event.time_s else time.strftime("%d %b %Y %H:%M:%S",
                                                                                 time.localtime(event.time_s))
    known = _SAID.get(event.name)
    try:
        said = "" if known is None else known(event.fields)
    except (KeyError, TypeError, ValueError):
        said = ""                       # of another version, or odd: shown as it came
    where = event.target or str(event.fields.get("run_id", ""))
    return f"{when}  {where:<16}  {event.name:<10}  {said or _as_told(event.fields)}".rstrip()


def _as_told(fields: Fields) -> str:
    return " ".join(f"{key}={value}" for key, value in fields.items() if key != "severity" and value is not None)


def _number(fields: Fields, key: str) -> float:
    value = fields.get(key)
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _level(fields: Fields) -> str:
    headroom_bytes, limit_bytes = _number(fields, "headroom_bytes"), _number(fields, "limit_bytes")
    ratio = headroom_bytes / limit_bytes if limit_bytes > 0 else float("nan")
    chances = ((horizon_s, _number(fields, f"p{horizon_s}")) for horizon_s in HORIZONS_S)
    soon = next((f", a kill within {horizon_s // 60} min {p:.0%}" for horizon_s, p in chances if p >= 0.5), "")
    left = f", {format_bytes(headroom_bytes)} left ({ratio:.0%})" if ratio == ratio else ""
    return f"{fields['was']} -> {fields['level']}{soon}{left}"


def _decision(fields: Fields) -> str:
    level = fields.get("level")
    because = f": {fields['because']}" if fields.get("because") else "" if level is None else f" at level {level}"
    return f"{fields['rule']!r}{because}"


def _release(fields: Fields) -> str:
    asked = fields.get("requested_bytes")
    amount = asked if isinstance(asked, str) else format_bytes(_number(fields, "requested_bytes"))
    said = f"{fields['hook']} was asked for {amount} and gave {format_bytes(_number(fields, 'freed_bytes'))}"
    took_s = _number(fields, "duration_s")
    return said + (f" in {format_seconds(took_s)}" if took_s >= BRIEF_S else "") + (
        f": {fields['why']}" if fields.get("why") else "")


def _kill(fields: Fields) -> str:
    many = f" {fields['kills']} times" if _number(fields, "kills") > 1 else ""
    pid = f", process {fields['pid']}" if fields.get("pid") else ""
    after = _number(fields, "t_s")
    return f"killed{many} by the {fields['killer']}{pid}{f' after {format_seconds(after)}' if after == after else ''}"


def _end(fields: Fields) -> str:
    after_s = _number(fields, "t_s")
    return f"{fields['ended']}{f' after {format_seconds(after_s)}' if after_s == after_s else ''}"


_SAID = {"level": _level, "decision": _decision, "release": _release, "kill": _kill, "end": _end}
