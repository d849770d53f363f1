"""What the figures come to: reasons add up, counterfactuals follow from the same scores, bounds hold."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from oomguard.learn.dataset import read_recordings
from oomguard.learn.evaluate import instead
from oomguard.learn.evaluate.account import UNTOLD, bound_of
from oomguard.learn.evaluate.artefact import Said
from oomguard.learn.evaluate.compare import MODEL, curve_of
from oomguard.learn.evaluate.explain import _known_of, explain, systems_from
from oomguard.learn.evaluate.systems import System
from oomguard.learn.evaluate.unavoidable import hidden_caps_of
from oomguard.learn.evaluate.why import STILL_S, Planned, fills_s, why_false, why_missed
from oomguard.learn.lab.planned import planned_of
from oomguard.learn.protocol.events import track_of
from oomguard.profile import Profile

from . import evaluated
from .made import LIMIT, killed_run, quiet_run, run_of

LAB = "models/recordings/lab"


@pytest.fixture(scope="module")
def trained():
    """Return the small evaluation."""
    return evaluated.trained()


@pytest.fixture(scope="module")
def explained(trained):
    """Return its report with reasons."""
    report = copy.deepcopy(trained.report)
    explain(report, trained.runs, trained.systems, {})
    return report


@pytest.fixture(scope="module")
def lab():
    """Return the lab's runs by id, and what was planned for them."""
    return {run.run_id: run for run in read_recordings(LAB)}, planned_of([LAB])


def plan(**more):
    return Planned(**{"kind": "bounded", "shape": "straight", "limit_bytes": LIMIT, "has_bound": True,
                      "loading_until_s": 5.0, "is_phase_told": False, "crosses_s": 500.0, **more})


def said_by(name, runs, scores, threshold=0.0):
    """Return a system of given scores."""
    return System(name, {}, scores, [track_of(*each) for each in zip(runs, scores, strict=True)],
                  [threshold] * len(runs))


def test_reasons_add_up_to_the_figures(explained):
    """Where the model stands, its reasons are as many as its false alarms and its misses; every event is listed."""
    reasons, row = explained["reasons"], explained["systems"][MODEL]
    assert row["false_alarms_per_hour"] == pytest.approx(
        sum(each["counts"][0] for each in reasons["false_alarms"]) / explained["data"]["quiet_hours"])
    missed = sum(each["counts"][0] for each in reasons["misses"])
    assert row["recall"]["60"] == pytest.approx(1 - missed / reasons["kills"])
    assert len(reasons["events"]) == sum(sum(each["counts"])
                                         for each in reasons["false_alarms"] + reasons["misses"])


def test_remedies_add_up_to_the_reasons(explained):
    """Each false alarm has one kind of remedy."""
    reasons = explained["reasons"]
    assert [sum(each) for each in zip(*reasons["by_remedy"].values(), strict=True)] == \
        [sum(each) for each in zip(*(row["counts"] for row in reasons["false_alarms"]), strict=True)]


def test_the_account_says_why(explained):
    """Each miss and false alarm has the key of a reason, and its report is still JSON."""
    reasons = explained["reasons"]
    for what in ("misses", "false_alarms"):
        keys = {each["key"] for each in reasons[what]}
        assert all(event["because"] in keys for event in explained["account"][what])
    assert json.loads(json.dumps(explained, allow_nan=False))["reasons"]["kills"] == reasons["kills"]


def test_each_run_says_what_it_was(lab):
    """What was planned where it is known, and whether a cap was hidden; without a plan neither."""
    runs, planned = lab
    hidden = next(run for name, run in sorted(runs.items())
                  if planned[name].has_bound and bound_of(run) == UNTOLD)
    known = _known_of([hidden], [planned[hidden.run_id]], {hidden.run_id})[hidden.run_id]
    assert (known["kind"], known["hides_cap"], known["bound"]) == ("bounded", True, UNTOLD)
    unknown = _known_of([hidden], [None], {hidden.run_id})[hidden.run_id]
    assert (unknown["kind"], unknown["hides_cap"]) == (None, False)


def test_nothing_that_needs_a_plan_is_said_without_one(explained):
    """These recordings have no catalogue: no hidden cap, no change by lot."""
    reasons = explained["reasons"]
    assert (reasons["plans_known"], reasons["hidden_caps"]) == (0, None)
    assert {event["reason"] for event in reasons["events"]}.isdisjoint({"hidden cap", "hidden phase", "own cap"})
    assert not any("every app" in row["says"] for row in reasons["instead"])


def test_a_saved_evaluation_is_explained_as_the_fresh_one(trained, explained):
    """Systems made anew from what was said have the same alarms: the same reasons."""
    said = {name: Said(each.forecasts, each.levels) for name, each in trained.systems.items() if each.forecasts}
    again = copy.deepcopy(trained.report)
    explain(again, trained.runs, systems_from(again, trained.runs, said), {})
    assert again["reasons"] == explained["reasons"]


def test_no_change_is_the_set_as_it_is(trained):
    """Recall and false alarms at every threshold are those of the curve."""
    points = {name: curve_of(trained.runs, trained.systems[name]) for name in (MODEL, "linear 60 s")}
    counts = instead.counted(trained.runs, {name: trained.systems[name] for name in points}, points)
    for name, expected in points.items():
        found = instead.points_with(counts[name], instead.Change(""))
        np.testing.assert_allclose(found.recall, expected.recall, rtol=1e-6)
        np.testing.assert_allclose(found.false, expected.false)
        np.testing.assert_allclose(found.alarm_ratio, expected.alarm_ratio, rtol=1e-6)


def test_what_is_set_aside_is_not_counted():
    """A missed kill that is set aside lowers recall no more; a run of weight 0 has no false alarms; early is spared."""
    runs = [killed_run(1000, run_id="a"), killed_run(1000, run_id="b"), quiet_run(1000, run_id="c")]
    scores = [np.where(run.t_s >= (200 if run.run_id != "b" else 2000), 1.0, -1.0) for run in runs]
    system = said_by("line", runs, scores)
    counts = instead.counted(runs, {"line": system}, {"line": curve_of(runs, system)})["line"]
    at = int(np.flatnonzero(counts.threshold == 1.0)[0])

    def at_one(**change):
        points = instead.points_with(counts, instead.Change("", **change))
        return float(points.recall[at, 1]), float(points.false[at]), round(points.quiet_h, 3)

    assert at_one() == (0.5, 4.0, round(2100 / 3600, 3))
    assert at_one(kept_kills=np.array([True, False]))[0] == 1.0
    assert at_one(weight=np.array([1.0, 1.0, 0.0]))[1] == 2.0
    assert at_one(spares_early=True)[1] == 2.0


def test_who_told_stands_for_all_of_the_kind():
    """The kind keeps its quiet hours; where nobody told, all stay as they are."""
    hours, has_cap = np.array([1.0, 3.0, 2.0, 2.0]), np.array([True, True, False, False])
    told = np.array([True, False, True, True])
    weight = instead._standing_for_all(told, (has_cap, ~has_cap), hours)
    assert weight.tolist() == [4.0, 0.0, 1.0, 1.0]
    assert instead._standing_for_all(np.zeros(4, bool), (has_cap, ~has_cap), hours).tolist() == [1.0] * 4


def test_an_alarm_that_only_a_hidden_cap_made_false_is_counted_so():
    """Right but for the cap: raised before it, with the leak's kill within 300 s; an earlier one is just false."""
    t = np.arange(1000.0)
    run = run_of(np.minimum(0.1 + 0.9 * t / 500, 0.95), t_s=t)      # its leak would be killed at 500 s; capped at 461 s
    alarms = [{"point": 0, "run_id": "run", "at_s": at_s} for at_s in (100.0, 300.0, 480.0)]
    found = hidden_caps_of([run], [plan()], alarms, 1, 0.5)
    assert (found["false_alarms"], found["right_but_for_the_cap"]) == ([3], [1])
    assert (found["unavoidable_runs"], found["unavoidable_per_hour"]) == (["run"], 2.0)


def test_a_cap_reached_in_time_can_be_avoided_and_a_told_one_is_not_hidden():
    """Capped at half the limit, minutes before the leak's kill: whoever waits need not alarm."""
    t = np.arange(1000.0)
    used = np.minimum(0.1 + 0.9 * t / 500, 0.5)
    assert hidden_caps_of([run_of(used, t_s=t)], [plan()], [], 1, 0.5)["unavoidable_runs"] == []
    told = run_of(used, t_s=t, profile=Profile(cache_capacity_bytes=0.5 * LIMIT))
    assert hidden_caps_of([told], [plan()], [], 1, 0.5) is None


def test_the_catalogue_draws_the_recorded_runs(lab):
    """Every recorded run has its plan, with its limit, its cap told as planned, and its phase."""
    runs, planned = lab
    assert len(runs) > 500
    for name, run in runs.items():
        assert planned[name].limit_bytes == run.columns["limit_bytes"][-1]
        assert planned[name].is_phase_told == any(run.phase)
        has_told = any(each == each for each in (run.profile.cache_capacity_bytes, run.profile.heap_limit_bytes))
        assert planned[name].has_bound or not has_told


def test_folders_without_a_catalogue_have_no_plans(tmp_path):
    """Nothing is guessed."""
    assert planned_of([str(tmp_path), "models/recordings/sample"]) == {}


def test_real_runs_have_the_reasons_a_person_gives(lab):
    """A burst out of stillness is that; a straight rise into a cap that was hidden is that."""
    runs, planned = lab
    burst = runs["gawk-leak-02"]
    assert why_missed(burst, burst.end_s, 60.0, np.array([]), planned["gawk-leak-02"]) == "stood still"
    hidden = next(name for name, each in sorted(planned.items()) if each.kind == "bounded" and each.shape == "straight"
                  and name in runs and np.isnan(runs[name].profile.cache_capacity_bytes))
    moving_s = next(at_s for at_s in np.arange(runs[hidden].start_s + 30.0, runs[hidden].end_s)
                    if fills_s(runs[hidden], at_s) <= STILL_S)
    assert why_false(runs[hidden], moving_s, np.inf, planned[hidden]) == "hidden cap"
