"""Curves, and who beats whom."""

from __future__ import annotations

import numpy as np

from oomguard.learn.protocol.curves import at_equal_recall, dominance, points_of, shown
from oomguard.learn.protocol.events import track_of

from .made import killed_run, quiet_run


def system(killed, quiet):
    """Return the points of a system that gives a killed and a long quiet run one score each throughout."""
    runs, scores = [killed_run(400, app="a"), quiet_run(3900, app="b")], (float(killed), float(quiet))
    tracks = [track_of(run, np.full(len(run.t_s), score)) for run, score in zip(runs, scores, strict=True)]
    return points_of(tracks, [run.app for run in runs])


def test_a_curve_goes_from_never_to_always():
    """At the highest threshold nothing is seen and nothing false; at the lowest all is seen and all is in alarm."""
    curve = shown(system(2, 1))
    assert curve["recall_60"] == [0.0, 1.0, 1.0]
    assert curve["false_alarms_per_hour"][0] == 0.0
    assert curve["false_alarms_per_hour"][1] < 1.0 < curve["false_alarms_per_hour"][2]
    assert curve["threshold"][0] is None        # infinity


def test_one_who_tells_them_apart_beats_one_who_does_not():
    """At every point of the worse one the better has a point nowhere worse, and not the other way round."""
    better, worse = system(2, 1), system(1, 2)
    judged = dominance(better, worse)
    assert judged["at_once"] == judged["points"]
    assert judged["worst"]["recall_lacking"] == 0.0
    other = dominance(worse, better)
    assert other["at_once"] < other["points"]
    assert other["worst"]["recall_lacking"] == 1.0


def test_a_system_is_as_good_as_itself():
    """Equal in recall, false alarms and time is on the curve, not below it."""
    one = system(2, 1)
    assert dominance(one, one)["at_once"] == len(one.threshold)


def test_the_best_baseline_is_the_one_with_the_fewest_false_alarms_at_85_percent():
    """Of two that see the kill the model is compared with the better; where none sees it with none."""
    model = at_equal_recall(system(2, 1), {"good": system(2, 1), "bad": system(1, 2)}, seed=1)
    assert (model["baseline"], model["false_alarm_ratio"]) == ("good", 1.0)
    assert at_equal_recall(system(2, 1), {"bad": system(-np.inf, 2)}, seed=1) is None


def test_a_ratio_needs_a_baseline_with_false_alarms():
    """Nothing is fewer than no false alarms at all: then there is no ratio, only both counts."""
    runs = [killed_run(290, app="a"), quiet_run(3900, app="b")]
    tracks = [track_of(runs[0], np.ones(290)), track_of(runs[1], np.zeros(3901))]
    points = points_of(tracks, ["a", "b"])
    found = at_equal_recall(points, {"same": points}, seed=1)
    assert (found["of_baseline"]["false_alarms_per_hour"], found["false_alarm_ratio"]) == (0.0, None)


def test_thresholds_asked_for_are_among_the_points():
    """Where a system stands is a point of its curve."""
    runs = [killed_run(400), quiet_run(700)]
    tracks = [track_of(run, run.columns["used_bytes"]) for run in runs]
    assert 12345.0 in points_of(tracks, ["a", "b"], (12345.0,)).threshold
