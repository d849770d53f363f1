"""Journals cut, flipped, foreign: what can be known is read, what cannot is counted, and nothing is made up."""

import contextlib
import os
import random
import shutil
import struct
from binascii import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import SMALL, facts, read, record, row, rows, walk

from oomguard.errors import OomguardError, UsageError
from oomguard.record import layout
from oomguard.record.decode import SEARCH_MAX_BYTES, Damage, Frame, frames
from oomguard.record.journal import Journal
from oomguard.record.layout import HEADER_BYTES, SAMPLES_PER_KEY, SUFFIX
from oomguard.record.reader import read_journals

NAME = "0000000001" + SUFFIX


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """A segment of three targets, and what went into it."""
    folder = tmp_path_factory.mktemp("journal")
    runs = [list(walk(120, seed)) for seed in range(3)]
    record(folder, runs, layout_limits()).close()
    return (folder / NAME).read_bytes(), runs


def layout_limits():
    return SMALL._replace(total_bytes=8 << 20, segment_bytes=1 << 20)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Write a segment, read it."""
    folder = tmp_path_factory.mktemp("place")

    def write(data, name=NAME):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / name).write_bytes(data)
        return folder

    return write


def edges(data):
    """Where each frame of a sound segment ends."""
    at, found = HEADER_BYTES, [HEADER_BYTES]
    for frame in frames(data):
        assert isinstance(frame, Frame)
        at += len(frame.payload) + layout.FRAME_OVERHEAD_BYTES
        found.append(at)
    return found


def test_a_journal_cut_at_every_byte_gives_every_whole_frame(journal, place):
    """A crash in the midst of a write costs the frame it was in, is counted, and is never an exception."""
    data, _runs = journal
    sound = edges(data)
    kinds = [frame.kind for frame in frames(data)]
    for cut in range(9000):
        try:
            recording = read_journals(str(place(data[:cut])))
        except UsageError as error:
            assert 0 < cut < HEADER_BYTES and ("torn in its header" in str(error))
            continue
        whole = max(sum(edge <= cut for edge in sound) - 1, 0)
        samples = sum(kind in (layout.KEY, layout.NARROW, layout.WIDE) for kind in kinds[:whole])
        assert sum(map(len, recording.runs)) == samples
        assert recording.losses.torn_tails == (cut > HEADER_BYTES and cut not in sound)
        assert recording.losses.damaged_places == 0


def check_nothing_made_up(recording, runs, journal_lines=True):
    for run in recording.runs:
        name = run.facts.get("app") or run.run_id[-5:]
        known = {row(sample) for sample in runs[int(name[-1])]}
        assert set(rows(run)) <= known


@settings(max_examples=150)
@given(st.data())
def test_flipped_bytes_cost_little_and_make_nothing_up(journal, place, data):
    """A damaged frame costs at most itself and, of each run, the samples up to its next key."""
    whole, runs = journal
    broken = bytearray(whole)
    places = data.draw(st.lists(st.integers(HEADER_BYTES, len(whole) - 1), min_size=1, max_size=4))
    for at in places:
        broken[at] ^= data.draw(st.integers(1, 255))
    recording = read_journals(str(place(bytes(broken))))
    check_nothing_made_up(recording, runs)
    read_samples = sum(map(len, recording.runs))
    assert 360 - read_samples <= len(places) * 3 * SAMPLES_PER_KEY
    if bytes(broken) != whole:
        assert recording.losses.lines()


@settings(max_examples=150)
@given(st.binary(max_size=3000), st.booleans(), st.integers(0, HEADER_BYTES + 50))
def test_garbage_is_refused_or_counted(journal, place, garbage, is_after, keep):
    """Whatever the file holds: a clear refusal or an account, nothing else."""
    whole, runs = journal
    data = whole[:HEADER_BYTES + keep] + garbage if is_after else garbage
    with contextlib.suppress(OomguardError):
        check_nothing_made_up(read_journals(str(place(data))), runs)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=120)), max_size=20))
def test_frames_with_a_right_checksum_and_any_content_are_no_exception(journal, place, made):
    """Who writes a hostile journal knows how to compute a checksum."""
    header = journal[0][:HEADER_BYTES]
    seed = layout.seed_of(header)
    with contextlib.suppress(OomguardError):
        read_journals(str(place(header + b"".join(layout.framed(kind, body, seed) for kind, body in made))))


@pytest.mark.parametrize("payload", [
    b"\1\0" + b"[" * 9000, b"\1\0{}", b'\1\0{"run_id": "\\ud800", "start_s": NaN}', b'\1\0{"run_id": 5}',
    b'\1\0{"run_id": "x", "start_s": 1e999, "profile": [1], "cadence_s": {}}',
    b'\1\0{"run_id": "x", "profile": {"ram_bytes": 1e400, "cores": true, "device_type": 5}}',
    b'\1\0{"run_id": "x", "start_s": ' + b"9" * 4000 + b"}", b"\1\0\xff\xfe", b"\1", b""])
def test_hostile_facts_are_no_exception(journal, place, payload, tmp_path):
    """Deep, huge, half characters, other types: read as unknown, or counted; and what is left can be exported."""
    from oomguard.record.export import export
    header = journal[0][:HEADER_BYTES]
    recording = read_journals(str(place(header + layout.framed(layout.FACTS, payload, layout.seed_of(header)))))
    export(recording, str(tmp_path / "out"))


def resealed(data, at, new):
    """A header with some bytes changed and its checksum set right."""
    body = bytearray(data[:HEADER_BYTES - 4])
    body[at:at + len(new)] = new
    return bytes(body) + struct.pack("=I", crc32(bytes(body))) + data[HEADER_BYTES:]


def test_another_version_is_refused_by_name(journal, place):
    """It says which version, and which one can be read."""
    with pytest.raises(UsageError, match="version 7 of the journal; this oomguard reads version 1"):
        read_journals(str(place(resealed(journal[0], 8, struct.pack("=I", 7)))))


def test_the_other_byte_order_is_refused_by_name(journal, place):
    """Its numbers would all be wrong."""
    with pytest.raises(UsageError, match="the other byte order"):
        read_journals(str(place(resealed(journal[0], 12, journal[0][12:16][::-1]))))


def test_other_columns_are_refused_by_name(journal, place):
    """A column more would shift all others."""
    at = layout.HEADER.size
    with pytest.raises(UsageError, match="other columns"):
        read_journals(str(place(resealed(journal[0], at, b"u_s"))))


def test_a_damaged_header_is_refused_by_name(journal, place):
    """The checksums of the frames count from it."""
    broken = bytearray(journal[0])
    broken[40] ^= 1
    with pytest.raises(UsageError, match="its header is damaged"):
        read_journals(str(place(bytes(broken))))


def test_one_refused_segment_does_not_spoil_the_others(journal, tmp_path):
    """It is named; the rest is read."""
    (tmp_path / NAME).write_bytes(journal[0])
    (tmp_path / ("0000000002" + SUFFIX)).write_bytes(resealed(journal[0], 8, struct.pack("=I", 7)))
    (tmp_path / ("0000000003" + SUFFIX)).write_bytes(b"")      # the writer died as it began: nothing is lost
    os.mkfifo(tmp_path / ("0000000004" + SUFFIX))
    (tmp_path / ("0000000005" + SUFFIX)).symlink_to(tmp_path / NAME)
    found, losses = read(tmp_path)
    assert [len(run) for run in found.values()] == [120, 120, 120]
    assert len(losses.refused) == 3 and "version 7" in losses.refused[0] and "not a file" in losses.refused[1]


def test_frames_of_another_segment_are_not_believed(journal, tmp_path, place):
    """Recycled disk blocks after a power loss hold sound frames of a file that is gone."""
    record(tmp_path, [list(walk(50, 9))]).close()
    other = (tmp_path / NAME).read_bytes()
    recording = read_journals(str(place(journal[0] + other[HEADER_BYTES:])))
    assert sum(map(len, recording.runs)) == 360
    assert recording.losses.torn_tails + recording.losses.damaged_places == 1


def test_a_file_made_to_be_slow_is_given_up(journal):
    """The search for the next frame is bounded; what lies beyond counts as damaged."""
    header = journal[0][:HEADER_BYTES]
    trap = (layout.HEAD.pack(layout.MARKER, layout.KEY, layout.PAYLOAD_MAX_BYTES)) * 300_000
    looked = list(frames(header + trap))
    assert looked == [Damage(HEADER_BYTES, len(trap), True)]
    assert SEARCH_MAX_BYTES <= 64 << 20


def test_folders_below_are_read_and_two_of_them_kept_apart(tmp_path):
    """A state folder holds the service's journal and others; run numbers of one mean nothing in the other."""
    record(tmp_path / "journal", [list(walk(5, 1))]).close()
    other = Journal.open(str(tmp_path / "recordings" / "x"), SMALL)
    run = other.run(facts("x"))
    for sample in walk(7, 2):
        run.sample(sample)
    other.close()
    found, losses = read(tmp_path)
    assert {name: len(run) for name, run in found.items()} == {"app-0": 5, "x": 7} and losses.lines() == []


@pytest.mark.parametrize("name", ["", "nothing/here"])
def test_no_journal_is_said(tmp_path, name):
    """With the form of the files that are looked for."""
    with pytest.raises(UsageError, match="no journal there"):
        read_journals(str(tmp_path / name))


ROUNDS = 1000 if os.environ.get("OOMGUARD_DEVICE") else 200      # the thousand of `make test-all`


def test_kill_9_at_random_moments_costs_at_most_the_tick_it_hits(tmp_path):
    """A fork records as fast as it can, through many segments; whatever moment it is killed at, nothing else is lost.

    It counts finished ticks in shared memory: that many samples must be there, and at most one more.
    """
    import mmap
    import signal
    import time

    chance, counter = random.Random(20261122), mmap.mmap(-1, 8)
    samples = list(walk(3000))
    for at in range(ROUNDS):
        folder = tmp_path / str(at)
        counter[:8] = bytes(8)
        child = os.fork()
        if not child:
            try:
                journal = Journal.open(str(folder), SMALL._replace(total_bytes=64 << 20))
                run = journal.run(facts())
                for done, sample in enumerate(samples, 1):
                    run.sample(sample)
                    journal.tick(0.0)
                    counter[:8] = done.to_bytes(8, "little")
                signal.pause()
            finally:
                os._exit(1)
        time.sleep(chance.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done = int.from_bytes(counter[:8], "little")
        with contextlib.suppress(UsageError):           # killed before it began
            found, losses = read(folder)
            kept = rows(found["app"]) if "app" in found else []
            assert kept == [row(sample) for sample in samples[:len(kept)]]
            assert done <= len(kept) <= done + 1
            assert losses.damaged_places == 0 and losses.refused == [] and losses.torn_tails <= 1
            done = 0
        assert done == 0                                # what could not be read had recorded nothing
        shutil.rmtree(folder, ignore_errors=True)
