"""Clean the samples of many runs at once: cells made unknown, rows left out, lives told apart, each with its count."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from oomguard.learn.dataset.run import NUMBERS

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from oomguard.learn.dataset.account import Account

    Column = NDArray[np.float64]
    Whole = NDArray[np.int64]
    Which = NDArray[np.bool_]

TIME_MOST_S = 1e12              # as the window: it refuses what is beyond
LIMIT_MOST_BYTES = 2.0 ** 60    # "max" of cgroup v2 and the huge number of v1 are beyond it: no limit
SIZE_MOST_BYTES = 1e30          # as the window
KILL_MARGIN_S = 1e-9
END_MARGIN_S = 1.0
GAP_S = 300.0                   # after it nothing of the window is left
RESET_RATIO = 0.5
COUNTERS = ("psi_some_us", "psi_full_us", "refaults", "major_faults")
SIGNED = ("headroom_bytes", "limit_bytes")      # headroom may be negative for a moment; limits have their own reasons


@dataclass(slots=True)
class Samples:
    """Rows of many runs, in the order of run and time."""

    run: Whole                          # its number
    row: Whole                          # rising as recorded
    columns: dict[str, Column]          # t_s and NUMBERS
    words: dict[str, Whole]             # constraint and phase, as indices of `texts`
    texts: dict[str, list[str | None]]  # sorted; the last one, None, is unknown

    def __len__(self) -> int:
        return len(self.run)

    def take(self, which: NDArray[np.intp] | Which | slice) -> Samples:
        """Return some of the rows."""
        return Samples(self.run[which], self.row[which], {name: values[which] for name, values in self.columns.items()},
                       {name: codes[which] for name, codes in self.words.items()}, self.texts)


@dataclass(frozen=True, slots=True)
class Ends:
    """What is known of the end of every run, by its number."""

    kill_s: Column          # the kill that ended it, else inf
    end_s: Column           # inf where unknown
    kills: tuple[tuple[int, float], ...]    # (run, t_s) of every kill of a whole target, sorted


def samples_of(table: pa.Table, account: Account) -> Samples:
    """Return a table of whole runs (tables.Tables.samples), its cells cleaned."""
    run = table["run"].to_numpy()
    row = table["recorded"].to_numpy()
    is_later = (run[1:] == run[:-1]) & (row[1:] < row[:-1])
    account.note("samples_out_of_order", int(np.count_nonzero(is_later)))
    words, texts = {}, {}
    for name in ("constraint", "phase"):
        words[name], texts[name] = _codes(table, name)
    columns = {name: _cells(table, name, account) for name in ("t_s", *NUMBERS)}
    return Samples(run, row, columns, words, texts)


def _cells(table: pa.Table, name: str, account: Account) -> Column:
    column = table[name]
    values: Column = column.to_numpy()
    values = values if values.flags.writeable else values.copy()
    account.note("cells_nan", int(np.count_nonzero(np.isnan(values))) - column.null_count, name)
    if name == "t_s":
        return values
    is_infinite = np.isinf(values)
    if is_infinite.any():
        account.note("cells_not_numbers", int(np.count_nonzero(is_infinite)), name)
        values[is_infinite] = np.nan
    if name not in SIGNED:
        is_negative = values < 0
        if is_negative.any():
            account.note("cells_negative", int(np.count_nonzero(is_negative)), name)
            values[is_negative] = np.nan
    return values


def _codes(table: pa.Table, name: str) -> tuple[Whole, list[str | None]]:
    """Return a text column as indices of its sorted words: the same for the same rows, however they came in."""
    encoded = table[name].combine_chunks().dictionary_encode()
    words: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(words)), key=words.__getitem__)
    rank = np.empty(len(words) + 1, np.int64)
    rank[order] = np.arange(len(words))
    rank[-1] = len(words)
    codes = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    return rank[codes], [*(words[at] for at in order), None]


def clean(samples: Samples, ends: Ends, account: Account) -> Samples:
    """Return the samples that can be learned from: no doubt about time, limit and headroom, before the end, once."""
    t_s, limit, headroom = (samples.columns[name] for name in ("t_s", "limit_bytes", "headroom_bytes"))
    kill_s, end_s = ends.kill_s[samples.run], ends.end_s[samples.run]
    is_kept = np.ones(len(samples), bool)
    with np.errstate(invalid="ignore"):
        for reason, is_bad in (
                ("samples_time_unusable", ~((t_s >= 0) & (t_s < TIME_MOST_S))),
                ("samples_limit_unknown", np.isnan(limit) | (limit >= LIMIT_MOST_BYTES)),
                ("samples_limit_not_positive", limit <= 0),
                ("samples_headroom_unknown", ~(np.abs(headroom) < SIZE_MOST_BYTES)),
                ("samples_at_or_after_kill", t_s >= kill_s - KILL_MARGIN_S),
                ("samples_after_end", t_s > end_s + END_MARGIN_S)):
            if is_bad.any():
                account.note(reason, int(np.count_nonzero(is_kept & is_bad)))
                is_kept &= ~is_bad
    return _once(samples if is_kept.all() else samples.take(is_kept), account)


def _once(samples: Samples, account: Account) -> Samples:
    """Keep one reading per moment: of several the one with the least headroom, so that no order decides."""
    is_again = _same_moment(samples)
    if not is_again.any():
        return samples
    columns, words = samples.columns, samples.words
    order = np.lexsort([words["phase"], words["constraint"], *(columns[name] for name in reversed(NUMBERS)),
                        columns["headroom_bytes"], columns["t_s"], samples.run])
    samples = samples.take(order)
    is_again = _same_moment(samples)
    again = np.flatnonzero(is_again)
    is_same = np.ones(len(again), bool)
    for values in (*(samples.columns[name] for name in NUMBERS), *samples.words.values()):
        before, here = values[again - 1], values[again]
        is_same &= (before == here) | ((before != before) & (here != here))
    account.note("samples_doubled", int(np.count_nonzero(is_same)))
    account.note("samples_contradicting", int(np.count_nonzero(~is_same)))
    return samples.take(~is_again)


def _same_moment(samples: Samples) -> Which:
    t_s = samples.columns["t_s"]
    is_again = np.zeros(len(samples), bool)
    is_again[1:] = (samples.run[1:] == samples.run[:-1]) & (t_s[1:] == t_s[:-1])
    return is_again


def lives_of(samples: Samples, ends: Ends, account: Account) -> list[tuple[int, int]]:
    """Return [begin, end) of every life, in order: a run that spans a restart has several."""
    t_s, n = samples.columns["t_s"], len(samples)
    if not n:
        return []
    is_new = np.ones(n, bool)
    is_new[1:] = samples.run[1:] != samples.run[:-1]
    is_killed = np.zeros(n, bool)
    for number, kill_s in ends.kills:
        low, high = np.searchsorted(samples.run, [number, number + 1])
        at = low + int(np.searchsorted(t_s[low:high], kill_s))
        is_killed[at:at + 1] |= low < at < high
    is_gap, is_reset = np.zeros(n, bool), np.zeros(n, bool)
    with np.errstate(invalid="ignore"):
        is_gap[1:] = np.diff(t_s) > GAP_S
        for name in COUNTERS:
            values = samples.columns[name]
            is_reset[1:] |= values[1:] < RESET_RATIO * values[:-1]
    for why, is_here in (("kill", is_killed), ("gap", is_gap), ("reset", is_reset)):
        account.note(f"lives_after_{why}", int(np.count_nonzero(is_here & ~is_new)))
        is_new |= is_here
    edges = [*np.flatnonzero(is_new).tolist(), n]
    return list(pairwise(edges))
