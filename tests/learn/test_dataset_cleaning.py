"""What is left out or repaired, and that it is counted."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from oomguard.learn.dataset import Account, read_recordings
from oomguard.learn.label.labels import UNLABELLED, labels_of

from .recorded import record, run_row, sample, steady


def read(folder):
    account = Account()
    return read_recordings(folder, account), account


def broken(tmp_path, row, **more):
    """Return how a recording of ten good samples reads with one more."""
    return read(record(tmp_path, [*steady(), row], **more))


@pytest.mark.parametrize(("row", "reason"), [
    (sample("r", None), "samples_time_unusable"),
    (sample("r", math.nan), "samples_time_unusable"),
    (sample("r", -1.0), "samples_time_unusable"),
    (sample("r", 1e12), "samples_time_unusable"),
    (sample("r", 20.0, limit=None), "samples_limit_unknown"),
    (sample("r", 20.0, limit=2**63 - 4096), "samples_limit_unknown"),
    (sample("r", 20.0, limit=0), "samples_limit_not_positive"),
    (sample("r", 20.0, limit=-1), "samples_limit_not_positive"),
    (sample("r", 20.0, headroom=None), "samples_headroom_unknown"),
    (sample("r", 1001.5), "samples_after_end"),
    (sample("r", 9.0), "samples_doubled"),
    (sample("r", 9.0, headroom=51), "samples_contradicting"),
    (sample("nobody", 20.0), "samples_without_run"),
    (sample(None, 20.0), "samples_without_run"),
])
def test_a_sample_that_cannot_be_used_is_left_out_and_counted(tmp_path, row, reason):
    """The ten good ones stay, the reason has its count, and read = kept + left out."""
    (run,), account = broken(tmp_path, row)
    assert run.columns["headroom_bytes"].tolist() == [50.0] * 10
    assert account.dropped() == {reason: 1}
    assert account.read["samples"] == 10 + account.samples_dropped()


@pytest.mark.parametrize(("column", "value", "repair"), [
    ("used_bytes", -1, "cells_negative"), ("psi_some_us", -1, "cells_negative"), ("late_s", math.nan, "cells_nan"),
    ("late_s", math.inf, "cells_not_numbers"), ("late_s", -0.5, "cells_negative")])
def test_a_cell_that_says_nothing_is_unknown_and_counted(tmp_path, column, value, repair):
    """The rest of the row is kept."""
    (run,), account = broken(tmp_path, sample("r", 20.0, **{column: value}))
    assert len(run.t_s) == 11
    assert math.isnan(run.columns[column][-1])
    assert account.repaired() == {repair: 1}
    assert account.of[repair] == {column: 1}


def test_headroom_may_be_negative_for_a_moment(tmp_path):
    """It is what a target just before its kill looks like."""
    (run,), account = broken(tmp_path, sample("r", 20.0, headroom=-3))
    assert run.columns["headroom_bytes"][-1] == -3.0
    assert (account.dropped(), account.repaired()) == ({}, {})


def test_a_limit_of_max_is_no_limit(tmp_path):
    """The kernel's own word in a column of text; numbers in it are read as such, and the cell is counted."""
    rows = [sample("r", float(t), limit="max" if t > 4 else "100") for t in range(10)]
    (run,), account = read(record(tmp_path, rows, types={"limit_bytes": pa.string()}))
    assert run.columns["limit_bytes"].tolist() == [100.0] * 5
    assert account.dropped() == {"samples_limit_unknown": 5}
    assert account.repaired() == {"cells_not_numbers": 5}


def test_of_two_readings_at_one_moment_the_one_with_less_headroom_is_kept(tmp_path):
    """Whatever their order in the file."""
    rows = [sample("r", 0.0, headroom=60), sample("r", 1.0, headroom=40), sample("r", 1.0, headroom=30)]
    for place, samples in (("a", rows), ("b", rows[::-1])):
        (run,), account = read(record(tmp_path / place, samples))
        assert run.columns["headroom_bytes"].tolist() == [60.0, 30.0]
        assert account.dropped() == {"samples_contradicting": 1}


def test_time_going_backwards_is_sorted_and_counted(tmp_path):
    """Rows after a later one of their run are put where their time belongs."""
    (run,), account = read(record(tmp_path, steady("r", [0, 1, 5, 2, 3, 9])))
    assert run.t_s.tolist() == [0, 1, 2, 3, 5, 9]
    assert account.repaired() == {"samples_out_of_order": 1}


@pytest.mark.parametrize(("gap_s", "lives"), [(300.0, 1), (300.5, 2)])
def test_a_gap_longer_than_the_window_begins_another_life(tmp_path, gap_s, lives):
    """Nothing of the window is left after it, and nobody knows what happened in it."""
    samples = steady("r", range(600)) + steady("r", [599 + gap_s + t for t in range(100)])
    runs, account = read(record(tmp_path, samples, runs=[run_row(ended="oom", after_s=2000.0)], kills=[("r", 1000.0)]))
    assert [run.run_id for run in runs] == ["r", "r#002"][:lives]
    assert account.repaired().get("lives_after_gap", 0) == lives - 1
    assert runs[-1].ended_in_kill
    if lives == 2:
        assert (runs[0].ended, runs[0].end_s, runs[0].kills_s.tolist()) == ("unknown", 599.0, [])
        assert (labels_of(runs[0])[300:] == UNLABELLED).all()
        assert runs[1].start_s == 599 + gap_s


@pytest.mark.parametrize(("after", "lives"), [(40, 2), (50, 1), (100, 1)])
def test_counters_that_begin_anew_are_a_restart(tmp_path, after, lives):
    """A counter falls below half of what it stood at: another life; a lesser fall is noise of the kernel's."""
    samples = steady("r", range(10), refaults=100) + steady("r", range(10, 20), refaults=after)
    runs, account = read(record(tmp_path, samples))
    assert [len(run.t_s) for run in runs] == [20 // lives] * lives
    assert account.repaired() == ({"lives_after_reset": 1} if lives == 2 else {})


@pytest.mark.parametrize(("is_whole", "lives"), [(True, 2), (False, 1), (None, 1)])
def test_samples_after_a_kill_of_the_whole_target_are_another_life(tmp_path, is_whole, lives):
    """The first life ends in that kill. A missing flag is False: a part was killed, and the run goes on."""
    kills = [{"run_id": "r", "t_s": 10.0, "whole_target": is_whole}]
    runs, account = read(record(tmp_path, steady("r", range(20)), kills=kills))
    assert [(run.ended, run.end_s, run.kills_s.tolist()) for run in runs] == [
        ("oom", 10.0, [10.0]), ("stopped", 1000.0, [])][:lives] if lives == 2 else [("stopped", 1000.0, [10.0])]
    assert runs[0].t_s[-1] == (9.0 if lives == 2 else 19.0)
    assert account.repaired() == {True: {"lives_after_kill": 1}, False: {}, None: {"flags_missing": 1}}[is_whole]


def test_releases_belong_to_the_life_they_fell_in(tmp_path):
    """A release before the restart does not censor what came after it."""
    samples = steady("r", range(500)) + steady("r", range(900, 2000))
    first, second = read_recordings(record(tmp_path, samples, runs=[run_row(after_s=2000.0)], actions=[("r", 400.0)]))
    assert (first.releases_s.tolist(), second.releases_s.tolist()) == ([400.0], [])
    assert labels_of(second)[0] == 0


def test_a_life_of_one_sample_is_left_out_and_counted(tmp_path):
    """One reading has no slope; the run's other life stays."""
    (run,), account = read(record(tmp_path, [*steady("r", range(10)), sample("r", 900.0)]))
    assert len(run.t_s) == 10
    assert account.dropped() == {"samples_of_short_lives": 1, "lives_short": 1}


def test_empty_runs_are_counted(tmp_path):
    """A run without samples, and one of whose samples none is usable, are named."""
    runs = [run_row("a"), run_row("b"), run_row("r")]
    (run,), account = read(record(tmp_path, [*steady("r"), sample("b", 1.0, limit=0)], runs=runs))
    assert run.run_id == "r"
    assert account.dropped() == {"samples_limit_not_positive": 1, "runs_without_samples": 1,
                                 "runs_without_usable_samples": 1}
    assert account.of["runs_without_samples"] == {"a": 1}


def test_a_run_told_twice_keeps_what_knows_its_end(tmp_path):
    """Exported in mid-run and again when it was over: the fuller row, and each sample once."""
    record(tmp_path / "before", steady("r", range(5)), runs=[run_row(ended="unknown", after_s=5.0)])
    record(tmp_path / "after", steady("r", range(10)), runs=[run_row(ended="exit", after_s=10.0)])
    (run,), account = read(str(tmp_path))
    assert (run.ended, run.end_s, len(run.t_s)) == ("exit", 10.0, 10)
    assert account.dropped() == {"samples_doubled": 5}
    assert account.repaired()["runs_retold"] == 1


def test_a_run_id_told_as_different_runs_is_left_out(tmp_path):
    """Two labs number their runs alike: which sample belongs to whom nobody can say, so none is kept."""
    for app in ("x", "y", "z"):
        record(tmp_path / app, [*steady("r"), *steady(app)], runs=[run_row(app=app), run_row(app, app=app)])
    runs, account = read(str(tmp_path))
    assert [run.run_id for run in runs] == ["x", "y", "z"]
    assert account.dropped() == {"samples_of_conflicting_runs": 30, "runs_conflicting": 3}


def test_the_very_same_recording_twice_is_read_once(tmp_path):
    """A copied folder changes nothing but the counts."""
    for place in ("a", "b"):
        record(tmp_path / place, steady("r"), kills=[("r", 500.0)], actions=[("r", 2.0)])
    (run,), account = read(str(tmp_path))
    assert (len(run.t_s), run.kills_s.tolist(), run.releases_s.tolist()) == (10, [500.0], [2.0])
    assert account.dropped() == {"samples_doubled": 10, "runs_doubled": 1, "kills_doubled": 1, "actions_doubled": 1}


def test_words_that_are_none_are_unknown_and_counted(tmp_path):
    """How it ended, what happens at the bound, and the app."""
    rows = [run_row(ended="exploded", bound_kind="explodes", app=None)]
    (run,), account = read(record(tmp_path, steady(), runs=rows))
    assert (run.ended, run.profile.bound_kind, run.app) == ("unknown", "", "unknown")
    assert {"runs_end_unknown", "runs_bound_kind_unknown", "runs_app_unknown"} <= set(account.repaired())


def test_kills_and_actions_of_nobody_are_counted(tmp_path):
    """Of a run that is not there, or at no time."""
    kills, actions = [("x", 1.0), ("r", None)], [("x", 1.0), ("r", -2.0)]
    (run,), account = read(record(tmp_path, steady(), kills=kills, actions=actions))
    assert not len(run.kills_s) + len(run.releases_s)
    assert account.dropped() == {"kills_without_run": 1, "kills_time_unusable": 1, "actions_without_run": 1,
                                 "actions_time_unusable": 1}


def test_runs_come_out_the_same_however_batches_fall(tmp_path, monkeypatch):
    """Two rows at a time or all at once: the same runs."""
    from oomguard.learn.dataset import digest_of, recordings, tables

    samples = [sample(f"{run}", float(t), headroom=50 + t) for run in range(7) for t in range(3 + run)]
    folder = record(tmp_path, samples, runs=[run_row(str(run)) for run in range(7)])
    whole = read_recordings(folder)
    for rows in (1, 2, 3, 8):
        monkeypatch.setattr(recordings, "ROWS_AT_ONCE", rows)
        monkeypatch.setattr(tables, "ROWS_AT_ONCE", rows)
        assert digest_of(read_recordings(folder)) == digest_of(whole)
    assert [len(run.t_s) for run in whole] == list(np.arange(7) + 3)
