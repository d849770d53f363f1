"""Join samples with what the other tables say of their run, and make a Run of every life."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard.learn.dataset import facts
from oomguard.learn.dataset.cleaning import Ends, clean, lives_of
from oomguard.learn.dataset.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.dataset.account import Account
    from oomguard.learn.dataset.cleaning import Samples
    from oomguard.learn.dataset.tables import Tables

    Column = NDArray[np.float64]

LEAST_SAMPLES = 2               # of a life


class Lives:
    """What is known of every run but its samples. Call `close` when all samples have been through `runs_in`."""

    def __init__(self, rows: list[dict[str, Any]], tables: Tables, account: Account) -> None:
        self._rows, self._account = rows, account
        self._devices = facts.clean_devices(tables.whole("devices").to_pylist(), account)
        number_of = {row["run_id"]: number for number, row in enumerate(rows)}
        self._kills, whole = _events(tables, "kills", number_of, account)
        self._releases, _ = _events(tables, "actions", number_of, account)
        self._has_samples, self._has_life = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        self._is_conflicting = np.array([bool(row.get("is_conflicting")) for row in rows], bool)
        self._ended: list[str] = []
        kill_s, end_s = np.full(len(rows), np.inf), np.full(len(rows), np.inf)
        for number in range(len(rows)):
            ended, end = self._end_of(number)
            self._ended.append(ended)
            (kill_s if ended == "oom" else end_s)[number] = end if end == end else np.inf
        self._ends = Ends(kill_s, end_s, tuple(whole))

    def _end_of(self, number: int) -> tuple[str, float]:
        """Return how and when a run ended, and note a kill at that time where none was recorded."""
        row, account = self._rows[number], self._account
        ended, end_s, kills_s = facts.ended_of(row, account), facts.end_s_of(row, account), self._kills.get(number, [])
        if ended != "oom":
            return ended, end_s
        if kills_s:
            return ended, kills_s[-1]
        if end_s == end_s:      # the recorder saw the end but not who was killed
            account.note("runs_kill_from_end", of=row["run_id"])
            self._kills[number] = [end_s]
            return ended, end_s
        account.note("runs_end_without_time", of=row["run_id"])
        return "unknown", math.nan

    def runs_in(self, samples: Samples) -> list[Run]:
        """Return the lives in the samples of whole runs."""
        self._has_samples[samples.run] = True
        is_conflicting = self._is_conflicting[samples.run]
        if is_conflicting.any():
            self._account.note("samples_of_conflicting_runs", int(np.count_nonzero(is_conflicting)))
            samples = samples.take(~is_conflicting)
        samples = clean(samples, self._ends, self._account)
        spans: dict[int, list[tuple[int, int]]] = {}
        for begin, end in lives_of(samples, self._ends, self._account):
            spans.setdefault(int(samples.run[begin]), []).append((begin, end))
        return [run for number, of_run in spans.items() for run in self._lives(number, of_run, samples)]

    def _lives(self, number: int, spans: list[tuple[int, int]], samples: Samples) -> list[Run]:
        """Return the lives of one run; the first keeps its name, the next are called RUN#002 and so on."""
        row, t_s = self._rows[number], samples.columns["t_s"]
        app, key = facts.app_of(row, self._account), facts.device_key(row)
        profile = facts.profile_of(row, self._devices, self._account)
        texts = {name: np.array(words, object) for name, words in samples.texts.items()}
        found = []
        for life, (begin, end) in enumerate(spans):
            if end - begin < LEAST_SAMPLES:
                self._account.note("lives_short", of=row["run_id"])
                self._account.note("samples_of_short_lives", end - begin)
                continue
            from_s = t_s[begin] if life else -math.inf
            next_s = t_s[spans[life + 1][0]] if life + 1 < len(spans) else math.inf
            kills_s, releases_s = (_between(events.get(number, []), from_s, next_s)
                                   for events in (self._kills, self._releases))
            ended, end_s = self._life_end(number, kills_s, float(t_s[end - 1]), is_last=next_s == math.inf)
            span = slice(begin, end)
            constraint, phase = (texts[name][samples.words[name][span]].tolist() for name in ("constraint", "phase"))
            found.append(Run(
                row["run_id"] if not life else f"{row['run_id']}#{life + 1:03d}", app, key[0], profile,
                {name: values[span] for name, values in samples.columns.items()},
                [word or "" for word in constraint] if None in constraint else constraint, phase, kills_s, releases_s,
                ended, end_s, facts.is_simulated(row)))
        self._has_life[number] = bool(found)
        return found

    def _life_end(self, number: int, kills_s: Column, last_s: float, *, is_last: bool) -> tuple[str, float]:
        if is_last:
            ended = self._ended[number]
            end_s = float((self._ends.kill_s if ended == "oom" else self._ends.end_s)[number])
            return ended, end_s if math.isfinite(end_s) else last_s
        return ("oom", float(kills_s[-1])) if len(kills_s) and kills_s[-1] > last_s else ("unknown", last_s)

    def close(self) -> None:
        """Note the runs that came to nothing."""
        nothing = ~self._is_conflicting
        for reason, which in (("runs_without_samples", ~self._has_samples),
                              ("runs_without_usable_samples", self._has_samples & ~self._has_life)):
            for number in np.flatnonzero(which & nothing).tolist():
                self._account.note(reason, of=self._rows[number]["run_id"])


def _between(times_s: list[float], from_s: float, next_s: float) -> Column:
    return np.array([time_s for time_s in times_s if from_s < time_s <= next_s], np.float64)


def _events(tables: Tables, name: str, number_of: dict[str, int], account: Account,
            ) -> tuple[dict[int, list[float]], list[tuple[int, float]]]:
    """Return the sorted times of kills or actions by run, and those of kills of a whole target.

    An action has two times where its duration is known: when memory was asked for, and when the hook was done.
    """
    table = tables.whole(name)
    account.note(f"{name}_doubled", account.read[name] - table.num_rows)
    flags = table["whole_target"].to_pylist() if name == "kills" else [False] * table.num_rows
    account.note("flags_missing", flags.count(None))
    times: dict[int, list[float]] = {}
    whole = []
    durations = table["duration_s"].to_pylist() if name == "actions" else [None] * table.num_rows
    for run_id, t_s, is_whole, duration_s in zip(
            table["run_id"].to_pylist(), table["t_s"].to_pylist(), flags, durations, strict=True):
        number = number_of.get(run_id)
        if number is None:
            account.note(f"{name}_without_run", of=run_id or "")
        elif t_s is None or not 0.0 <= t_s < math.inf:
            account.note(f"{name}_time_unusable", of=run_id)
        else:
            times.setdefault(number, []).append(t_s)
            if duration_s is not None and 0.0 <= duration_s < math.inf:
                times[number].append(t_s + duration_s)
            if is_whole:
                whole.append((number, t_s))
    return {number: sorted(them) for number, them in times.items()}, whole
