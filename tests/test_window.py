"""The window survives crashes and restarts, and trusts no file that is not wholly its own."""

from __future__ import annotations

import os
import random
import signal
import struct
from math import isnan, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard import ring
from oomguard.errors import WindowError
from oomguard.window import Window
from windows import LIMIT_BYTES, plain_sample, window_of


def test_restart_goes_on_with_the_same_window(tmp_path) -> None:
    """Closing and opening again under the same identity keeps samples, release, rules' state and constraint."""
    path = str(tmp_path / "app.window")
    window = Window.open(path, "boot:1", 100.0)
    for t_s in range(40):
        window.push(plain_sample(t_s + 0.25, LIMIT_BYTES - t_s))
    window.released(30.5)
    state = window.state
    state[3] = 12.5
    state.release()
    before = bytes(window.buffer)
    window.close()
    window = Window.open(path, "boot:1", 200.0)
    assert bytes(window.buffer) == before
    assert (len(window), window.start_s, window.state[3], window.constraint) == (40, 100.0, 12.5, "cgroup:/app")
    window.push(plain_sample(41.0, 5.0))
    assert len(window.headroom_history()) == 41     # the constraint is recognised: no new segment


def test_odd_limits_are_recognised_after_a_restart(tmp_path) -> None:
    """A limit that float32 cannot hold, such as most machines' MemTotal, begins no new segment at a restart."""
    path = str(tmp_path / "w")
    limit = 25276063744.0 + 4096
    window = Window.open(path, "run", 0.0)
    window.push(plain_sample(0.0, 1e9, limit))
    window.close()
    window = Window.open(path, "run", 0.0)
    window.push(plain_sample(1.0, 1e9, limit))
    assert len(window.headroom_history()) == 2


def test_another_run_begins_anew(tmp_path) -> None:
    """A file of another identity, such as a reused pid, is replaced by an empty window."""
    path = str(tmp_path / "w")
    window = Window.open(path, "boot:1:first", 0.0)
    window.push(plain_sample(1.0, 1.0))
    window.close()
    assert len(Window.open(path, "boot:1:second", 50.0)) == 0


@pytest.mark.parametrize(
    ("at", "garbage", "what"),
    [
        (0, b"X", "not a window"),
        (8, b"\xff", "another version"),
        (12, b"\x09", "another version"),
        (32, b"\xff\xff", "outside the ring"),
        (37, b"\xff", "outside the ring"),
        (640, b"?", "other signals"),
        (ring.HEADER_BYTES + 24, b"\xff" * 8, "not in order"),
    ],
)
def test_foreign_or_torn_files_are_set_aside(tmp_path, at: int, garbage: bytes, what: str) -> None:
    """Every kind of damage is named, the file is kept as *.bad, and the next open begins a new window."""
    path = str(tmp_path / "w")
    window = Window.open(path, "run", 0.0)
    for t_s in range(10):
        window.push(plain_sample(float(t_s), 1.0))
    window.close()
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(garbage)
    with pytest.raises(WindowError, match=what):
        Window.open(path, "run", 0.0)
    assert os.path.exists(path + ".bad")
    assert len(Window.open(path, "run", 0.0)) == 0


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=200),
    at=st.integers(0, ring.WINDOW_BYTES - 1),
    size=st.sampled_from([0, 1, 100, 4096, ring.WINDOW_BYTES]),
)
def test_garbage_never_crashes_a_reader(tmp_path_factory, data: bytes, at: int, size: int) -> None:
    """Whatever a window file holds, opening it gives a window or WindowError, and a window gives features."""
    from oomguard import features
    from oomguard.profile import Profile

    path = str(tmp_path_factory.mktemp("w") / "w")
    window = Window.open(path, "run", 0.0)
    for t_s in range(20):
        window.push(plain_sample(float(t_s), 1e8 - t_s))
    window.close()
    with open(path, "r+b") as file:
        file.truncate(size)
        file.seek(at % max(size, 1))
        file.write(data[:max(size - at % max(size, 1), 0)])
    try:
        window = Window.open(path, "run", 0.0)
    except WindowError:
        return
    if len(window):
        features.of(window.buffer, features.statics(Profile()))


def test_kill_nine_at_any_moment_leaves_whole_samples(tmp_path) -> None:
    """A writer killed -9 at random moments leaves a file that opens, and of which at most one sample is missing."""
    path, rng = str(tmp_path / "w"), random.Random(7)
    for round_ in range(25):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            window = Window.open(path, f"run {round_}", 0.0)
            for i in range(10_000_000):
                window.push(plain_sample(i * 0.1, float(i)))
                os.write(writer, struct.pack("=I", i))
        os.close(writer)
        for _ in range(rng.randrange(1, 4000)):
            os.read(reader, 4)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        said = b""
        while chunk := os.read(reader, 1 << 16):
            said = chunk
        os.close(reader)
        window = Window.open(path, f"run {round_}", 0.0)
        if said:
            assert window.samples_total - struct.unpack("=I", said[-4:])[0] in (1, 2)
        newest = list(window.blocks())[-1]
        assert newest.headroom_bytes == pytest.approx(newest.t_s * 10)
        window.close()


def test_a_full_disk_is_an_error_at_the_start_not_a_signal_later(tmp_path, monkeypatch) -> None:
    """Without room for the whole file, opening raises OSError and leaves nothing half-made."""
    monkeypatch.setattr(os, "write", lambda fd, data: 100)
    with pytest.raises(OSError, match="no space"):
        Window.open(str(tmp_path / "w"), "run", 0.0)
    assert sorted(os.listdir(tmp_path)) == ["w"]


def test_block_holds_the_last_and_the_least() -> None:
    """At ten readings a second a block keeps the newest reading, and the least headroom of its second."""
    window = window_of([5.0, 3.0, 9.0, 4.0], cadence_s=0.1)
    (block,) = window.blocks()
    assert (block.headroom_bytes, block.least_headroom_bytes, len(window)) == (4.0, 3.0, 1)


def test_cost_and_size_do_not_grow_with_cadence() -> None:
    """300 s at 10 Hz fill as many blocks as 300 s at 1 Hz."""
    fast, slow = window_of([1.0] * 3100, 0.1), window_of([1.0] * 310, 1.0)
    assert len(fast) == len(slow) == ring.MAX_BLOCKS


@pytest.mark.parametrize(
    "bad",
    [
        {"headroom_bytes": nan},
        {"limit_bytes": 0.0},
        {"limit_bytes": nan},
        {"t_s": -1.0},
        {"t_s": nan},
        {"headroom_bytes": float("inf")},
    ],
)
def test_useless_samples_are_refused(bad: dict[str, float]) -> None:
    """What no feature could be computed from is not taken."""
    window = window_of([1.0, 2.0])
    assert not window.push(plain_sample(5.0, 1.0)._replace(**bad))
    assert len(window) == 2


def test_time_never_goes_back() -> None:
    """A sample that is not newer than the last one is refused; a newer one is taken."""
    window = window_of([1.0, 2.0])
    assert not window.push(plain_sample(1.0, 3.0))
    assert window.push(plain_sample(1.0001, 3.0))


def test_new_constraint_begins_a_new_segment() -> None:
    """Headroom under another constraint or limit is another quantity: the history begins anew."""
    window = window_of([1.0, 2.0, 3.0])
    window.push(plain_sample(3.0, 4.0)._replace(constraint="machine"))
    assert window.headroom_history() == [(3.0, 4.0)]
    window.push(plain_sample(4.0, 4.0, LIMIT_BYTES * 2)._replace(constraint="machine"))
    assert window.headroom_history() == [(4.0, 4.0)]


def test_share_of_time() -> None:
    """Pressure over a span is the rise of the counter over the time; unknown stays unknown."""
    window = Window.in_memory()
    for t_s in range(20):
        window.push(plain_sample(float(t_s), 1.0, psi_some_us=t_s * 250_000.0))
    assert window.share_of_time("psi_some_us", 10) == pytest.approx(0.25)
    assert isnan(window.share_of_time("psi_full_us", 10))


def test_rules_fit_into_the_state() -> None:
    """The slots in the window's header are as many as rules may need."""
    from oomguard.decide.plan import STATE_SLOTS

    assert ring.STATE_SLOTS == STATE_SLOTS
