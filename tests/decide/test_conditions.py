"""Conditions: each fires and does not fire, holds, lets go, and stays silent on what is unknown."""

from __future__ import annotations

import itertools

import pytest

from oomguard.decide.conditions import Slots, compile_condition
from oomguard.decide.plan import Condition
from oomguard.decide.view import View
from oomguard.decide.words import because
from oomguard.forecast import Forecast

NAN = float("nan")
RAM_BYTES = 1000.0
TRUE, FALSE = Condition("level_at_least", 1), Condition("level_at_least", 2)
UNKNOWN = Condition("used_above", 0.5)
MIXED = View(0.0, 1)                # level 1, everything else unknown: TRUE, FALSE and UNKNOWN are so


class Asked:
    """A condition with a state of its own."""

    def __init__(self, condition, cadence_s=1.0, ram_bytes=RAM_BYTES):
        slots = Slots(0)
        self.test = compile_condition(condition, slots, cadence_s, ram_bytes)
        self.state = [NAN] * slots.next
        self.ram_bytes = ram_bytes

    def __call__(self, view):
        """Ask, twice."""
        first = self.test.call(view, self.state)
        assert self.test.call(view, self.state) is first, "asking twice gives the same answer"
        assert because(self.test, view, self.state, self.ram_bytes)
        return first


def ask(condition, view):
    return Asked(condition)(view)


PAIRS = [
    (Condition("level_at_least", 3), View(0.0, 3), View(0.0, 2)),
    (Condition("used_above", 0.95), View(0.0, 0, limit_bytes=100, used_bytes=95.1),
     View(0.0, 0, limit_bytes=100, used_bytes=95)),
    (Condition("charged_above", 0.95), View(0.0, 0, limit_bytes=100, charged_bytes=96),
     View(0.0, 0, limit_bytes=100, charged_bytes=95)),
    (Condition("headroom_below", 0.1), View(0.0, 0, limit_bytes=100, used_bytes=99, headroom_bytes=9),
     View(0.0, 0, limit_bytes=100, used_bytes=99, headroom_bytes=10)),
    (Condition("available_below", 64), View(0.0, 0, available_bytes=63), View(0.0, 0, available_bytes=64)),
    (Condition("available_below", 0.05, word="ram"), View(0.0, 0, available_bytes=49),
     View(0.0, 0, available_bytes=50)),
    (Condition("time_to_limit_below", 60), View(0.0, 0, time_to_limit_s=59.9),
     View(0.0, 0, time_to_limit_s=60)),
    (Condition("pressure_above", 0.2, word="some"), View(0.0, 0, psi_some_ratio=0.21, psi_full_ratio=0),
     View(0.0, 0, psi_some_ratio=0.2, psi_full_ratio=1)),
    (Condition("pressure_above", 0.2, word="full"), View(0.0, 0, psi_some_ratio=0, psi_full_ratio=0.21),
     View(0.0, 0, psi_some_ratio=1, psi_full_ratio=0.2)),
    (Condition("phase", word="playback"), View(0.0, 0, phase="playback"), View(0.0, 0, phase="menu")),
    (Condition("not", parts=(Condition("phase", word="menu"),)), View(0.0, 0, phase="playback"),
     View(0.0, 0, phase="menu")),
    *[(Condition("probability_above", 0.5, within_s=within_s),
       View(0.0, 0, Forecast(*(0.51 if i == at else 0.0 for i in range(5)))),
       View(0.0, 0, Forecast(*(0.5 if i == at else 1.0 for i in range(5)))))
      for at, within_s in enumerate((60.0, 120.0, 180.0, 240.0, 300.0))],
]


@pytest.mark.parametrize(("condition", "fires", "does_not"), PAIRS)
def test_each_condition_fires_beyond_its_value_and_not_at_it(condition, fires, does_not):
    """A pair per condition: just beyond the value it is true, at the value it is false."""
    assert ask(condition, fires) is True
    assert ask(condition, does_not) is False


@pytest.mark.parametrize("condition", [pair[0] for pair in PAIRS if pair[0].test != "level_at_least"])
def test_an_unknown_reading_is_neither_true_nor_false_nor_its_negation(condition):
    """With nothing known but the level, every other condition is unknown, and `not` of it too."""
    assert ask(condition, View(0.0, 5)) is None
    assert ask(Condition("not", parts=(condition,)), View(0.0, 5)) is None


def test_a_limit_of_zero_makes_shares_unknown():
    """No division by zero, and no rule that fires on nonsense."""
    assert ask(Condition("used_above", 0.1), View(0.0, 0, limit_bytes=0.0, used_bytes=5.0)) is None
    assert ask(Condition("charged_above", 0.1), View(0.0, 0, limit_bytes=0.0, charged_bytes=5.0)) is None


def test_a_share_of_ram_is_unknown_without_the_ram():
    """`available_below: 5%` on a machine whose RAM is unknown satisfies nothing."""
    asked = Asked(Condition("available_below", 0.05, word="ram"), ram_bytes=NAN)
    assert asked(View(0.0, 0, available_bytes=1)) is None


def test_time_to_limit_that_never_comes_is_known_and_not_below():
    """With a forecast, None means never: the condition is false and its negation true."""
    never = View(0.0, 0, Forecast(0, 0, 0, 0, 0), None)
    assert ask(Condition("time_to_limit_below", 60), never) is False
    assert ask(Condition("not", parts=(Condition("time_to_limit_below", 60),)), never) is True


@pytest.mark.parametrize("parts", list(itertools.product((TRUE, FALSE, UNKNOWN), repeat=2)))
def test_any_and_all_follow_three_valued_logic(parts):
    """All nine pairs of true, false and unknown, by Kleene's tables."""
    value = {TRUE: 2, UNKNOWN: 1, FALSE: 0}
    answer = (False, None, True)
    assert ask(Condition("any", parts=parts), MIXED) is answer[max(value[part] for part in parts)]
    assert ask(Condition("all", parts=parts), MIXED) is answer[min(value[part] for part in parts)]


def test_a_hold_counts_only_after_its_time_without_a_break():
    """True from the moment it held for 3 s; one false tick starts it anew."""
    asked = Asked(Condition("level_at_least", 2, for_s=3.0))
    levels = [2, 2, 2, 2, 2, 1, 2, 2, 2, 2]
    answers = [asked(View(float(t), level)) for t, level in enumerate(levels)]
    assert answers == [False, False, False, True, True, False, False, False, False, True]


def test_an_unknown_reading_breaks_a_hold():
    """What is unknown does not hold."""
    asked = Asked(Condition("used_above", 0.5, for_s=2.0))
    used = [90.0, 90.0, NAN, 90.0, 90.0, 90.0]
    answers = [asked(View(float(t), 0, limit_bytes=100, used_bytes=u)) for t, u in enumerate(used)]
    assert answers == [False, False, None, False, False, True]


def test_a_hold_bears_ticks_that_come_a_little_late():
    """A first tick 2 ms late does not cost a whole cadence more."""
    asked = Asked(Condition("level_at_least", 2, for_s=3.0))
    assert [asked(View(t, 2)) for t in (10.002, 11.0, 12.0, 13.0)] == [False, False, False, True]


def test_a_hold_shorter_than_a_cadence_needs_two_samples():
    """One reading alone is never a hold."""
    asked = Asked(Condition("level_at_least", 2, for_s=0.01))
    assert [asked(View(float(t), 2)) for t in range(2)] == [False, True]


def test_holds_inside_any_and_all_go_on_when_another_part_decides():
    """No part is skipped: the hold is ready the moment the other part lets go."""
    hold = Condition("level_at_least", 1, for_s=2.0)
    asked = Asked(Condition("any", parts=(Condition("phase", word="menu"), hold)))
    answers = [asked(View(float(t), 1, phase="menu" if t < 2 else "play")) for t in range(3)]
    assert answers == [True, True, True]
    asked = Asked(Condition("all", parts=(Condition("phase", word="play"), hold)))
    answers = [asked(View(float(t), 1, phase="menu" if t < 2 else "play")) for t in range(3)]
    assert answers == [False, False, True]


@pytest.mark.parametrize(("condition", "field", "values", "answers"), [
    (Condition("used_above", 0.9, until=0.8), "used_bytes", [85, 91, 85, 81, 80, 85, 91],
     [False, True, True, True, False, False, True]),
    (Condition("available_below", 100, until=200), "available_bytes", [150, 99, 150, 199, 200, 150],
     [False, True, True, True, False, False]),
    (Condition("time_to_limit_below", 60, until=120), "time_to_limit_s", [90, 59, 119, 120, 90],
     [False, True, True, False, False]),
    (Condition("level_at_least", 3, until=1), "level", [2, 3, 2, 1, 2], [False, True, True, False, False]),
    (Condition("pressure_above", 0.4, word="some", until=0.1), "psi_some_ratio", [0.2, 0.5, 0.2, 0.1, 0.2],
     [False, True, True, False, False]),
])
def test_until_keeps_a_condition_true_until_the_reading_is_back(condition, field, values, answers):
    """Hysteresis: it begins beyond the value, goes on in between, and lets go at `until`."""
    asked = Asked(condition)
    base = View(0.0, 0, limit_bytes=100)
    assert [asked(base._replace(t_s=float(t), **{field: v})) for t, v in enumerate(values)] == answers


def test_an_unknown_reading_leaves_a_latch_as_it_was():
    """One lost reading is unknown for its tick and forgets nothing."""
    asked = Asked(Condition("used_above", 0.9, until=0.8))
    answers = [asked(View(0.0, 0, limit_bytes=100, used_bytes=used)) for used in (91, NAN, 85, 80, NAN, 85)]
    assert answers == [True, None, True, False, None, False]
