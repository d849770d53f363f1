"""Ctrl-C: between two turns, and not lost."""

from __future__ import annotations

import os
import signal

import pytest

from oomguard.ctrl_c import CtrlC


def interrupt() -> None:
    """Do what Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def test_it_waits_for_the_end_of_a_turn() -> None:
    """What a turn makes is made whole; the check after it raises."""
    made = []
    with pytest.raises(KeyboardInterrupt), CtrlC() as ctrl_c:
        interrupt()
        made.append("cell")
        ctrl_c.check()
        made.append("another")
    assert made == ["cell"]


def test_a_second_one_does_not_wait() -> None:
    """Whoever presses it twice means it: the turn may hang."""
    with pytest.raises(KeyboardInterrupt), CtrlC():
        interrupt()
        interrupt()
        pytest.fail("the second one was held back")


def test_one_in_the_last_turn_is_not_lost() -> None:
    """It is raised when the lab is closed, even if nobody asks any more."""
    with pytest.raises(KeyboardInterrupt), CtrlC():
        interrupt()


def test_without_one_nothing_happens_and_the_handler_is_back() -> None:
    """Afterwards Ctrl-C does what it did before."""
    before = signal.getsignal(signal.SIGINT)
    with CtrlC() as ctrl_c:
        ctrl_c.check()
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
