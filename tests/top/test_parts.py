"""The parts of the view that need no terminal: text on a grid, trails, what hostile answers come to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import STATUS, TARGET

from oomguard.top.page import Ui, page
from oomguard.top.scene import SORTS, Scene, Trail
from oomguard.top.text import cells, fit, spark

JSON = st.recursive(st.none() | st.booleans() | st.just(10**400) | st.integers() | st.floats() | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4))
KEYS = st.sampled_from([*TARGET, "t_s", "is_blind"])


@given(st.text(max_size=40), st.integers(-1, 30))
def test_fit_fits(text, width):
    """Whatever the text, it takes exactly the cells it was given."""
    assert cells(fit(text, width)) == max(width, 0)


def test_spark_has_the_limit_at_its_top():
    """Eight steps up to the limit, blank where unknown; parts of the time show their greatest value."""
    assert spark([0.0, 0.5, 0.99, 1.0, 7.0, -1.0, None], 7) == "▁▅███▁ "
    assert spark([0.0, 1.0, 0.0, None], 2) == "█▁"
    assert spark([0.0, 1.0], 9, is_ascii=True) == "_#"
    assert spark([], 5) == ""


def test_a_trail_is_five_minutes():
    """The greatest value of each 5 s; older ones are forgotten; an unknown value is a gap."""
    trail = Trail()
    trail.fill([None, 0.1, 0.2], 1000.0)
    trail.add(0.15, 1001.0)
    trail.add(math.nan, 1006.0)
    assert trail.ratios(1001.0)[-3:] == [None, 0.1, 0.2]
    trail.add(0.5, 1300.0)
    assert trail.ratios(1300.0) == [None] * 59 + [0.5]


@given(st.lists(st.dictionaries(KEYS, JSON), max_size=4), st.dictionaries(st.sampled_from([*STATUS]), JSON),
       st.dictionaries(st.sampled_from(["event", "target", "hook", "rule", "freed_bytes", "requested_bytes"]), JSON),
       st.integers(1, 130), st.integers(1, 40), st.sampled_from(SORTS))
def test_no_answer_breaks_the_page(targets, status, event, width, height, sort):
    """Any JSON where facts are expected: a page within its width and height, never a traceback."""
    scene = Scene()
    result = status | {"targets": targets}
    scene.take({"id": "status", "result": result}, 100.0, 1.0)
    scene.take({"id": "history", "result": {"target": "?", "used_ratios": [None, 0.5]}}, 100.0, 1.0)
    scene.take({"event": "release", "target": "?"} | event, 100.0, 1.0)
    scene.take({"id": "status", "result": result | {"targets": targets}}, 101.0, 2.0)
    lines = page(scene, Ui(sort=sort), "", (width, height), 101.0)
    assert len(lines) <= height
    assert all(sum(cells(text) for text, _style in line) <= width for line in lines)
    assert all(text.isprintable() for line in lines for text, _style in line)


@pytest.mark.parametrize(("sort", "names"), [
    ("guard", ["b", "a", "c"]), ("level", ["c", "b", "a"]), ("used", ["b", "a", "c"]), ("time", ["a", "b", "c"]),
    ("name", ["a", "b", "c"])])
def test_orders(sort, names):
    """Each order puts first what it says; unknown figures come last."""
    scene = Scene()
    facts = [{"name": "b", "level": 1, "used_bytes": 9, "limit_bytes": 10, "time_to_limit_s": 90.0},
             {"name": "a", "level": 1, "used_bytes": 5, "limit_bytes": 10, "time_to_limit_s": 60.0},
             {"name": "c", "level": 4, "used_bytes": None, "limit_bytes": None, "time_to_limit_s": None}]
    scene.take({"id": "status", "result": {"targets": facts}}, 0.0, 0.0)
    assert [track.name for track in scene.sorted_tracks(sort)] == names


def test_a_thousand_targets_scroll():
    """The chosen target is always on the page, wherever it stands."""
    scene, ui = Scene(), Ui()
    scene.take({"id": "status", "result": {"targets": [TARGET | {"name": f"app{n}"} for n in range(1000)]}}, 0.0, 0.0)
    for name in ("app0", "app999", "app500"):
        ui.chosen = name
        text = ["".join(part for part, _style in line) for line in page(scene, ui, "", (80, 24), 0.0)]
        assert any(line.startswith(f"> {name} ") for line in text) and len(text) == 24
