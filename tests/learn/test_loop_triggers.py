"""The closed loop's arms: each fires at what it says and not before; all share one debounce and one cooldown."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from oomguard.decide.view import View
from oomguard.errors import UsageError
from oomguard.forecast import Forecast
from oomguard.learn.evaluate.baselines import slope_per_s
from oomguard.learn.lab.loop.triggers import (
    ARMS,
    LINEAR,
    NONE,
    OOMGUARD,
    THRESHOLDS,
    Seen,
    Trigger,
    condition_in_words,
    condition_of,
    line_to_limit_s,
    model_of,
    policy_of,
)
from oomguard.profile import Profile
from oomguard.sense.sample import NAN, Sample
from oomguard.trust.bundle import load_shipped
from oomguard.window import Window

LIMIT_BYTES = 100e6
POLICY = policy_of()
PACK = """\
version: 1
targets: [system]
rules:
  - name: give back
    when: {any: [{level_at_least: 2, for: 3s}, {used_above: 80%}]}
    then: [{hook: any, release: needed}]
    cooldown: 9s
"""


def sample(t_s: float, used_ratio: float) -> Sample:
    """Return a reading at so much of the limit."""
    known = {"t_s": t_s, "constraint": "cgroup:/x", "limit_bytes": LIMIT_BYTES, "used_bytes": used_ratio * LIMIT_BYTES,
             "charged_bytes": used_ratio * LIMIT_BYTES, "headroom_bytes": (1 - used_ratio) * LIMIT_BYTES,
             "late_s": 0.0, "phase": None}
    return Sample(**{name: known.get(name, NAN) for name in Sample._fields})


def fired_at(arm: str, used: list[float], is_busy: bool = False) -> list[int]:
    """Return the seconds at which an arm asks for a release, used over limit being so much at each."""
    trigger = Trigger(arm, POLICY, model_of(load_shipped(), Profile()) if arm == OOMGUARD else None, Profile())
    window, fired = Window.in_memory(), []
    for t_s, ratio in enumerate(used):
        reading = sample(float(t_s), ratio)
        assert window.push(reading)
        seen = trigger.see(reading, window)
        if trigger.decider.decide(seen.view, window.state, is_busy=is_busy) is not None:
            fired.append(t_s)
    trigger.release()
    return fired


@pytest.mark.parametrize("arm", THRESHOLDS)
def test_threshold_fires_above_itself_after_the_debounce(arm: str) -> None:
    """A threshold's arm asks once its share has been exceeded for the debounce, and again after the cooldown."""
    above = [0.3] * 5 + [THRESHOLDS[arm] + 0.01] * 20
    assert fired_at(arm, above) == [5 + POLICY.debounce_s, 5 + POLICY.debounce_s + POLICY.rule.cooldown_s]


@pytest.mark.parametrize("arm", THRESHOLDS)
def test_threshold_is_silent_below_itself(arm: str) -> None:
    """Just below its share it never asks, and one reading above it is none."""
    assert fired_at(arm, ([THRESHOLDS[arm] - 0.01] * 9 + [THRESHOLDS[arm] + 0.01]) * 3) == []


def test_line_fires_when_the_limit_is_two_minutes_off() -> None:
    """A straight leak of 0.5 % a second is asked for within 120 s of the limit, at a used share no threshold minds."""
    leak = [0.1 + 0.005 * t_s for t_s in range(80)]
    assert fired_at(LINEAR, leak)[0] == pytest.approx(62, abs=1)        # (0.9 - 0.3) / 0.005 = 120 s at 60 s


def test_line_is_silent_where_nothing_grows() -> None:
    """A plateau near the limit never lets the line's arm ask."""
    assert fired_at(LINEAR, [0.93] * 60) == []


def test_oomguard_has_plain_levels_before_the_forest_speaks() -> None:
    """In the first seconds of a window, 21 % of headroom is silent and 19 % (level 2) asks."""
    assert fired_at(OOMGUARD, [0.79] * 4) == []
    assert fired_at(OOMGUARD, [0.81] * 4) == [1]


def test_oomguard_scores_by_the_forest_later() -> None:
    """A steep leak is asked for after 30 s while it uses less than any threshold; a flat one is not."""
    assert fired_at(OOMGUARD, [0.2 + 0.01 * t_s for t_s in range(45)])
    assert fired_at(OOMGUARD, [0.4] * 45) == []


def test_nobody_asks_while_a_release_is_in_flight() -> None:
    """With a hook at work no arm asks for a second one."""
    assert all(fired_at(arm, [0.97] * 30, is_busy=True) == [] for arm in ARMS if arm != NONE)


def test_all_arms_share_the_debounce() -> None:
    """Every condition must hold for as long as each part of the shipped rule's."""
    parts = [part for arm in ARMS if arm != NONE
             for part in (condition_of(arm, POLICY).parts or [condition_of(arm, POLICY)])]
    assert {part.for_s for part in parts} == {1.0}
    assert condition_in_words(POLICY) == (
        "any of (level at least 2 until 0, for 1 s; "
        "all of (headroom below 0.6; probability above 0.1 within 300 s), for 1 s)")


@pytest.mark.parametrize(("arm", "has_forecast", "expected"), [
    ("threshold-80", False, False), (LINEAR, False, True), (OOMGUARD, True, True), (OOMGUARD, False, False)])
def test_what_is_foreseen_may_wait(arm: str, has_forecast: bool, expected: bool) -> None:
    """The line and a forecast foresee a kill, so what they ask for waits until it is due; what is full does not."""
    forecast = Forecast(0.1, 0.2, 0.3, 0.4, 0.5) if has_forecast else None
    assert Trigger(arm, POLICY, None, Profile()).may_wait(Seen(View(0.0, 2), forecast, 2)) is expected


def test_no_condition_for_no_guard() -> None:
    """The unguarded arm has no condition."""
    with pytest.raises(UsageError, match="none"):
        condition_of(NONE, POLICY)


def test_line_is_the_baselines() -> None:
    """The seconds to the limit are those of the linear baseline of the evaluation."""
    rng = np.random.default_rng(1)
    t_s = np.cumsum(rng.uniform(0.5, 1.5, 90))
    headroom = 80e6 - 4e5 * t_s + rng.normal(0, 1e6, 90)
    slope = slope_per_s(t_s, headroom, 60.0)[-1]
    assert line_to_limit_s(list(zip(t_s.tolist(), headroom.tolist(), strict=True))) == pytest.approx(
        headroom[-1] / -slope)


@pytest.mark.parametrize(("history", "expected"), [
    ([], None), ([(0.0, 5.0), (1.0, 4.0)], None), ([(0.0, 5.0), (1.0, 4.0), (2.0, 3.0)], None),
    ([(0.0, 5.0), (3.0, 5.5), (6.0, 6.0)], math.inf), ([(0.0, 6.0), (3.0, 3.0), (6.0, 0.0)], 0.0)])
def test_line_without_much_to_go_by(history: list[tuple[float, float]], expected: float | None) -> None:
    """Too short a history is unknown, one that rises never reaches the limit, one that is through is there."""
    assert line_to_limit_s(history) == expected


def test_line_takes_releases_out() -> None:
    """What a release gave back is no sign that the leak has ended: the slope stays, and so does the headroom read."""
    trigger, window = Trigger(LINEAR, POLICY, None, Profile()), Window.in_memory()
    seen = {}
    for t_s in range(60):
        reading = sample(float(t_s), 0.3 + 0.01 * t_s - (0.25 if t_s > 45 else 0.0))
        assert window.push(reading)
        seen[t_s] = trigger.see(reading, window, [(46.0, 25e6)] if t_s > 45 else []).view.time_to_limit_s
    assert seen[45] == pytest.approx(25.0, abs=1.0) and seen[59] == pytest.approx(36.0, abs=1.0)


def test_another_pack_gives_oomguards_condition(tmp_path: Path) -> None:
    """The first rule with `release: needed` of a pack is taken over, any and all included."""
    pack = tmp_path / "pack.yaml"
    pack.write_text(PACK)
    policy = policy_of(str(pack))
    assert policy.debounce_s == 3.0 and policy.rule.cooldown_s == 9.0
    assert "any of (level at least 2" in condition_in_words(policy)


@pytest.mark.parametrize(("word", "instead", "expected"), [
    ("release: needed", "release: all", "takes over its first rule"), (", for: 3s", "", "takes over its first rule"),
    ("{used_above: 80%}", "{phase: idle}", "does not read phase")])
def test_pack_that_cannot_serve_is_refused(word: str, instead: str, expected: str, tmp_path: Path) -> None:
    """A pack without such a rule, without a debounce, or with what the loop does not read is refused."""
    pack = tmp_path / "pack.yaml"
    pack.write_text(PACK.replace(word, instead))
    with pytest.raises(UsageError, match=expected):
        policy_of(str(pack))
