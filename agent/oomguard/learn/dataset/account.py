"""The account of a reading: whatever was left out or repaired, under its reason, with its count."""

from __future__ import annotations

from collections import Counter

EXAMPLES_MOST = 5

# What a count is of stands before the first underscore. Every sample read is either kept or counted in exactly one of
# the reasons that begin with `samples_`.
DROPPED = {
    "samples_without_run": "their run_id is unknown, or has no row in runs",
    "samples_of_conflicting_runs": "their run_id is told as different runs",
    "samples_time_unusable": "t_s is unknown, negative, or beyond 1e12 s",
    "samples_limit_unknown": "the limit is unknown, `max`, or beyond 2^60 bytes: nothing there can kill",
    "samples_limit_not_positive": "the limit is 0 or negative",
    "samples_headroom_unknown": "the headroom is unknown",
    "samples_at_or_after_kill": "taken at or after the kill that ended the run",
    "samples_after_end": "taken more than 1 s after the run's end",
    "samples_doubled": "the same reading at the same moment",
    "samples_contradicting": "another reading at the same moment: the one with the least headroom was kept",
    "samples_of_short_lives": "the life they belong to has fewer than 2 samples",
    "runs_doubled": "the same row again",
    "runs_conflicting": "the same run_id for runs of different apps, devices, boots or starts: none was kept",
    "runs_without_id": "run_id is unknown",
    "runs_without_samples": "not one sample was read",
    "runs_without_usable_samples": "no life in them has 2 usable samples",
    "lives_short": "fewer than 2 samples",
    "kills_doubled": "the same row again",
    "kills_without_run": "their run_id is unknown, or has no row in runs",
    "kills_time_unusable": "t_s is unknown or negative",
    "actions_doubled": "the same row again",
    "actions_without_run": "their run_id is unknown, or has no row in runs",
    "actions_time_unusable": "t_s is unknown or negative",
    "files_named_twice": "two sources name the same file: read once",
    "files_no_table": "Parquet files whose name is no table's",
}
REPAIRED = {
    "samples_out_of_order": "stood after a later one of their run: sorted by time",
    "cells_nan": "NaN where NULL means unknown: taken as unknown",
    "cells_not_numbers": "infinite, or text that is no number (such as `max`): taken as unknown",
    "cells_negative": "a negative size or count: taken as unknown",
    "lives_after_gap": "more than 300 s without a sample: the next life begins, what went before ended unknown",
    "lives_after_reset": "a cumulative counter fell below half: a restart, so the next life begins",
    "lives_after_kill": "samples go on after a kill of the whole target: the next life begins",
    "runs_retold": "told twice, once with less known of their end: the fuller row was kept",
    "runs_end_without_time": "ended in a kill that nobody timed: end taken as unknown",
    "runs_end_unknown": "ended in a word that is none of oom, exit, crash, stopped, unknown: taken as unknown",
    "runs_kill_from_end": "ended in a kill without a row in kills: the end is its time",
    "runs_app_unknown": "no app told: `unknown`",
    "runs_device_unknown": "their device type and SDK version have no row in devices: its facts are unknown",
    "runs_bound_kind_unknown": "bound_kind is none of evicts, refuses, aborts: taken as unknown",
    "facts_conflicting": "facts of a device type and SDK version that its rows disagree on: the commonest was kept",
    "facts_not_positive": "a fact of a device or a run that is zero, negative or no number: taken as unknown",
    "flags_missing": "whole_target is unknown: taken as False",
    "columns_absent": "columns that a file does not have: unknown throughout",
}


class Account:
    """Counts by reason, and by what they are of: a column, a run."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.of: dict[str, Counter[str]] = {}
        self.read: dict[str, int] = {}          # rows by table
        self.files: dict[str, int] = {}         # files by table
        self.bytes = 0                          # of all files

    def note(self, reason: str, count: int = 1, of: str = "") -> None:
        """Add `count` to a reason of DROPPED or REPAIRED.

        Args:
            reason: one of their keys.
            count: 0 is not noted.
            of: the column, run or file it concerns; only the first EXAMPLES_MOST by name are shown.
        """
        if reason not in DROPPED and reason not in REPAIRED:
            raise KeyError(reason)
        if count:
            self.counts[reason] += count
            if of:
                self.of.setdefault(reason, Counter())[of] += count

    def dropped(self) -> dict[str, int]:
        """Return what was left out, by reason."""
        return {reason: self.counts[reason] for reason in DROPPED if self.counts[reason]}

    def repaired(self) -> dict[str, int]:
        """Return what was repaired, by reason."""
        return {reason: self.counts[reason] for reason in REPAIRED if self.counts[reason]}

    def examples(self) -> dict[str, dict[str, int]]:
        """Return, by reason, what the largest counts are of."""
        return {reason: dict(sorted(them.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES_MOST])
                for reason, them in sorted(self.of.items())}

    def samples_dropped(self) -> int:
        """Return how many samples were read and not kept."""
        return sum(count for reason, count in self.dropped().items() if reason.startswith("samples_"))
