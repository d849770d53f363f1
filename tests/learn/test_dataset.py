"""Recordings become clean runs."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oomguard.errors import UsageError
from oomguard.learn.dataset import Account, clean_devices, digest_of, read_recordings
from oomguard.learn.dataset.sources import table_of

from .recorded import record, run_row, sample, steady

SAMPLE = "models/recordings/sample"
SAMPLE_DIGEST = "401fc9bd492be58cb69033923834d72b72d7234b3937b1f7262ddd576e00dd4e"


def read(folder):
    """Return the runs in a folder, and what was noted."""
    account = Account()
    return read_recordings(folder, account), account


def test_samples_are_sorted_and_bad_ones_left_out(tmp_path):
    """Out of order is sorted; doubled times, unknown headroom and anything at or after the kill are dropped."""
    samples = [sample("r", *row) for row in (
        (2.0, 100, 50), (0.0, 100, 60), (0.0, 100, 61), (3.0, 100, None), (4.0, 0, 5), (5.0, 100, 1), (6.0, 100, 90),
        (4.5, 100, 2))]
    (run,) = read_recordings(record(tmp_path, samples, runs=[run_row(ended="oom", after_s=5.0)], kills=[("r", 5.0)]))
    assert run.t_s.tolist() == [0.0, 2.0, 4.5]
    assert run.columns["headroom_bytes"].tolist() == [60, 50, 2]
    assert (run.ended_in_kill, run.end_s, run.profile.cache_capacity_bytes) == (True, 5.0, 40)
    assert math.isnan(run.columns["psi_some_us"][0])


def test_a_kill_without_a_row_is_the_end_of_an_oom_run(tmp_path):
    """`ended = oom` says there was a kill, even if the recorder did not see whom; the account says so."""
    (run,), account = read(record(tmp_path, steady(), runs=[run_row(ended="oom", after_s=50.0)]))
    assert run.kills_s.tolist() == [50.0]
    assert account.repaired() == {"runs_kill_from_end": 1}


def test_an_oom_run_that_nobody_timed_has_no_known_end(tmp_path):
    """Neither a kill nor an end has a time: the run is as one whose end nobody saw."""
    (run,), account = read(record(tmp_path, steady(), runs=[run_row(ended="oom", after_s=None)]))
    assert (run.ended, run.end_s, len(run.kills_s)) == ("unknown", 9.0, 0)
    assert account.repaired()["runs_end_without_time"] == 1


@pytest.mark.parametrize("table", ["devices", "runs", "samples", "kills", "actions"])
def test_a_missing_table_is_said(tmp_path, table):
    """The message names the file that is not there."""
    folder = record(tmp_path, steady())
    (tmp_path / f"{table}.parquet").unlink()
    with pytest.raises(UsageError, match=rf"{table}\.parquet is missing: a recording is devices, runs"):
        read_recordings(folder)


@pytest.mark.parametrize(("table", "columns"), [
    ("samples", ["run_id", "headroom_bytes"]), ("runs", ["app", "ended"]), ("kills", ["t_s"]), ("devices", [
        "device_type"])])
def test_a_missing_column_is_said(tmp_path, table, columns):
    """The message names the file and every column it lacks."""
    folder = record(tmp_path, steady())
    path = tmp_path / f"{table}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(columns), path)
    with pytest.raises(UsageError, match=rf"{table}\.parquet has no column {', '.join(columns)}"):
        read_recordings(folder)


def test_a_column_that_may_be_absent_is_unknown_and_counted(tmp_path):
    """Without phases and pressure a recording is still one."""
    types = {"phase": None, "psi_some_us": None}
    (run,), account = read(record(tmp_path, steady(), types=types))
    assert run.phase == [None] * 10
    assert np.isnan(run.columns["psi_some_us"]).all()
    assert account.of["columns_absent"] == {"samples.phase": 1, "samples.psi_some_us": 1}


def test_devices_are_settled_by_majority():
    """The commonest fact wins, unknowns do not vote, a tie goes to the larger; conflicts are counted."""
    rows = [{"device_type": "tv", "sdk_version": "1", "ram_bytes": ram} for ram in (1, 2, 2, None, -5)]
    rows += [{"device_type": "box", "sdk_version": None, "ram_bytes": ram} for ram in (3, 4)]
    account = Account()
    facts = clean_devices(rows, account)
    assert (facts["tv", "1"]["ram_bytes"], facts["box", ""]["ram_bytes"]) == (2.0, 4.0)
    assert math.isnan(facts["tv", "1"]["cores"])
    assert account.repaired() == {"facts_conflicting": 2, "facts_not_positive": 1}


def test_a_run_takes_its_own_facts_before_its_device_s(tmp_path):
    """Static and runtime data are joined on device type and SDK version; the run's own capacity comes first."""
    devices = [{"device_type": "tv", "sdk_version": sdk, "ram_bytes": ram, "cache_capacity_bytes": 7}
               for sdk, ram in (("1", 10), ("2", 20))]
    runs = [run_row("a"), run_row("b", sdk_version="2", cache_capacity_bytes=None), run_row("c", sdk_version="3")]
    samples = steady("a") + steady("b") + steady("c")
    found, account = read(record(tmp_path, samples, runs=runs, devices=devices))
    profiles = [run.profile for run in found]
    assert [(p.ram_bytes, p.cache_capacity_bytes) for p in profiles[:2]] == [(10.0, 40.0), (20.0, 7.0)]
    assert math.isnan(profiles[2].ram_bytes)
    assert account.of["runs_device_unknown"] == {"tv 3": 1}


def test_the_digest_is_of_the_data_and_not_of_the_file(tmp_path):
    """Row order in the file does not change the digest, one byte of memory does."""
    def digest(folder, samples):
        return digest_of(read_recordings(record(tmp_path / folder, samples)))

    samples = [sample("r", 0.0, 100, 60), sample("r", 1.0, 100, 50)]
    assert digest("a", samples) == digest("b", samples[::-1])
    assert digest("c", samples) != digest("d", [samples[0], sample("r", 1.0, 100, 49)])


def test_the_sample_recordings_are_what_their_readme_says():
    """132 runs of eight programs, 68 of them killed, none with a sample at or after its kill; nothing left out."""
    runs, account = read(SAMPLE)
    assert len(runs) == 132
    assert len({run.app for run in runs}) == 8
    assert sum(run.ended_in_kill for run in runs) == 68
    assert all(run.t_s[-1] < run.kills_s[0] for run in runs if run.ended_in_kill)
    assert all(np.all(np.diff(run.t_s) > 0) for run in runs)
    assert digest_of(runs) == SAMPLE_DIGEST
    assert (account.dropped(), account.repaired()) == ({}, {"flags_missing": 68})


def test_a_glob_of_scattered_files_reads_as_the_folder(tmp_path):
    """Samples cut into many files, by folders and by names, and rows shuffled, are the same data."""
    rng = np.random.default_rng(1)
    table = pq.read_table(f"{SAMPLE}/samples.parquet")
    table = table.take(rng.permutation(table.num_rows))
    for at in range(20):
        place = tmp_path / f"part{at % 3}" / "samples"
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(at * 6000, 6000), place / f"{at}.parquet")
    for name in ("devices", "runs", "kills", "actions"):
        shutil.copy(f"{SAMPLE}/{name}.parquet", tmp_path / "part0" / f"{name}-all.parquet")
    runs, account = read(str(tmp_path / "**" / "*.parquet"))
    assert digest_of(runs) == SAMPLE_DIGEST
    assert account.files == {"devices": 1, "runs": 1, "samples": 20, "kills": 1, "actions": 1}
    assert set(account.repaired()) == {"flags_missing", "samples_out_of_order"}


def test_files_of_other_types_are_read_together(tmp_path):
    """One file has whole numbers, another floats, a third text: each is read as what it is."""
    record(tmp_path / "a", steady("r", range(5)))
    for place, kind in (("b", pa.float64()), ("c", pa.string())):
        seconds = range(5, 10) if place == "b" else range(10, 15)
        rows = [{**row, "headroom_bytes": "50" if place == "c" else 50.0} for row in steady("r", seconds)]
        record(tmp_path / place, rows, runs=[], types={"headroom_bytes": kind})
    (run,), account = read(str(tmp_path))
    assert run.columns["headroom_bytes"].tolist() == [50.0] * 15
    assert account.read["samples"] == 15


def test_folders_named_like_columns_add_none(tmp_path):
    """A folder `run_id=7` is a name, not a column."""
    (run,), _account = read(record(tmp_path / "run_id=7" / "[x]*", steady()))
    assert run.run_id == "r"


@pytest.mark.parametrize(("path", "table"), [
    ("a/samples.parquet", "samples"), ("a/samples-1.parquet", "samples"), ("a/runs_x.parquet", "runs"),
    ("kills/0.parquet", "kills"), ("a/samples2.parquet", None), ("a/dataset.parquet", None),
    ("samples/a/0.parquet", None)])
def test_a_file_s_table_is_in_its_name(path, table):
    """The table's name begins the file's, or is its folder's."""
    assert table_of(path) == table


def test_files_that_are_no_table_or_come_twice_are_counted(tmp_path):
    """A dataset beside the recordings is not read as one, and overlapping sources read a file once."""
    from oomguard.learn.dataset import stream_recordings

    folder = record(tmp_path, steady())
    shutil.copy(tmp_path / "runs.parquet", tmp_path / "other.parquet")
    account = Account()
    runs = [run for batch in stream_recordings([folder, f"{folder}/runs*.parquet"], account) for run in batch]
    assert (len(runs), account.dropped()) == (1, {"files_named_twice": 1, "files_no_table": 1})


def test_a_source_that_is_not_there_is_said(tmp_path):
    """So is a glob that matches nothing, and a file that is no Parquet."""
    (tmp_path / "a.csv").write_text("x")
    for source, says in ((tmp_path / "no", "no such file"), (tmp_path / "*.parquet", "nothing matches"),
                         (tmp_path / "a.csv", "no Parquet file")):
        with pytest.raises(UsageError, match=says):
            read_recordings(str(source))


def test_simulated_runs_are_marked(tmp_path):
    """What the generator made says so in its device type; a recorded run does not."""
    runs = [run_row("a", device_type="simulated-tv"), run_row("b")]
    found, _account = read(record(tmp_path, steady("a") + steady("b"), runs=runs))
    assert [run.is_simulated for run in found] == [True, False]
