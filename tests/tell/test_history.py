"""What a view that begins now is told of the time before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.sense.sample import Sample
from oomguard.tell.history import POINTS, history, used_ratios
from oomguard.window import Window


def filled(count, every_s=1.0, start_s=0.0):
    window = Window.in_memory(start_s)
    for number in range(count):
        window.push(Sample(number * every_s, "machine", 1000.0, 500.0, float(number)))
    return window


def test_the_last_five_minutes_oldest_first():
    """Sixty values, the newest last, each the greatest of its 5 s but for a block in two, and nothing is left out."""
    found = used_ratios(filled(700), 699.0)
    assert len(found) == POINTS and None not in found and found == sorted(found)
    assert found[-1] == pytest.approx(0.699) and found[0] == pytest.approx(0.404, abs=0.003)


@pytest.mark.parametrize("every_s", [0.1, 1.0, 2.0, 5.0])
def test_every_cadence_fills_it(every_s):
    """No gap but before the run began; at 0.1 s a block holds a second."""
    found = used_ratios(filled(int(400 / every_s), every_s), 400.0 - every_s)
    assert None not in found


def test_what_was_not_read_is_a_gap():
    """Before the run, in a standby, and in an empty window."""
    assert used_ratios(Window.in_memory(0.0), 10.0) == [None] * POINTS
    window = filled(20)
    window.push(Sample(100.0, "machine", 1000.0, 500.0, 900.0))
    found = used_ratios(window, 100.0)
    assert found[-1] == 0.9 and found[-16:-1] == [None] * 15 and found[:-20 - 1] == [None] * (POINTS - 21)


def test_the_answer():
    """The target's name, its past, and how long ago the last release was; NaN where there was none."""
    window = filled(10, start_s=now_s() - 10)
    guards = {"app": SimpleNamespace(name="app", window=window)}
    answer = history(guards, {"target": "app"})
    assert answer["target"] == "app" and answer["every_s"] == 5.0
    assert answer["released_s_ago"] != answer["released_s_ago"]
    window.released(4.0)
    assert 5.9 < history(guards, {"target": "app"})["released_s_ago"] < 60
    for message in ({}, {"target": "other"}, {"target": ["app"]}):
        with pytest.raises(UsageError, match="target is the name"):
            history(guards, message)
