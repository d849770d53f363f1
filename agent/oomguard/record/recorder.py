"""The recorder of one run: turns samples and events into frames, a sample into what has changed since the last."""

from __future__ import annotations

from binascii import crc32
from itertools import compress
from operator import ne

from oomguard.record.layout import (
    ACTED,
    ACTED_FIELDS,
    ACTION,
    ACTION_FIELDS,
    CRC,
    END,
    END_FIELDS,
    ENDS,
    FACTS,
    HEAD,
    KEY,
    KEY_FIELDS,
    KEY_LENGTHS,
    KILL,
    KILL_FIELDS,
    KILLERS,
    LOST,
    LOST_FIELDS,
    MARKER,
    NARROW,
    NARROW_FRAMES,
    NARROW_VALUES,
    NO_TEXT,
    NUMBERS,
    RUN_NUMBER,
    SAMPLES_PER_KEY,
    WIDE,
    WIDE_FRAMES,
    clipped,
    framed,
)
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.record.facts import RunFacts
    from oomguard.record.journal import Journal
    from oomguard.sense.sample import Sample

_PLACES = tuple(range(len(NUMBERS)))
_LENGTHS = tuple(each.size - HEAD.size for each in NARROW_FRAMES), tuple(each.size - HEAD.size for each in WIDE_FRAMES)


class RunRecorder:
    """Records one run. Nothing here fails or waits: what the disk refuses is counted by the journal."""

    __slots__ = ("_constraint", "_generation", "_journal", "_last", "_number", "_phase", "_tickets", "_until_key",
                 "facts", "lost_samples")

    def __init__(self, journal: Journal, number: int, facts: RunFacts) -> None:
        """Made by `Journal.run`."""
        self._journal, self._number, self.facts = journal, number, facts
        self._generation, self._until_key, self._tickets = -1, 0, 0
        self._last: tuple[float, ...] = ()
        self._constraint = ""
        self._phase: str | None = None
        self.lost_samples = 0           # and not yet written down as lost

    def sample(self, sample: Sample) -> None:
        """Record a tick's sample (about 2 us)."""
        journal = self._journal
        if journal.is_paused:
            journal.lose(self)
            return
        if self._generation != journal.generation:
            self.declare_if_new()
        now = sample[2:15] + sample[16:17]          # in the order of layout.NUMBERS
        if self._until_key <= 0 or sample.constraint != self._constraint or sample.phase != self._phase:
            journal.add(self._key(sample, now), self)
        else:
            journal.add(self._changes(sample, now), self)
        self._until_key -= 1
        self._last = now

    def action(self, t_s: float, rule: str, hook: str, level: int, requested_bytes: float) -> int:
        """Record that a hook is being asked; return a ticket for `acted`.

        Written before its outcome is known: what was done just before a crash is what people ask about.
        """
        self._tickets += 1
        names = clipped(rule), clipped(hook)
        self._event(ACTION, ACTION_FIELDS.pack(self._number, self._tickets & 0xFFFFFFFF, t_s, level, requested_bytes,
                                               len(names[0])) + names[0] + names[1])
        return self._tickets

    def acted(self, ticket: int, freed_bytes: float, duration_s: float) -> None:
        """Record what an action gave (NaN: not known) and how long it was under way, as the loop saw it."""
        self._event(ACTED, ACTED_FIELDS.pack(self._number, ticket & 0xFFFFFFFF, freed_bytes, duration_s))

    def kill(self, t_s: float, pid: int = -1, killer: str = "kernel", *, whole_target: bool = False) -> None:
        """Record a kill inside the run; pid -1 where it is not known. The kill that ends a run is told by `end`."""
        self._event(KILL, KILL_FIELDS.pack(self._number, t_s, pid, KILLERS.index(killer), whole_target))

    def end(self, ended: str, t_s: float, pid: int = -1, killer: str = "kernel") -> None:
        """Record how and when the run ended: oom (by whom), exit, crash, stopped (we stopped looking), unknown."""
        self._event(END, END_FIELDS.pack(self._number, t_s, pid, KILLERS.index(killer), ENDS.index(ended)))

    def change(self, facts: RunFacts) -> None:
        """Take new facts for the rest of the run: rules or a model were reloaded."""
        self.facts, self._generation = facts, -1

    def declare_if_new(self) -> None:
        """Write who this run is, into each new segment, and what could not be written before it."""
        if self._generation == self._journal.generation:
            return
        self._generation, self._until_key = self._journal.generation, 0
        self._journal.add(self._frame(FACTS, RUN_NUMBER.pack(self._number) + self.facts.pack()), None)
        if self.lost_samples:
            lost, self.lost_samples = min(self.lost_samples, 0xFFFFFFFF), 0
            payload = LOST_FIELDS.pack(self._number, lost, self._journal.pause_errno & 0xFFFF)
            self._journal.add_loss(self._frame(LOST, payload), self, lost)

    def _event(self, kind: int, payload: bytes) -> None:
        self._journal.add_event(self, kind, payload)

    def _frame(self, kind: int, payload: bytes) -> bytes:
        return framed(kind, payload, self._journal.seed)

    def _key(self, sample: Sample, now: tuple[float, ...]) -> bytes:
        self._until_key, self._constraint, self._phase = SAMPLES_PER_KEY, sample.constraint, sample.phase
        run_id, constraint = clipped(self.facts.run_id, 255), clipped(sample.constraint)
        phase = b"" if sample.phase is None else clipped(sample.phase)
        lengths = len(run_id), len(constraint), NO_TEXT if sample.phase is None else len(phase)
        # Two calls: CPython 3.11 keeps up to 2,000 argument tuples of length 20 and never takes one back (0.4 MB).
        return self._frame(KEY, KEY_FIELDS.pack(self._number, sample.t_s, sample.late_s, *now)
                           + KEY_LENGTHS.pack(*lengths) + run_id + constraint + phase)

    def _changes(self, sample: Sample, now: tuple[float, ...]) -> bytes:
        last = self._last
        which, is_narrow = 0, True
        rises = []
        for at in compress(_PLACES, map(ne, last, now)):    # NaN differs from NaN: sorted out below
            rise = now[at] - last[at]
            if last[at] + rise != now[at]:
                if now[at] != now[at] and last[at] != last[at]:
                    continue
                is_narrow = False
            which |= 1 << at
            rises.append(rise)
        n = len(rises)
        if is_narrow:
            values = NARROW_VALUES[n]
            try:
                is_narrow = values.unpack(values.pack(*rises)) == tuple(rises)
            except OverflowError:           # beyond float32
                is_narrow = False
        if is_narrow:
            body = NARROW_FRAMES[n].pack(MARKER, NARROW, _LENGTHS[0][n], self._number, which, sample.t_s,
                                         sample.late_s, *rises)
        else:
            body = WIDE_FRAMES[n].pack(MARKER, WIDE, _LENGTHS[1][n], self._number, which, sample.t_s,
                                       sample.late_s, *[now[at] for at in _PLACES if which >> at & 1])
        return body + CRC.pack(crc32(body, self._journal.seed))
