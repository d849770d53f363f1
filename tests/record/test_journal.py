"""The journal: what is recorded comes back, is bounded, and no disk stops the one who records."""

import math
import os
import signal
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import MIB, SMALL, Told, facts, read, record, row, rows, walk

from oomguard.errors import UsageError
from oomguard.record import layout, segments
from oomguard.record.journal import Journal
from oomguard.record.segments import Limits
from oomguard.sense.sample import Sample

NUMBER = st.one_of(st.floats(), st.integers(-2**53, 2**53).map(float), st.integers(0, 2**20).map(lambda n: 4096.0 * n),
                   st.just(math.nan))
SAMPLE = st.builds(
    Sample, t_s=st.floats(0, 1e9), constraint=st.sampled_from(["machine", "cgroup:/ä", ""]), limit_bytes=NUMBER,
    headroom_bytes=NUMBER, used_bytes=NUMBER, charged_bytes=NUMBER, kernel_bytes=NUMBER, available_bytes=NUMBER,
    swap_used_bytes=NUMBER, swap_free_bytes=NUMBER, swap_limit_bytes=NUMBER, psi_some_us=NUMBER, psi_full_us=NUMBER,
    refaults=NUMBER, major_faults=NUMBER, late_s=st.floats(0, 1e6), evictable_bytes=NUMBER,
    phase=st.sampled_from([None, "", "playback"]))


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def test_samples_take_the_numbers_in_the_order_of_the_layout():
    """The recorder slices a sample; the layout names what it gets."""
    sample = Sample(*range(len(Sample._fields)))
    assert sample[2:15] + sample[16:17] == tuple(getattr(sample, name) for name in layout.NUMBERS)


@settings(max_examples=60)
@given(st.lists(st.tuples(SAMPLE, SAMPLE), min_size=1, max_size=90))
def test_every_number_comes_back_bit_for_bit(tmp_path_factory, pairs):
    """Any float64, of two targets in turn, with any names: unknown stays unknown, known stays the same bits."""
    folder = tmp_path_factory.mktemp("journal")
    runs = list(zip(*pairs, strict=True))
    record(folder, runs).close()
    found, losses = read(folder)
    for at, samples in enumerate(runs):
        run = found[f"app-{at}"]
        assert list(map(bits, rows(run))) == [bits(row(sample)) for sample in samples]
        assert list(zip(*run.names(), strict=True)) == [(sample.constraint, sample.phase) for sample in samples]
    assert losses.lines() == []


def bits(packed):
    """The bits of each number; NaN is NaN, and 0 has no sign."""
    return [struct.pack("d", x + 0.0) if x == x else "unknown" for (x,) in struct.iter_unpack("d", packed)]


def test_a_sample_of_memory_that_moves_takes_fewer_than_70_bytes(tmp_path):
    """Only what changed is written, as float32 where that loses nothing."""
    record(tmp_path, [list(walk(1000))], Limits()).close()
    assert size_of(tmp_path) / 1000 < 70


def test_actions_kills_and_the_end_come_back(tmp_path):
    """Also the action whose outcome nobody has seen, and names with any letters."""
    journal = Journal.open(str(tmp_path), SMALL)
    run = journal.run(facts(rules_digest="ab", bundle_digest="cd", scorer="forest"))
    for sample in walk(3):
        run.sample(sample)
    first = run.action(2.25, "trim the cäche", "image-cache", 3, 5.0 * MIB)
    run.acted(first, 4.0 * MIB, 0.125)
    run.action(2.5, "last resort", "gc", 5, math.nan)
    run.kill(2.75, 77, "earlyoom")
    run.end("oom", 9.5, 812)
    journal.close()
    found, losses = read(tmp_path)
    app = found["app"]
    assert [action[:7] for action in app.actions[:1]] == [
        (2.25, "trim the cäche", "image-cache", 3, 5.0 * MIB, 4.0 * MIB, 0.125)]
    assert app.actions[1][:4] == (2.5, "last resort", "gc", 5) and math.isnan(app.actions[1].duration_s)
    assert app.kills == [(2.75, 77, "earlyoom", False), (9.5, 812, "kernel", True)]
    assert (app.ended, app.ended_after_s) == ("oom", 9.5)
    assert (app.facts["rules_digest"], app.facts["bundle_digest"], app.facts["scorer"]) == ("ab", "cd", "forest")
    assert losses.lines() == []


def test_a_kill_seen_with_the_last_sample_is_the_one_that_ended_the_run(tmp_path):
    """The counter rose at a tick, then the app's end was noticed: that is one kill, at the tick."""
    journal = Journal.open(str(tmp_path), SMALL)
    run = journal.run(facts())
    samples = list(walk(3))
    for sample in samples:
        run.sample(sample)
    run.kill(samples[-1].t_s)
    run.end("oom", 2.5)
    journal.close()
    app = read(tmp_path)[0]["app"]
    assert app.kills == [(samples[-1].t_s, -1, "kernel", True)] and app.ended_after_s == samples[-1].t_s


def test_a_run_that_a_restart_continues_is_one_run(tmp_path):
    """Same identity, same start: same run_id; that we stopped in between is not its end."""
    samples = list(walk(20))
    for part, ended in ((samples[:10], "stopped"), (samples[10:], "exit")):
        journal = Journal.open(str(tmp_path), SMALL)
        run = journal.run(facts())
        for sample in part:
            run.sample(sample)
        run.end(ended, part[-1].t_s)
        journal.close()
    found, losses = read(tmp_path)
    assert rows(found["app"]) == [row(sample) for sample in samples]
    assert found["app"].ended == "exit" and losses.lines() == [] and found["app"].mixed == set()


def test_a_run_whose_recorder_is_gone_ended_unknown(tmp_path):
    """Nobody saw how it ended."""
    record(tmp_path, [list(walk(5))]).close()
    run = read(tmp_path)[0]["app-0"]
    assert run.ended == "unknown" and math.isnan(run.ended_after_s)


def test_another_start_is_another_run():
    """A window that began anew, on the same process, counts its time from elsewhere."""
    assert facts().run_id == facts().run_id
    assert len({facts().run_id, facts(start_s=101.0).run_id, facts("other").run_id}) == 3


def test_new_rules_within_a_run_are_told(tmp_path):
    """A reload changes a digest: the run then was not guarded by one set of rules."""
    journal = Journal.open(str(tmp_path), SMALL)
    run = journal.run(facts(rules_digest="one"))
    samples = list(walk(4))
    for at, sample in enumerate(samples):
        if at == 2:
            run.change(run.facts._replace(rules_digest="two"))
        run.sample(sample)
        journal.tick(0.0)
    journal.close()
    app = read(tmp_path)[0]["app"]
    assert app.mixed == {"rules_digest"} and rows(app) == [row(sample) for sample in samples]


def test_bytes_are_bounded_and_the_oldest_go_first(tmp_path):
    """However much is recorded: what is left is the newest, whole, and never more than the limit."""
    samples = list(walk(9000))
    journal = Journal.open(str(tmp_path), SMALL)
    run, most = journal.run(facts()), 0
    for sample in samples:
        run.sample(sample)
        journal.tick(0.0)
        most = max(most, size_of(tmp_path)) if int(sample.t_s) % 50 == 0 else most
    journal.close()
    assert SMALL.total_bytes / 2 < most <= SMALL.total_bytes
    found, losses = read(tmp_path)
    kept = rows(found["app"])
    assert 1000 < len(kept) < 9000 and kept == [row(sample) for sample in samples[-len(kept):]]
    assert losses.lines() == []     # each segment can be read alone


@pytest.fixture
def clocks(monkeypatch):
    """A wall clock and a boot clock that the test moves: clocks.pass_s(5.0), clocks.wall_s += 1e6."""
    class Clocks:
        wall_s, boot_s = 1.8e9, 1000.0

        def pass_s(self, seconds):
            self.wall_s, self.boot_s = self.wall_s + seconds, self.boot_s + seconds

    made = Clocks()
    monkeypatch.setattr(segments.time, "time", lambda: made.wall_s)
    monkeypatch.setattr(segments, "now_s", lambda: made.boot_s)
    return made


def aged(tmp_path, written_s):
    """Make a folder of one finished segment that was written then; return both."""
    record(tmp_path, [list(walk(5))]).close()
    (path,) = tmp_path.iterdir()
    os.utime(path, (written_s, written_s))
    return segments.Folder(str(tmp_path), SMALL), path


def test_what_is_too_old_goes_by_a_clock_that_has_stood(tmp_path, clocks):
    """Age is told by the wall clock, once that has gone with the boot clock for an hour."""
    folder, old = aged(tmp_path, clocks.wall_s - 15 * segments.DAY_S)
    folder.drop_aged()
    assert old.exists()
    clocks.pass_s(segments.CLOCK_PROVEN_S)
    folder.drop_aged()
    assert not old.exists()
    folder.close()


def test_a_clock_that_leaps_deletes_nothing(tmp_path, clocks):
    """A year on by a bad time server: nothing goes for an hour; set right by then, nothing goes at all."""
    folder, young = aged(tmp_path, clocks.wall_s)
    folder.drop_aged()
    clocks.pass_s(2 * segments.CLOCK_PROVEN_S)
    clocks.wall_s += 365 * segments.DAY_S
    folder.drop_aged()
    clocks.pass_s(segments.CLOCK_PROVEN_S / 2)
    folder.drop_aged()
    clocks.wall_s -= 365 * segments.DAY_S
    clocks.pass_s(2 * segments.CLOCK_PROVEN_S)
    folder.drop_aged()
    assert young.exists()
    folder.close()


@pytest.mark.parametrize(("wall_s", "written_s"), [(500.0, 1.7e9), (1.8e9, 1000.0)], ids=["clock", "segment"])
def test_a_clock_that_is_not_set_deletes_nothing(tmp_path, clocks, wall_s, written_s):
    """One from before 2020 says nothing, neither now nor when the segment was written."""
    clocks.wall_s = wall_s
    folder, path = aged(tmp_path, written_s)
    folder.drop_aged()
    clocks.pass_s(2 * segments.CLOCK_PROVEN_S)
    folder.drop_aged()
    assert path.exists()
    folder.close()


def test_a_segment_that_spans_too_long_is_ended(tmp_path):
    """Else what is in a slow one would outlive the age limit."""
    journal = Journal.open(str(tmp_path), Limits(total_bytes=MIB, age_s=80.0))
    run = journal.run(facts())
    far_s = journal._resumed_s + 100.0
    for at_s, sample in zip((0.0, far_s, far_s + 1), walk(3), strict=True):
        run.sample(sample)
        journal.tick(at_s)
    journal.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert len(read(tmp_path)[0]["app"]) == 3


@pytest.mark.parametrize("limits", [Limits(total_bytes=1000), Limits(age_s=0), Limits(sync_s=-1)])
def test_absurd_limits_are_refused(tmp_path, limits):
    """They would keep nothing."""
    with pytest.raises(UsageError, match="a journal needs"):
        Journal.open(str(tmp_path), limits)


def test_the_second_writer_is_refused_and_the_next_is_not(tmp_path):
    """It hears who is there; once that one is gone, it may."""
    first = record(tmp_path, [list(walk(5))])
    with pytest.raises(UsageError, match=rf"another oomguard \(pid {os.getpid()}\) records there"):
        Journal.open(str(tmp_path), SMALL)
    first.close()
    Journal.open(str(tmp_path), SMALL).close()


def test_a_killed_writer_holds_nobody_up(tmp_path):
    """The kernel lets its lock go."""
    code = ("import sys; sys.path.insert(0, sys.argv[2]); from oomguard.record.journal import Journal\n"
            "journal = Journal.open(sys.argv[1]); print('there', flush=True); sys.stdin.read()")
    agent = os.path.dirname(os.path.dirname(os.path.dirname(segments.__file__)))
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path), agent], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"there\n"
        with pytest.raises(UsageError, match=f"pid {other.pid}"):
            Journal.open(str(tmp_path))
        other.kill()
        other.wait()
    Journal.open(str(tmp_path)).close()


def test_a_fork_leaves_its_parents_file_alone(tmp_path):
    """Both halves go on; only one of them records."""
    samples = list(walk(30))
    journal = record(tmp_path, [samples[:10]])
    run = journal.run(facts("later"))
    run.sample(samples[10])                         # handed in, not yet written: the child has it, too
    child = os.fork()
    if not child:
        try:
            run.sample(samples[11])
            journal.tick(1e9)
            run.sample(samples[12])
            journal.tick(2e9)
            journal.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    for sample in samples[11:]:
        run.sample(sample)
        journal.tick(0.0)
    with pytest.raises(UsageError):
        Journal.open(str(tmp_path), SMALL)          # the lock is still the parent's
    journal.close()
    found, losses = read(tmp_path)
    assert rows(found["later"]) == [row(sample) for sample in samples[10:]] and losses.lines() == []


def test_a_fork_that_sleeps_does_not_keep_its_parent_from_going_on(tmp_path):
    """It holds a copy of the lock's descriptor; who let go of the folder may take it again all the same."""
    journal = record(tmp_path, [list(walk(5))])
    child = os.fork()
    if not child:
        signal.pause()
    journal.close()
    Journal.open(str(tmp_path), SMALL).close()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_an_empty_journal_leaves_no_file(tmp_path):
    """Nothing recorded, nothing to keep."""
    Journal.open(str(tmp_path), SMALL).close()
    assert list(tmp_path.iterdir()) == []


def test_a_closed_journal_takes_no_harm_from_a_late_recorder(tmp_path):
    """The guard closes in any order."""
    journal = record(tmp_path, [list(walk(5))])
    run = journal.run(facts("late"))
    journal.close()
    run.sample(next(walk(1)))
    run.end("exit", 1.0)
    journal.tick(1e9)
    journal.close()
    assert set(read(tmp_path)[0]) == {"app-0"}


def test_silence_while_all_is_well(tmp_path):
    """A journal that works says nothing."""
    told = Told()
    record(tmp_path, [list(walk(500))], tell=told).close()
    assert told.events == []
