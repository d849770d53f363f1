"""The tables: the columns and types of DESIGN 4.9, NULL where unknown, nothing after a kill, the same bytes again."""

import datetime
import math
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from journals import MIB, PROFILE, SMALL, facts, record, walk

from oomguard.errors import NotPermittedError
from oomguard.profile import Profile
from oomguard.record.export import export
from oomguard.record.journal import Journal
from oomguard.record.reader import read_journals
from oomguard.record.runs import profile_digest
from oomguard.sense.sample import Sample

# DESIGN 4.9, word for word; i: int64, d: float64, f: float32, b: int8, ?: bool, us: UTC microseconds, else text.
DESIGN = {
    "devices": "device_type sdk_version ram_bytes:i swap_bytes:i cores:i cache_capacity_bytes:i"
               " buffer_capacity_bytes:i ui_resolution chipset brand",
    "runs": "run_id boot_id device_id device_type sdk_version app app_version limit_bytes:i cache_capacity_bytes:i"
            " heap_limit_bytes:i bound_kind started_at:us ended ended_after_s:d bundle_digest rules_digest"
            " profile_digest agent_version scorer",
    "samples": "run_id t_s:d constraint limit_bytes:i headroom_bytes:i used_bytes:i charged_bytes:i kernel_bytes:i"
               " available_bytes:i swap_used_bytes:i swap_free_bytes:i swap_limit_bytes:i psi_some_us:i psi_full_us:i"
               " refaults:i major_faults:i late_s:f evictable_bytes:i phase",
    "kills": "run_id t_s:d pid:i killer whole_target:?",
    "actions": "run_id t_s:d rule hook level:b requested_bytes:i freed_bytes:i duration_s:d",
}
TYPES = {"": pa.string(), "i": pa.int64(), "d": pa.float64(), "f": pa.float32(), "b": pa.int8(), "?": pa.bool_(),
         "us": pa.timestamp("us", tz="UTC")}


def tables(journal_folder, out):
    done = export(read_journals(str(journal_folder)), str(out))
    return done, {name: pq.read_table(out / f"{name}.parquet") for name in DESIGN}


@pytest.fixture
def guarded(tmp_path):
    """A run with everything in it, that ended in a kill, and one that goes on."""
    journal = Journal.open(str(tmp_path / "journal"), SMALL)
    run = journal.run(facts(rules_digest="ab", bundle_digest="cd", scorer="forest"))
    other = journal.run(facts("other")._replace(profile=Profile()))
    samples = list(walk(40))
    for sample in samples:
        run.sample(sample)
        other.sample(sample)
    run.acted(run.action(5.5, "trim", "cache", 3, 4096.0), 8192.0, 0.25)
    run.action(30.5, "last", "gc", 5, 4096.0)
    run.kill(7.5, 77, "earlyoom")
    run.end("oom", 38.0)
    journal.close()
    return tmp_path / "journal", samples


@pytest.mark.parametrize("name", DESIGN)
def test_columns_and_types_are_those_of_the_design(guarded, tmp_path, name):
    """In the same order."""
    columns = [column.partition(":") for column in DESIGN[name].split()]
    schema = tables(guarded[0], tmp_path / "out")[1][name].schema
    assert [(field.name, field.type) for field in schema] == [(column, TYPES[kind]) for column, _, kind in columns]


def test_a_run_is_complete(guarded, tmp_path):
    """Digests, profile, start, end: every column of `runs`; the limit is the one it began under."""
    _done, found = tables(guarded[0], tmp_path / "out")
    row, other = sorted(found["runs"].to_pylist(), key=lambda row: row["app"])
    assert (row["app"], row["boot_id"], row["device_type"], row["sdk_version"]) == ("app", "boot-1", "tv", "7")
    assert (row["limit_bytes"], row["cache_capacity_bytes"], row["bound_kind"]) == (256 * MIB, 64 * MIB, "evicts")
    assert (row["rules_digest"], row["bundle_digest"], row["scorer"]) == ("ab", "cd", "forest")
    assert row["profile_digest"] == profile_digest(PROFILE) and row["agent_version"]
    assert (row["ended"], row["ended_after_s"]) == ("oom", 38.0)
    assert row["started_at"] < datetime.datetime.now(datetime.UTC)
    assert (other["ended"], other["ended_after_s"], other["heap_limit_bytes"]) == ("unknown", None, None)
    assert other["profile_digest"] == profile_digest(Profile()) != row["profile_digest"]
    assert {row["device_type"]: row["buffer_capacity_bytes"] for row in found["devices"].to_pylist()} == {
        "generic": None, "tv": 32 * MIB}


def test_no_sample_at_or_after_the_kill(guarded, tmp_path):
    """The run that was killed at 38 s ends before it; the other does not; what was left out is counted."""
    done, found = tables(guarded[0], tmp_path / "out")
    run_id = next(row["run_id"] for row in found["runs"].to_pylist() if row["app"] == "app")
    times = [row["t_s"] for row in found["samples"].to_pylist() if row["run_id"] == run_id]
    assert times == [sample.t_s for sample in guarded[1] if sample.t_s < 38.0]
    assert done.rows["samples"] == 40 + len(times)
    assert done.account.lines() == [f"{40 - len(times)} samples at or after a kill left out"]


def test_kills_and_actions_are_told_and_the_unknown_is_null(guarded, tmp_path):
    """A kill inside stands beside the one that ended the run; an action cut short has no outcome."""
    _done, found = tables(guarded[0], tmp_path / "out")
    kills = [(row["t_s"], row["pid"], row["killer"], row["whole_target"]) for row in found["kills"].to_pylist()]
    assert kills == [(7.5, 77, "earlyoom", False), (38.0, None, "kernel", True)]
    actions = [tuple(row.values())[1:] for row in found["actions"].to_pylist()]
    assert actions == [(5.5, "trim", "cache", 3, 4096, 8192, 0.25), (30.5, "last", "gc", 5, 4096, None, None)]


def test_samples_are_the_same_numbers(guarded, tmp_path):
    """Integers as integers, unknown as NULL, lateness as float32."""
    _done, found = tables(guarded[0], tmp_path / "out")
    rows = [row for row in found["samples"].to_pylist() if "other" in row["run_id"]]
    for row, sample in zip(rows, guarded[1], strict=True):
        for name, value in row.items():
            if name == "late_s":
                assert value == pytest.approx(sample.late_s, rel=1e-7)
            elif name != "run_id":
                told = getattr(sample, name)
                assert value == (None if told != told else told)


def test_the_same_journal_gives_the_same_bytes(guarded, tmp_path):
    """So that a digest of the tables means something."""
    for out in ("one", "two"):
        tables(guarded[0], tmp_path / out)
    for name in DESIGN:
        one, two = ((tmp_path / out / f"{name}.parquet").read_bytes() for out in ("one", "two"))
        assert one == two


def test_what_a_table_cannot_hold_is_counted(tmp_path):
    """Fractions are rounded down, what is beyond 64 bits is NULL; neither without saying so."""
    odd = [Sample(1.0, "machine", 100.0, 10.5, -0.5, math.inf, 1e300)]
    record(tmp_path / "journal", [odd]).close()
    done, found = tables(tmp_path / "journal", tmp_path / "out")
    row = found["samples"].to_pylist()[0]
    assert (row["headroom_bytes"], row["used_bytes"], row["charged_bytes"], row["kernel_bytes"]) == (10, -1, None, None)
    assert (done.account.not_whole, done.account.not_finite) == (2, 2)


def test_a_run_under_two_rule_files_has_no_digest(tmp_path):
    """There is not one that a replay could use."""
    journal = Journal.open(str(tmp_path / "journal"), SMALL)
    run = journal.run(facts(rules_digest="one", bundle_digest="same"))
    for sample in walk(4):
        run.sample(sample)
    run.change(run.facts._replace(rules_digest="two"))
    run.sample(sample._replace(t_s=9.0))
    journal.close()
    done, found = tables(tmp_path / "journal", tmp_path / "out")
    row = found["runs"].to_pylist()[0]
    assert (row["rules_digest"], row["bundle_digest"]) == (None, "same") and done.account.mixed_digests == 1


def test_an_export_that_fails_leaves_the_old_tables(guarded, tmp_path, monkeypatch):
    """And nothing half made beside them."""
    tables(guarded[0], tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def refuse(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", refuse)
    with pytest.raises(NotPermittedError, match="No space left"):
        export(read_journals(str(guarded[0])), str(tmp_path / "out"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_folder_that_cannot_be_made_is_said(guarded):
    """With its name."""
    with pytest.raises(NotPermittedError, match="/proc/nothing"):
        export(read_journals(str(guarded[0])), "/proc/nothing/here")


def test_those_who_learn_read_it(guarded, tmp_path):
    """learn/dataset takes the tables as they are; a release has two times where its duration is known."""
    dataset = pytest.importorskip("oomguard.learn.dataset")
    tables(guarded[0], tmp_path / "out")
    run = next(run for run in dataset.read_recordings(str(tmp_path / "out")) if run.app == "app")
    assert run.ended_in_kill and list(run.kills_s) == [7.5, 38.0] and list(run.releases_s) == [5.5, 5.75, 30.5]
    assert run.profile == PROFILE._replace(limit_bytes=256.0 * MIB) or math.isnan(run.profile.heap_limit_bytes)
    assert os.path.exists(tmp_path / "out" / "samples.parquet")
