"""The schedule: absolute, lateness told once, missed ticks skipped."""

import os
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.clock import now_s
from oomguard.ticker import Ticker


class Clock:
    """A clock that a test moves."""

    def __init__(self, t_s: float = 100.0) -> None:
        self.t_s = t_s

    def __call__(self) -> float:
        """Return what the test set."""
        return self.t_s


def test_first_tick_is_due_at_once():
    """A guard looks before it waits."""
    ticker = Ticker(1.0, Clock())
    assert ticker.timeout_s() == 0.0
    assert ticker.tick() == 0.0


def test_no_tick_before_it_is_due():
    """Being woken early, by a control client, is no tick."""
    clock = Clock()
    ticker = Ticker(1.0, clock)
    ticker.tick()
    clock.t_s = 100.6
    assert ticker.tick() is None
    assert ticker.timeout_s() == pytest.approx(0.4)


def test_late_tick_tells_lateness_and_keeps_the_grid():
    """Half a second late once: the next tick is due on the old grid, and is not late."""
    clock = Clock()
    ticker = Ticker(1.0, clock)
    ticker.tick()
    clock.t_s = 101.5
    assert ticker.tick() == pytest.approx(0.5)
    assert ticker.due_s == 102.0
    clock.t_s = 102.0
    assert ticker.tick() == 0.0


def test_standby_is_one_late_tick():
    """After an hour asleep there is one tick, an hour late; the missed ones are counted and not replayed."""
    clock = Clock()
    ticker = Ticker(1.0, clock)
    ticker.tick()
    clock.t_s += 3600.25
    assert ticker.tick() == pytest.approx(3599.25)
    assert ticker.tick() is None
    assert ticker.skipped == 3599
    assert ticker.timeout_s() == pytest.approx(0.75)


def test_a_stopped_clock_neither_ticks_nor_spins():
    """With a clock that stands still the loop goes on waiting a whole cadence."""
    ticker = Ticker(0.1, Clock())
    ticker.tick()
    assert [ticker.tick() for _ in range(3)] == [None] * 3
    assert ticker.timeout_s() == pytest.approx(0.1)


def test_a_tick_exactly_one_cadence_ahead_is_no_clock_that_went_back():
    """1.1 - 1.0 is a little more than 0.1 in floating point; the grid stays all the same."""
    clock = Clock(0.0)
    ticker = Ticker(0.1, clock)
    clock.t_s = 1.0
    assert ticker.tick() == 1.0
    assert ticker.tick() is None
    assert ticker.due_s == pytest.approx(1.1)


def test_a_clock_that_went_back_starts_a_new_grid():
    """A checkpoint restored on a machine that booted later ticks on at once."""
    clock = Clock(5000.0)
    ticker = Ticker(1.0, clock)
    ticker.tick()
    clock.t_s = 10.0
    assert ticker.timeout_s() == 1.0
    assert ticker.tick() == 0.0
    assert ticker.due_s == 11.0


@pytest.mark.parametrize("cadence_s", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_cadence_is_refused(cadence_s):
    """A cadence that is no positive number of seconds never starts."""
    with pytest.raises(ValueError, match="cadence_s"):
        Ticker(cadence_s)


@settings(deadline=None)
@given(st.floats(0.1, 10.0), st.lists(st.floats(0.0, 100.0), max_size=50))
def test_after_a_tick_the_next_is_within_one_cadence(cadence_s, steps_s):
    """Whatever the delays: late is never negative; the next tick is ahead, on the grid, and near."""
    clock = Clock(0.0)
    ticker = Ticker(cadence_s, clock)
    ticks = 0
    for step_s in steps_s:
        clock.t_s += step_s
        late_s = ticker.tick()
        if late_s is not None:
            ticks += 1
            assert late_s >= 0
            assert ticker.due_s > clock.t_s
            assert ticker.due_s - clock.t_s <= cadence_s * (1 + 1e-9)
        assert ticker.due_s == pytest.approx((ticks + ticker.skipped) * cadence_s, abs=1e-6)


def test_no_drift_over_a_million_ticks():
    """The millionth tick is due a million cadences after the start."""
    clock = Clock(0.0)
    ticker = Ticker(0.1, clock)
    for index in range(1_000_000):
        clock.t_s = index * 0.1
        assert ticker.tick() == 0.0
    assert ticker.due_s == pytest.approx(100_000.0, abs=1e-9)


def test_a_really_stopped_process_ticks_once_and_late():
    """SIGSTOP for several cadences, then SIGCONT: one late tick, then on time."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        ticker = Ticker(0.02)
        ticker.tick()
        os.write(write_end, b"r")
        late = []
        while len(late) < 2:
            time.sleep(ticker.timeout_s())
            late_s = ticker.tick()
            if late_s is not None and (late or late_s > 0.1):
                late.append((late_s, ticker.skipped))
        os.write(write_end, repr(late).encode())
        os._exit(0)
    try:
        assert os.read(read_end, 1) == b"r"
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        start_s = now_s()
        while now_s() - start_s < 0.3:
            time.sleep(0.02)
    finally:
        os.kill(pid, signal.SIGCONT)
        os.waitpid(pid, 0)
    (first_s, skipped), (second_s, _skipped) = eval(os.read(read_end, 4096))
    os.close(read_end)
    os.close(write_end)
    assert first_s > 0.2
    assert skipped >= 10
    assert second_s < first_s
