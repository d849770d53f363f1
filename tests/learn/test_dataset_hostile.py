"""Whatever stands in the tables: a named error, or every sample accounted for."""

from __future__ import annotations

import datetime
import math
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oomguard.errors import UsageError
from oomguard.learn.dataset import NUMBERS, Account, digest_of, make_dataset, read_recordings

from .recorded import record, run_row, sample, steady

READINGS = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -1.0, 100.0, 2.0**63, 1e300, math.nan, math.inf]))
TIMES = st.one_of(st.integers(-3, 30).map(float), READINGS)
RUN_IDS = st.sampled_from(["r", "s", "nobody", "", None])
SAMPLES = st.lists(st.fixed_dictionaries(
    {"run_id": RUN_IDS, "t_s": TIMES, "constraint": st.sampled_from(["c", "d", None])},
    optional={"phase": st.text(max_size=3), **dict.fromkeys(NUMBERS, READINGS)}), max_size=30)
EVENTS = st.lists(st.fixed_dictionaries({"run_id": RUN_IDS, "t_s": TIMES}), max_size=4)
ENDS = st.sampled_from(["oom", "exit", "stopped", "nonsense", None])


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(SAMPLES, EVENTS, EVENTS, ENDS, TIMES, st.randoms())
def test_every_sample_is_kept_or_counted_and_order_is_nothing(samples, kills, actions, ended, after_s, random):
    """Any numbers at all: read = kept + left out, what is kept is sound, and shuffled rows give the same runs."""
    types = {"t_s": pa.float64(), **dict.fromkeys(NUMBERS, pa.float64())}
    runs = [run_row("r", ended=ended, after_s=after_s), run_row("s")]
    digests = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            account = Account()
            record(folder, samples, runs=runs, kills=kills, actions=actions, types=types)
            found = read_recordings(folder, account)
        kept = sum(len(run.t_s) for run in found)
        assert account.read["samples"] == len(samples) == kept + account.samples_dropped()
        digests.append(digest_of(found))
        random.shuffle(samples)
    assert digests[0] == digests[1]
    for run in found:
        assert np.all(np.diff(run.t_s) > 0)
        assert np.isfinite(run.columns["headroom_bytes"]).all()
        assert (run.columns["limit_bytes"] > 0).all()
        assert all(not (run.columns[name] < 0).any() for name in NUMBERS if name != "headroom_bytes")


@pytest.mark.parametrize(("column", "kind", "value"), [
    ("t_s", pa.timestamp("us"), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
    ("limit_bytes", pa.list_(pa.int64()), [1]), ("headroom_bytes", pa.bool_(), True),
    ("used_bytes", pa.binary(), b"1"), ("constraint", pa.float64(), 1.0), ("run_id", pa.binary(), b"r")])
def test_a_column_of_the_wrong_type_is_said(tmp_path, column, kind, value):
    """The message names file, column, its type and what was expected."""
    folder = record(tmp_path, [{**row, column: value} for row in steady()], types={column: kind})
    with pytest.raises(UsageError, match=rf"samples\.parquet: column {column} is .*: a (number|text) was expected"):
        read_recordings(folder)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 100, b"\x00" * 5000])
@pytest.mark.parametrize("table", ["samples", "kills"])
def test_a_file_that_is_no_parquet_is_said(tmp_path, table, data):
    """Empty, cut off or something else: the message names it."""
    folder = record(tmp_path, steady())
    (tmp_path / f"{table}.parquet").write_bytes(data)
    with pytest.raises(UsageError, match=rf"{table}\.parquet"):
        read_recordings(folder)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_refused_or_accounted_for(tmp_path_factory, at, damage):
    """Bytes overwritten anywhere: our own error, or as many samples as were read."""
    folder = tmp_path_factory.mktemp("damaged")
    record(folder, steady("r", range(200)))
    path = folder / "samples.parquet"
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at:at + len(damage)] = damage
    path.write_bytes(data)
    account = Account()
    try:
        found = read_recordings(str(folder), account)
    except UsageError as error:
        assert str(error)
    else:
        assert account.read["samples"] == sum(len(run.t_s) for run in found) + account.samples_dropped()


def test_recordings_without_a_row_are_none(tmp_path):
    """Five empty tables hold no runs."""
    assert read_recordings(record(tmp_path, [], runs=[], devices=[])) == []


def test_more_samples_than_fit_into_memory_are_refused_where_all_are_wanted(tmp_path, monkeypatch):
    """`read_recordings` says what to use instead; the dataset is made."""
    from oomguard.learn.dataset import recordings

    folder = record(tmp_path, steady())
    monkeypatch.setattr(recordings, "MAX_ROWS", 9)
    with pytest.raises(UsageError, match="10 samples are more than 9: `learn dataset` has no bound"):
        read_recordings(folder)
    assert make_dataset([folder], str(tmp_path / "d.parquet")).facts["kept"]["samples"] == 10


def test_thousands_of_tiny_files_are_one_recording(tmp_path):
    """3,000 files of a run each, as a fleet uploads them: none is left out."""
    count = 3000
    record(tmp_path, [], runs=[run_row(f"{at:05d}") for at in range(count)])
    kinds = pq.read_schema(tmp_path / "samples.parquet")
    (tmp_path / "samples").mkdir()
    for at in range(count):
        rows = [sample(f"{at:05d}", float(t_s)) for t_s in range(3)]
        pq.write_table(pa.Table.from_pylist(rows, kinds), tmp_path / "samples" / f"{at}.parquet", compression="none")
    card = make_dataset([str(tmp_path)], str(tmp_path / "out.parquet"))
    assert (card.facts["kept"]["samples"], card.facts["kept"]["recorded"]["runs"]) == (3 * count, count)
    assert card.facts["read"]["files"]["samples"] == count + 1
    assert card.facts["dropped"] == {}
