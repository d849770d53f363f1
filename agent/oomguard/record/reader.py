"""Read journals back: every run with its samples, actions, kills and end, and an account of what is missing."""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Callable, Iterator
from math import nan
from typing import NamedTuple

from oomguard.errors import NotPermittedError, UsageError
from oomguard.record import layout
from oomguard.record.decode import Damage, Frame, frames, read_header
from oomguard.record.layout import NUMBERS, Header
from oomguard.record.runs import ROW, Acted, JournalRun, Kill, Losses, Spell, sound
from oomguard.record.segments import CLOCK_SET_S, sequence_of

__all__ = ["JournalRun", "Losses", "Progress", "Recording", "read_journals", "segments_below"]

FILE_MAX_BYTES = 1 << 30
DEPTH_MAX = 4               # folders below the one that is named
LATEST_US = 10**16          # the year 2286

Progress = Callable[[int, int], None]       # bytes read, bytes in all


class Recording(NamedTuple):
    """What a folder of journals holds."""

    runs: list[JournalRun]      # by start, then run_id
    losses: Losses
    segments: int               # that could be read
    bytes: int                  # of them


def read_journals(path: str, progress: Progress = lambda _done, _of: None) -> Recording:
    """Return what the journals in `path`, and in folders below it, hold.

    Args:
        path: a folder, or one segment.
        progress: told bytes read and bytes in all, after each segment.

    Raises:
        UsageError: there is no journal, or none that can be read: it says why.
        NotPermittedError: the folder may not be read.
    """
    files = list(segments_below(path))
    if not files:
        raise UsageError(f"{path}: no journal there (files NNNNNNNNNN{layout.SUFFIX})")
    reading, read, done, of = _Reading(), 0, 0, sum(size for _file, size in files)
    for file, size in files:
        data, problem = _content(file)
        if data is None:
            reading.losses.refused.append(f"{file}: {problem}")
        elif reading.segment(file, data, os.stat(file).st_mtime if os.path.exists(file) else 0.0):
            read += 1
        done += size
        progress(done, of)
    if not read:
        raise UsageError(f"{path}: no journal that can be read: {'; '.join(reading.losses.refused[:3])}")
    return Recording(reading.settled(), reading.losses, read, done)


def segments_below(path: str) -> Iterator[tuple[str, int]]:
    """Yield (file, bytes) of each segment, folder by folder, in the order they were written."""
    if os.path.isfile(path):
        yield path, os.path.getsize(path)
        return
    base = path.rstrip("/").count("/")

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise NotPermittedError(f"{error.filename}: {error.strerror}")

    for folder, folders, names in os.walk(path, onerror=refuse):
        folders[:] = sorted(folders) if folder.count("/") - base < DEPTH_MAX else []
        for name in sorted(name for name in names if sequence_of(name) >= 0):
            file = os.path.join(folder, name)
            yield file, os.lstat(file).st_size if os.path.lexists(file) else 0


def _content(file: str) -> tuple[bytes | None, str]:
    """Return a file's bytes, or why there are none: it may be anything, or be deleted at this moment."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as opened:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                return None, "not a file"
            if facts.st_size > FILE_MAX_BYTES:
                return None, f"larger than {FILE_MAX_BYTES} bytes"
            return opened.read(), ""
    except OSError as error:
        return None, error.strerror or str(error)


class _Open:
    """A run as far as the segment has told of it."""

    __slots__ = ("last", "run")

    def __init__(self, run: JournalRun) -> None:
        self.run = run
        self.last: list[float] | None = None        # None: only a key can be understood


class _Reading:
    """Takes in segment after segment."""

    def __init__(self) -> None:
        self.losses = Losses()
        self._runs: dict[str, JournalRun] = {}
        self._open: dict[int, _Open] = {}
        self._actions: dict[tuple[bytes, int, int], tuple[JournalRun, int]] = {}
        self._header = Header(0, 0, 0.0, 0, b"")
        self._written_s = 0.0
        self._take = {
            layout.FACTS: self._facts, layout.KEY: self._key, layout.NARROW: self._narrow, layout.WIDE: self._wide,
            layout.ACTION: self._action, layout.ACTED: self._acted, layout.KILL: self._kill, layout.END: self._end,
            layout.LOST: self._lost}

    def segment(self, file: str, data: bytes, written_s: float) -> bool:
        """Take in a segment; return False if it was refused."""
        header, problem = read_header(data)
        if header is None:
            if data:                        # an empty one: the writer died, or the disk was full, as it began
                self.losses.refused.append(f"{file}: {problem}")
            return not data
        self._header, self._written_s = header, written_s
        self._open.clear()
        for each in frames(data):
            if isinstance(each, Damage):
                self._damage(each)
            else:
                self._frame(each)
        return True

    def _damage(self, damage: Damage) -> None:
        for run in self._open.values():
            run.last = None
        if damage.is_tail and damage.bytes < layout.PAYLOAD_MAX_BYTES:
            self.losses.torn_tails += 1
        else:
            self.losses.damaged_places += 1
            self.losses.damaged_bytes += damage.bytes

    def _frame(self, frame: Frame) -> None:
        payload = frame.payload
        try:
            (number,) = layout.RUN_NUMBER.unpack_from(payload)
            self._take[frame.kind](number, payload)
            if number in self._open:
                self._open[number].run.bytes += len(payload) + layout.FRAME_OVERHEAD_BYTES
        except (struct.error, ValueError, IndexError, ArithmeticError, RecursionError):
            self.losses.strange_frames += 1

    def _run(self, number: int, run_id: str) -> _Open:
        """Return the run of that number, from now on `run_id`."""
        found = self._open.get(number)
        if found is None or found.run.run_id != run_id:
            run = self._runs.setdefault(run_id, JournalRun(run_id))
            found = self._open[number] = _Open(run)
        found.run.written_s = max(found.run.written_s, self._written_s)
        return found

    def _facts(self, number: int, payload: bytes) -> None:
        facts = json.loads(payload[layout.RUN_NUMBER.size:])
        if not isinstance(facts, dict) or not isinstance(facts.get("run_id"), str) or not facts["run_id"]:
            raise ValueError
        opened = self._run(number, sound(facts["run_id"]))
        opened.last = None
        run = opened.run
        run.mixed |= {name for name, value in facts.items() if run.facts and run.facts.get(name) != value}
        run.facts = facts
        start_s = facts.get("start_s")
        wall_us = self._header.wall_us
        if run.started_at_us is None and wall_us > CLOCK_SET_S * 1e6 and isinstance(start_s, (int, float)):
            started_at_us = wall_us - round((self._header.boot_s - start_s) * 1e6)
            run.started_at_us = started_at_us if 0 < started_at_us < LATEST_US else None

    def _key(self, number: int, payload: bytes) -> None:
        _number, t_s, late_s, *numbers = layout.KEY_FIELDS.unpack_from(payload)
        lengths = layout.KEY_LENGTHS.unpack_from(payload, layout.KEY_FIELDS.size)
        at = layout.KEY_FIELDS.size + layout.KEY_LENGTHS.size
        texts = []
        for length in lengths:
            texts.append(None if length == layout.NO_TEXT else payload[at:at + length].decode("utf-8", "replace"))
            at += 0 if length == layout.NO_TEXT else length
        run_id, constraint, phase = texts
        if at != len(payload) or not run_id or constraint is None:
            raise ValueError
        opened = self._run(number, run_id)
        run = opened.run
        if not run.spells or run.spells[-1][1:] != (constraint, phase):
            run.spells.append(Spell(len(run), constraint, phase))
        self._sample(opened, t_s, late_s, numbers)

    def _narrow(self, number: int, payload: bytes) -> None:
        self._changes(number, payload, layout.NARROW_VALUES, is_rise=True)

    def _wide(self, number: int, payload: bytes) -> None:
        self._changes(number, payload, layout.WIDE_VALUES, is_rise=False)

    def _changes(self, number: int, payload: bytes, shapes: tuple[struct.Struct, ...], is_rise: bool) -> None:
        _number, which, t_s, late_s = layout.CHANGE_HEAD.unpack_from(payload)
        values = shapes[which.bit_count()].unpack(payload[layout.CHANGE_HEAD.size:])
        if which >> len(NUMBERS):
            raise ValueError
        opened = self._open.get(number)
        if opened is None or opened.last is None:
            self.losses.keyless_samples += 1
            return
        numbers, taken = opened.last, iter(values)
        for at in range(len(NUMBERS)):
            if which >> at & 1:
                numbers[at] = numbers[at] + next(taken) if is_rise else next(taken)
        self._sample(opened, t_s, late_s, numbers)

    def _sample(self, opened: _Open, t_s: float, late_s: float, numbers: list[float]) -> None:
        run = opened.run
        run.rows += ROW.pack(t_s, late_s, *numbers)
        opened.last = numbers
        if run.ended != "unknown":          # we had stopped looking, and came back
            run.ended, run.ended_after_s = "unknown", nan

    def _known(self, number: int) -> JournalRun | None:
        opened = self._open.get(number)
        if opened is None:
            self.losses.orphaned_events += 1
        return None if opened is None else opened.run

    def _action(self, number: int, payload: bytes) -> None:
        _number, ticket, t_s, level, requested_bytes, length = layout.ACTION_FIELDS.unpack_from(payload)
        run = self._known(number)
        names = payload[layout.ACTION_FIELDS.size:]
        key = self._header.session, number, ticket
        if run is not None and key not in self._actions:    # after a full disk an event may be there twice
            rule, hook = (part.decode("utf-8", "replace") for part in (names[:length], names[length:]))
            self._actions[key] = run, len(run.actions)
            run.actions.append(Acted(t_s, rule, hook, level, requested_bytes))

    def _acted(self, number: int, payload: bytes) -> None:
        _number, ticket, freed_bytes, duration_s = layout.ACTED_FIELDS.unpack(payload)
        found = self._actions.get((self._header.session, number, ticket))
        if found is None:
            self.losses.orphaned_events += 1
            return
        run, at = found
        run.actions[at] = run.actions[at]._replace(freed_bytes=freed_bytes, duration_s=duration_s)

    def _kill(self, number: int, payload: bytes) -> None:
        _number, t_s, pid, killer, is_whole = layout.KILL_FIELDS.unpack(payload)
        run, kill = self._known(number), Kill(t_s, pid, layout.KILLERS[killer], bool(is_whole))
        if run is not None and kill not in run.kills[-1:]:
            run.kills.append(kill)

    def _end(self, number: int, payload: bytes) -> None:
        _number, t_s, pid, killer, ended = layout.END_FIELDS.unpack(payload)
        run, kill = self._known(number), Kill(t_s, pid, layout.KILLERS[killer], True)
        if run is not None:
            run.ended, run.ended_after_s = layout.ENDS[ended], t_s
            if run.ended == "oom":
                run.killed(kill)

    def _lost(self, number: int, payload: bytes) -> None:
        _number, samples, _errno = layout.LOST_FIELDS.unpack(payload)
        run = self._known(number)
        self.losses.unwritten_samples += samples
        if run is not None:
            run.lost_samples += samples

    def settled(self) -> list[JournalRun]:
        """Return the runs that anything is known of, by start."""
        return sorted(self._runs.values(), key=lambda run: (run.started_at_us or 0, run.run_id))
