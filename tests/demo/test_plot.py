"""The picture of the demo."""

import importlib.util

import pytest

from demo.stories import guarded, unguarded
from oomguard.demo import plot
from oomguard.demo.story import Spoken, Story
from oomguard.errors import UsageError

needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None,
                                      reason="matplotlib is not installed (extra `plot`)")


def test_levels_cover_the_whole_life_without_gaps() -> None:
    """Each stretch begins where the last one ended, from the start to the end."""
    spans = plot.spans(guarded())
    assert [tuple(span) for span in spans] == [(0.0, 30.0, 0), (30.0, 50.0, 4), (50.0, 70.0, 0), (70.0, 90.0, 3)]


def test_parts_of_a_curve_meet() -> None:
    """Where a part is cut, its height lies on the curve; outside of it, at its ends."""
    curve = [(1.0, 10.0), (2.0, 20.0), (4.0, 40.0)]
    assert plot.clipped(curve, 0.0, 3.0) == [(0.0, 10.0), (1.0, 10.0), (2.0, 20.0), (3.0, 30.0)]
    assert plot.clipped(curve, 3.0, 9.0) == [(3.0, 30.0), (4.0, 40.0), (9.0, 40.0)]
    assert plot.clipped([], 3.0, 9.0) == []


def test_words_of_evictions_close_together_do_not_overlap() -> None:
    """Words stand a row further down than those right before them, and in the first row elsewhere."""
    story = guarded()
    story.evictions = [(30.0, 1), (34.0, 1), (38.0, 1), (40.0, 1), (60.0, 1)]
    assert [row for _t_s, _words, row in plot.labels(story, 90.0)] == [0, 1, 2, 0, 0]


def test_only_the_largest_evictions_are_named() -> None:
    """A picture of many evictions names eight of them; one of none names none."""
    story = guarded()
    story.evictions = [(float(t_s), t_s << 20) for t_s in range(10, 30)]
    named = plot.labels(story, 90.0)
    assert [t_s for t_s, _words, _row in named] == [float(t_s) for t_s in range(22, 30)]
    assert named[0][1] == "gave back\n22.0 MiB"
    story.evictions = []
    assert plot.labels(story, 90.0) == []


@needs_matplotlib
def test_both_formats_are_drawn_and_say_what_happened(tmp_path) -> None:
    """An SVG holds the words a viewer needs, a PNG is one."""
    for name in ("demo.svg", "demo.png"):
        plot.check_plot(str(tmp_path / name))
        plot.draw_plot(str(tmp_path / name), unguarded(), guarded(), 90.0)
    svg = (tmp_path / "demo.svg").read_text()
    for words in ("KILLED at 55 s", "limit: 96 MiB", "gave back", "20.0 MiB", "first alarm: level 4,", "by the model",
                  "25 s ahead", "level 4: a kill within 2 min", "without guard", "with oomguard"):
        assert words in svg
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


@needs_matplotlib
def test_a_demo_that_failed_is_drawn_too(tmp_path) -> None:
    """Arms that ended otherwise, never spoke or never ran make a picture all the same."""
    lives, silent = unguarded(), guarded()
    lives.ended, lives.survived_s, silent.levels, silent.ended = "exit", 90.0, [], "oom"
    plot.draw_plot(str(tmp_path / "one.svg"), lives, silent, 90.0)
    silent.levels = [Spoken(2.0, 1, "plain")]
    plot.draw_plot(str(tmp_path / "two.svg"), lives, silent, 90.0)
    assert "level 1" in (tmp_path / "two.svg").read_text()
    plot.draw_plot(str(tmp_path / "three.svg"), Story("unguarded", 1 << 20), Story("guarded", 1 << 20), 90.0)


@pytest.mark.parametrize(("name", "said"), [("demo.gif", "does not end in .png or .svg"),
                                            ("no/such/demo.svg", "cannot be written there")])
def test_what_cannot_be_drawn_is_refused_before_the_demo(name: str, said: str, tmp_path) -> None:
    """A wrong ending or folder is told at once, not after a minute and a half."""
    with pytest.raises(UsageError, match=said):
        plot.check_plot(str(tmp_path / name))


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device has no matplotlib: the demo runs there, and `--plot` says what it needs."""
    monkeypatch.setattr(plot.importlib.util, "find_spec", lambda name: None)
    plot.check_plot("")
    with pytest.raises(UsageError, match=r"pip install 'oomguard\[plot\]'"):
        plot.check_plot(str(tmp_path / "demo.svg"))
