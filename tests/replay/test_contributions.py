"""What pushed a score sums to it, by trees of every shape."""

from __future__ import annotations

import random
from array import array

import numpy as np
import pytest
from recordings import random_bundle

from oomguard import forest
from oomguard.features import COUNT, NAMES
from oomguard.forest import CLASSES, HORIZONS_S, class_probabilities, reference_margins, unpack
from oomguard.replay.contributions import Contributions, by_class, contributions_to
from oomguard.replay.words import GROUPS, group_of, in_words, pushes

SPECIAL = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0]


def random_rows(seed: int, count: int):
    """Yield rows of features as a device may show them, odd values included."""
    rng = random.Random(seed)
    for _ in range(count):
        yield np.array([rng.choice(SPECIAL) if rng.random() < 0.3 else rng.gauss(0.2, 0.5) for _ in range(COUNT)],
                       np.float32)


@pytest.mark.parametrize("leaf_size", [1, 6])
@pytest.mark.parametrize("depth", range(1, 11))
def test_contributions_sum_to_the_margins_and_to_the_score(depth, leaf_size):
    """Bias and contributions are each class's margin, as the reference walks it, and each horizon's score, to 1e-9."""
    trees = unpack(random_bundle(depth, leaf_size, depth, count=11).forest)
    for row in random_rows(depth, 20):
        margins = reference_margins(trees, array("f", row.tolist()))
        assert by_class(trees, row).margins.tolist() == pytest.approx(margins, abs=1e-9)
        for horizon_s in HORIZONS_S:
            found = contributions_to(trees, row, horizon_s)
            assert found.bias + found.by_feature.sum() == pytest.approx(found.score, abs=1e-9)
            pushed = sum(push.contribution for push in pushes(found, row))
            assert pushed == pytest.approx(found.score - found.bias, abs=1e-9)


def test_the_score_is_the_linear_part_of_the_log_odds():
    """Log-odds of a kill within the horizon are the score plus the difference of the two groups' entropies."""
    trees = unpack(random_bundle(4, 1, 5).forest)
    for row in random_rows(3, 20):
        shares = np.array(class_probabilities(trees, reference_margins(trees, array("f", row.tolist()))))
        for horizon_s in HORIZONS_S:
            within = np.arange(CLASSES) >= CLASSES - horizon_s // 60
            p = shares[within].sum()
            groups = [part / part.sum() for part in (shares[within], shares[~within])]
            entropies = [-(group * np.log(group)).sum() for group in groups]
            score = contributions_to(trees, row, horizon_s).score
            assert np.log(p / (1 - p)) == pytest.approx(score + entropies[0] - entropies[1], abs=1e-9)


def test_with_summed_classes_the_score_is_the_probability():
    """Where leaves vote with probabilities, contributions sum to the probability itself."""
    trees = unpack(random_bundle(1, 6, 4).forest)
    assert trees.transform == "average"
    for row in random_rows(5, 10):
        shares = class_probabilities(trees, reference_margins(trees, array("f", row.tolist())))
        found = contributions_to(trees, row, 120)
        assert found.unit == "probability"
        assert found.score == pytest.approx(shares[5] + shares[4], abs=1e-9)


def test_one_split_by_hand():
    """One tree, one question: the feature asked about gets the leaf less the mean of both leaves, the rest nothing."""
    at = NAMES.index("slope_60s")
    trees = forest.Trees(1, 1, "softmax", 1.0, [0.0] * 6, [5], [0.0], [2 * at], [3.0, 1.0])
    trees = unpack(forest.pack(trees))
    row = np.zeros(COUNT, np.float32)
    row[at] = -1.0
    found = by_class(trees, row)
    assert found.bias[5] == 2.0
    assert found.by_feature[at, 5] == 1.0
    assert np.count_nonzero(found.by_feature) == 1


def test_a_certain_forecast_still_has_a_finite_score():
    """Where one group of classes has no probability left in float64, its parts count alike."""
    trees = forest.Trees(1, 1, "softmax", 1.0, [0.0] * 6, [0], [0.0], [0], [2000.0, -2000.0])
    trees = unpack(forest.pack(trees))
    found = contributions_to(trees, np.zeros(COUNT, np.float32) - 1, 300)
    assert np.isfinite(found.score)
    assert found.bias + found.by_feature.sum() == pytest.approx(found.score, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), 0.0, -0.5, 0.012, 1.0, 48.0, 3600.0])
def test_every_feature_has_words_and_a_group(name, value):
    """Whatever the value, the words are whole: no placeholder, no NaN, one group."""
    words = in_words(name, value)
    assert words[0].islower() or words[0] in "-0123456789"
    assert not any(odd in words for odd in ("{", "}", "nan", "_"))
    assert group_of(name) in dict(GROUPS)


@pytest.mark.parametrize(("name", "value", "words"), [
    ("slope_30s", -0.012, "headroom falls 1.2 % of the limit per second over 30 s"),
    ("slope_30s", 0.0, "headroom holds steady over 30 s"),
    ("straight_line_60s", 106.0, "a straight line over 60 s reaches the limit in 106 s"),
    ("straight_line_60s", 3600.0, "a straight line over 60 s does not reach the limit within the hour"),
    ("headroom_ratio", 0.33, "headroom is 33 % of the limit"),
    ("psi_full_60s", 0.25, "all tasks stalled on memory for 25 % of 60 s"),
    ("since_release_s", float("nan"), "no memory has been asked for in this run"),
    ("bound_kind", 2.0, "at its own bound the app aborts"),
    ("log2_limit", 28.0, "the limit is 256.0 MiB"),
    ("acceleration_10s_60s", -0.01,
     "over the last 10 s headroom falls 1 % of the limit per second faster than over 60 s"),
    ("mean_10s_minus_60s", -0.06, "mean headroom over 10 s is 6 % of the limit below that over 60 s"),
    ("above_low_60s", 0.0001, "headroom is at its lowest in 60 s"),
    ("below_high_60s", 0.35, "headroom is 35 % of the limit below its highest in 60 s"),
    ("used_growth_30s", float("nan"), "the growth of used memory over 30 s is not known")])
def test_words(name, value, words):
    """What a person reads."""
    assert in_words(name, value) == words


@pytest.mark.parametrize(("name", "words"), [
    ("slope_300s", "headroom falls 1 % of the limit per second over 33 s"),
    ("slope_30s", "headroom falls 1 % of the limit per second over 30 s"),
    ("acceleration_10s_60s", "over the last 10 s headroom falls 1 % of the limit per second faster than over 33 s"),
    ("acceleration_60s_300s", "a window of 33 s is too young to compare with what was before")])
def test_words_of_a_young_window(name, words):
    """A span that the window does not fill yet is said to be as long as the window."""
    assert in_words(name, -0.01, 33.4) == words


def test_pushes_are_ordered_and_name_the_strongest():
    """Groups stand by weight, and within one the features that pushed its way speak."""
    row = np.zeros(COUNT, np.float32)
    shares = np.zeros(COUNT)
    for name, share in (("slope_60s", 2.0), ("slope_10s", -0.5), ("straight_line_30s", 1.5), ("late_s", -0.1)):
        shares[NAMES.index(name)] = share
    row[NAMES.index("slope_60s")] = -0.01
    found = pushes(Contributions(300, 3.0, 0.1, shares, "log-odds"), row)
    assert [push.about for push in found] == ["how fast it falls", "late readings"]
    assert found[0].contribution == pytest.approx(3.0)
    assert found[0].words.startswith("headroom falls 1 % of the limit per second over 60 s; a straight line over 30 s")
