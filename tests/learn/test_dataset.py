"""Recordings become clean runs."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oomguard.errors import UsageError
from oomguard.learn.dataset import NUMBERS, clean_devices, digest_of, read_recordings

SAMPLE = "models/recordings/sample"


def write(folder, samples, *, runs, kills=(), actions=(), devices=()):
    """Write the five tables; `samples` are (run_id, t_s, limit, headroom)."""
    rows = [{"run_id": run_id, "t_s": t_s, "constraint": "c", "phase": None, **dict.fromkeys(NUMBERS),
             "limit_bytes": limit, "headroom_bytes": headroom} for run_id, t_s, limit, headroom in samples]
    kinds = {"run_id": pa.string(), "t_s": pa.float64(), "constraint": pa.string(), "phase": pa.string(),
             **dict.fromkeys(NUMBERS, pa.int64())}
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(kinds.items()))), folder / "samples.parquet")
    times = pa.schema([("run_id", pa.string()), ("t_s", pa.float64())])
    for name, table in (("kills", kills), ("actions", actions)):
        rows = [{"run_id": run_id, "t_s": t_s} for run_id, t_s in table]
        pq.write_table(pa.Table.from_pylist(rows, times), folder / f"{name}.parquet")
    pq.write_table(pa.Table.from_pylist(list(runs)), folder / "runs.parquet")
    facts = pa.schema([("device_type", pa.string()), ("sdk_version", pa.string()), ("ram_bytes", pa.int64())])
    pq.write_table(pa.Table.from_pylist(list(devices), facts), folder / "devices.parquet")
    return str(folder)


def run_row(ended="oom", after_s=5.0, **more):
    return {"run_id": "r", "app": "a", "ended": ended, "ended_after_s": after_s, "device_type": "tv",
            "sdk_version": "1", "cache_capacity_bytes": 40, **more}


def test_samples_are_sorted_and_bad_ones_left_out(tmp_path):
    """Out of order is sorted; doubled times, unknown headroom and anything at or after the kill are dropped."""
    samples = [("r", 2.0, 100, 50), ("r", 0.0, 100, 60), ("r", 0.0, 100, 61), ("r", 3.0, 100, None), ("r", 4.0, 0, 5),
               ("r", 5.0, 100, 1), ("r", 6.0, 100, 90), ("r", 4.5, 100, 2)]
    (run,) = read_recordings(write(tmp_path, samples, runs=[run_row()], kills=[("r", 5.0)]))
    assert run.t_s.tolist() == [0.0, 2.0, 4.5]
    assert run.columns["headroom_bytes"][1:].tolist() == [50, 2]
    assert (run.ended_in_kill, run.end_s, run.profile.cache_capacity_bytes) == (True, 5.0, 40)
    assert math.isnan(run.columns["psi_some_us"][0])


def test_a_kill_without_a_row_is_the_end_of_an_oom_run(tmp_path):
    """`ended = oom` says there was a kill, even if the recorder did not see whom."""
    samples = [("r", 0.0, 100, 60), ("r", 1.0, 100, 50)]
    (run,) = read_recordings(write(tmp_path, samples, runs=[run_row()]))
    assert run.kills_s.tolist() == [5.0]


def test_a_missing_table_or_column_is_said(tmp_path):
    """The message names the file and what is expected."""
    with pytest.raises(UsageError, match=r"devices\.parquet is missing"):
        read_recordings(str(tmp_path))
    write(tmp_path, [("r", 0.0, 100, 60)], runs=[{"run_id": "r"}])
    with pytest.raises(UsageError, match="no column app, ended"):
        read_recordings(str(tmp_path))


def test_devices_are_settled_by_majority():
    """The commonest fact wins, unknowns do not vote, a tie goes to the larger."""
    rows = [{"device_type": "tv", "sdk_version": "1", "ram_bytes": ram} for ram in (1, 2, 2, None)]
    rows += [{"device_type": "box", "sdk_version": None, "ram_bytes": ram} for ram in (3, 4)]
    facts = clean_devices(rows)
    assert (facts["tv", "1"]["ram_bytes"], facts["box", ""]["ram_bytes"]) == (2.0, 4.0)
    assert math.isnan(facts["tv", "1"]["cores"])


def test_the_digest_is_of_the_data_and_not_of_the_file(tmp_path):
    """Row order in the file does not change the digest, one byte of memory does."""
    def digest(folder, samples):
        (tmp_path / folder).mkdir()
        return digest_of(read_recordings(write(tmp_path / folder, samples, runs=[run_row("stopped")])))

    samples = [("r", 0.0, 100, 60), ("r", 1.0, 100, 50)]
    assert digest("a", samples) == digest("b", samples[::-1])
    assert digest("c", samples) != digest("d", [("r", 0.0, 100, 60), ("r", 1.0, 100, 49)])


def test_the_sample_recordings_are_what_their_readme_says():
    """132 runs of eight programs, 68 of them killed, none with a sample at or after its kill."""
    runs = read_recordings(SAMPLE)
    assert len(runs) == 132
    assert len({run.app for run in runs}) == 8
    assert sum(run.ended_in_kill for run in runs) == 68
    assert all(run.t_s[-1] < run.kills_s[0] for run in runs if run.ended_in_kill)
    assert all(np.all(np.diff(run.t_s) > 0) for run in runs)
