"""Recordings through the one door: tables in any order, hostile tables, and journals; and how a replay is compared."""

from __future__ import annotations

import dataclasses
from math import nan

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import SAMPLE, random_bundle, random_plan, random_samples, run_of, write_tables

from oomguard.errors import OomguardError, UsageError
from oomguard.profile import Profile
from oomguard.record.facts import run_facts
from oomguard.record.journal import Journal
from oomguard.record.runs import profile_digest
from oomguard.replay.compare import caveats, compare, first_actions, ingredients
from oomguard.replay.explain import sample_of
from oomguard.replay.recording import Acted, Killed, RecordedWith, load_runs
from oomguard.replay.replay import Replayer, Setting, busy_at


def same(one, other) -> bool:
    """Whether two runs hold the same samples, bit for bit."""
    return (one.constraints == other.constraints and one.phases == other.phases
            and all(one.columns[name].tobytes() == other.columns[name].tobytes() for name in one.columns))


def test_tables_hold_what_was_written_in_any_order(tmp_path):
    """Two runs, their rows shuffled: each comes back whole, in the order of time, NULL as NaN."""
    runs = [run_of(random_samples(1, 200), run_id="b"), run_of(random_samples(2, 150), run_id="a", ended="oom",
            ended_after_s=200.5, kills=(Killed(200.5, 7, "kernel", True),))]
    write_tables(tmp_path, runs)
    path = tmp_path / "samples.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take(np.random.default_rng(1).permutation(len(table))), path)
    found = load_runs(str(tmp_path))
    assert [run.run_id for run in found] == ["a", "b"]
    assert same(found[1], runs[0])
    assert same(found[0], runs[1])
    assert found[0].kills == runs[1].kills
    assert repr(found[0].profile) == repr(runs[1].profile._replace(sdk_version="1"))
    assert same(load_runs(str(tmp_path), "b")[0], runs[0])


@pytest.mark.parametrize("hurt", ["missing", "no column", "torn", "text", "wrong type", "no run"])
def test_a_hostile_folder_is_a_clear_error(tmp_path, hurt):
    """Whatever is wrong with the tables: a UsageError that names the file or the run, never a traceback."""
    write_tables(tmp_path, [run_of(random_samples(1, 50))])
    samples, run_id = tmp_path / "samples.parquet", ""
    if hurt == "missing":
        (tmp_path / "runs.parquet").unlink()
    elif hurt == "no column":
        pq.write_table(pq.read_table(samples).drop_columns(["limit_bytes"]), samples)
    elif hurt == "torn":
        samples.write_bytes(samples.read_bytes()[:300])
    elif hurt == "text":
        samples.write_text("not parquet")
    elif hurt == "wrong type":
        table = pq.read_table(samples)
        pq.write_table(table.set_column(1, "t_s", pa.array(["x"] * len(table))), samples)
    else:
        run_id = "nobody"
    with pytest.raises(UsageError, match=r"parquet|recording|no run"):
        load_runs(str(tmp_path), run_id)


@pytest.mark.parametrize("at", range(0, 4000, 97))
def test_tables_cut_anywhere_never_end_in_a_traceback(tmp_path, at):
    """Any cut of the samples is an error of ours."""
    write_tables(tmp_path, [run_of(random_samples(1, 20))])
    path = tmp_path / "samples.parquet"
    path.write_bytes(path.read_bytes()[:at])
    with pytest.raises(UsageError):
        load_runs(str(tmp_path))


def test_an_empty_folder_says_what_a_recording_is(tmp_path):
    """Neither tables nor journals: an error of ours with an exit code."""
    with pytest.raises(OomguardError):
        load_runs(str(tmp_path))


def test_the_projects_recordings_load():
    """132 runs, 112,688 samples, in the order of time."""
    runs = load_runs(str(SAMPLE))
    assert (len(runs), sum(len(run.t_s) for run in runs)) == (132, 112_688)
    assert all((np.diff(run.t_s) >= 0).all() for run in runs)


def test_conflicting_devices_go_by_majority(tmp_path):
    """Two of three say 4 cores; a fact nobody states stays unknown."""
    write_tables(tmp_path, [run_of(random_samples(1, 20))])
    rows = [{"device_type": "generic", "sdk_version": "1", "cores": cores, "ram_bytes": None} for cores in (4, 2, 4)]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([("device_type", pa.string()), ("sdk_version", pa.string()),
                                                        ("cores", pa.int64()), ("ram_bytes", pa.int64())])),
                   tmp_path / "devices.parquet")
    (run,) = load_runs(str(tmp_path))
    assert run.profile.cores == 4.0
    assert run.profile.ram_bytes != run.profile.ram_bytes


def test_journals_replay_as_the_guard_saw_them(tmp_path):
    """A journal that the guard wrote: the same samples, profile, digests and actions; so the same guard, confirmed."""
    samples, profile = random_samples(4, 300), Profile(ram_bytes=2e9, cores=2.0)
    setting = Setting(random_plan(2)._replace(digest="ab" * 32), random_bundle(1))
    assert setting.bundle is not None
    run = run_of(samples, profile=profile)
    decisions = Replayer(setting).replay(run).decisions
    journal = Journal.open(str(tmp_path / "journal"))
    recorder = journal.run(run_facts("app", "boot:1", 5.0, profile, bundle_digest=setting.bundle.digest,
                                     rules_digest="ab" * 32, scorer="forest"))
    for sample in samples:
        recorder.sample(sample)
    recorder.end("stopped", samples[-1].t_s + 1)
    journal.close()
    (found,) = load_runs(str(tmp_path / "journal"))
    assert same(found, run)
    assert (found.app, found.ended, repr(found.profile)) == ("app", "stopped", repr(profile))
    replayed = Replayer(setting).replay(found)
    assert replayed.decisions == decisions
    found_again = compare(replayed, setting)
    assert found_again.is_same_guard
    assert found_again.unanswered == len(decisions)


# -- comparing -------------------------------------------------------------------------------------------------

def acted(t_s, rule="r", duration_s=1.0, level=-1):
    return Acted(t_s, rule, "cache", level, 1.0, nan, duration_s)


def test_an_action_is_in_flight_from_its_start_to_its_end():
    """[t_s, t_s + duration_s); one without an end lasts until the next begins, the last one until the run ends."""
    run = run_of([sample._replace(t_s=float(at)) for at, sample in enumerate(random_samples(1, 20))],
                 actions=(acted(2.0, duration_s=2.0), acted(6.5, duration_s=0.3), acted(8.5, duration_s=nan),
                          acted(11.5, duration_s=0.6), acted(17.5, duration_s=nan)))
    assert np.flatnonzero(busy_at(run)).tolist() == [2, 3, 9, 10, 11, 12, 18, 19]


def test_hooks_that_follow_each_other_are_one_decision():
    """The second hook of a rule starts when the first is done; another rule, or a later start, is a new decision."""
    actions = (acted(1.0), acted(2.1), acted(3.2, "s"), acted(30.0, "s"))
    assert [action.t_s for action in first_actions(actions)] == [1.0, 3.2, 30.0]


def replayed_with_actions(plan=None):
    """Return a replay whose recorded actions are the replayed decisions, and its setting."""
    setting = Setting((plan or random_plan(2))._replace(digest="r" * 64), random_bundle(1))
    run = run_of(random_samples(4, 400), recorded_with=RecordedWith(
        "0" * 63 + "1", "r" * 64, profile_digest(Profile(ram_bytes=2e9, cores=2)), "", "forest"))
    replayer = Replayer(setting)
    readings = replayer.replay(run)
    actions = tuple(acted(float(run.t_s[at]) + 1e-4, one.rule, 1e-5, int(readings.readings.levels[at]))
                    for at, one in readings.decisions.items())
    return dataclasses.replace(run, actions=actions), replayer


def test_ingredients_say_what_is_the_same_and_what_differs():
    """Bundle, rules and profile are the same; the version was not recorded; other rules differ."""
    run, replayer = replayed_with_actions()
    assert {one.name: one.verdict for one in ingredients(run, replayer.setting)} == {
        "bundle": "same", "rules": "same", "profile": "same", "version": "not recorded"}
    other = Setting(replayer.setting.plan._replace(digest="x" * 64), None)
    assert {one.name: one.verdict for one in ingredients(run, other)} == {
        "bundle": "differs", "rules": "differs", "profile": "same", "version": "not recorded"}


def test_what_differs_is_named_once_with_its_time_and_influence():
    """A recorded action that is not decided again, one by another rule, and a decision that nobody recorded."""
    run, replayer = replayed_with_actions()
    first, second, third = run.actions[:3]
    strange = dataclasses.replace(run, actions=(first._replace(rule="gone"), *run.actions[2:], acted(1e6, "late")))
    replayed = replayer.replay(strange, is_busy_as_recorded=False)
    found = compare(replayed, replayer.setting).differences
    assert found[0].t_s == first.t_s
    assert "'gone'" in found[0].recorded
    assert found[0].replayed
    alone = [each for each in found if not each.recorded]
    assert any(each.is_influenced for each in alone)
    assert "'late'" in found[-1].recorded
    assert not found[-1].replayed
    assert second.t_s
    assert third.t_s


def test_caveats_come_where_they_apply():
    """Other rules over recorded releases, a recording that begins late, a name the rules do not know: each is said."""
    run, replayer = replayed_with_actions()
    assert caveats([run], replayer.setting) == []
    other = Setting(random_plan(3)._replace(digest="x" * 64))
    late = dataclasses.replace(run, columns={**run.columns, "t_s": run.t_s + 100.0})
    mixed = dataclasses.replace(run, recorded_with=RecordedWith(is_mixed=True))
    (target,) = other.plan.targets
    many = Setting(other.plan._replace(targets=tuple(target._replace(name=name) for name in "ab")))
    assert "within 300 s of a recorded" in caveats([run], other)[0]
    assert "begin later" in caveats([late], replayer.setting)[0]
    assert "changed rules" in caveats([mixed], replayer.setting)[0]
    assert "no target of the rules (a, b)" in caveats([run], many)[-1]


def test_a_sample_comes_back_as_the_sensor_gave_it():
    """The columns and names of one place are the sample."""
    samples = random_samples(3, 30)
    samples[7] = samples[7]._replace(evictable_bytes=5.0, available_bytes=6.0)
    assert sample_of(run_of(samples), 7) == samples[7]
