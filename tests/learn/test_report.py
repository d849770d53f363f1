"""The report: one page that needs nothing else, the same bytes twice, every miss and false alarm on it."""

from __future__ import annotations

import copy
import html
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from oomguard.decide.levels import level_of
from oomguard.demo import plot
from oomguard.forecast import Forecast
from oomguard.learn.evaluate.artefact import Said
from oomguard.learn.evaluate.explain import explain
from oomguard.learn.evaluate.why import FALSE_ALARMS
from oomguard.learn.report import Extras, write_report
from oomguard.learn.report.palette import INK, LEVEL_COLOURS
from oomguard.learn.report.pictures import svg_of
from oomguard.learn.report.reasons import coloured
from oomguard.learn.report.run_curves import PLAIN_RATIOS, Drawn, bars_svg, curve_svg, levels_of, thinned
from oomguard.replay import picture

from . import evaluated
from .made import killed_run, quiet_run, run_of

LOOP = [{"arm": arm, "hook_s": delay, "averted_ratio": ratio, "interval": [ratio, 1.0], "runs": 9,
         "evicted_limits": 1.1, "evictions": 7.5, "cache_missing_ratio": None}
        for delay in (0.05, 2.0) for arm, ratio in (("none", 0.0), ("oomguard", 0.9))]


def said(trained):
    return {name: Said(system.forecasts, system.levels) for name, system in trained.systems.items() if system.forecasts}


@pytest.fixture(scope="module")
def trained():
    """Return the small evaluation."""
    return evaluated.trained()


def written(trained, folder):
    """Write a report with everything in it; return the page's path."""
    zoo = {"forest": {**trained.report["systems"]["linear 60 s"], "fit_s": 1.0, "bytes": 2048, "score_p50_us": 1.5}}
    return write_report(trained.report, trained.runs, said(trained), str(folder),
                        Extras(zoo, LOOP, Figure(), "12 samples were dropped"))


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """Return the folder of such a report."""
    folder = tmp_path_factory.mktemp("report")
    written(trained, folder)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    """Return its page as text."""
    return (folder / "report.html").read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(page):
    """No script, no link to another host, no image, font or style from a file."""
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#)', page)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_every_id_is_there_once_and_every_link_leads_somewhere(page):
    """Ten figures in one page share no id; the contents' links and the figures' own references are met."""
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert wanted <= set(ids)


def test_it_takes_the_colours_of_the_theme(page):
    """No figure's ink is fixed: dark pages have light words."""
    assert "prefers-color-scheme: dark" in page
    assert INK not in page.split("</style>", 1)[1]


def test_every_miss_and_every_false_alarm_has_a_card(page, trained):
    """One article each, with its run; the examples have theirs besides."""
    account = trained.report["account"]
    events = account["misses"] + account["false_alarms"]
    cards = page.split('id="misses"', 1)[1].count('<article class="card">')
    assert cards == len(events)
    assert all(event["run_id"] in page for event in events)


def test_all_sections_are_there_when_there_is_something_to_show(page):
    """Zoo, closed loop, device types, data card."""
    for words in ("The zoo", "Closed loop", "Where kills happen", "12 samples were dropped"):
        assert words in page


def test_the_bytes_are_the_same_twice(trained, folder, tmp_path):
    """Page and pictures follow from the evaluation alone."""
    written(trained, tmp_path)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
    assert len(names) > 10
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_why_it_falls_short_is_told_where_it_was_explained(trained, page, tmp_path):
    """A section with reasons, what if, and a line per run; a reason on every card; without an explanation, none."""
    report = copy.deepcopy(trained.report)
    explain(report, trained.runs, trained.systems, {})
    text = Path(write_report(report, trained.runs, said(trained), str(tmp_path))).read_text(encoding="utf-8")
    section = text.split('id="reasons"', 1)[1].split('id="facts"', 1)[0]
    reasons = report["reasons"]
    assert all(row["says"] in html.unescape(section) for row in reasons["false_alarms"] if any(row["counts"]))
    assert all(f"<td>{event['run_id']}</td>" in section for event in reasons["events"])
    assert section.count("<tr><td>as recorded") == 1
    account = report["account"]
    assert text.count('class="why"') == len(account["misses"] + account["false_alarms"])
    assert (tmp_path / "pictures" / "reasons.png").is_file()
    assert 'id="reasons"' not in page
    assert 'class="why"' not in page


def test_shades_tell_reasons_apart_and_what_never_happened_has_none():
    """Two reasons of one remedy have two colours; a reason without a case is not shown."""
    rows = [{"key": each.key, "remedy": each.remedy, "counts": [at]} for at, each in enumerate(FALSE_ALARMS)]
    shown = coloured(rows)
    assert len(shown) == len({row["colour"] for row in shown}) == len(FALSE_ALARMS) - 1


def test_names_are_text_and_never_markup_and_what_is_not_given_is_not_shown(trained, tmp_path):
    """A program called like a tag is shown, not run; without extras there are no empty sections."""
    report = copy.deepcopy(trained.report)
    evil = "<img src=x onerror=alert(1)>"
    for event in report["account"]["misses"] + report["account"]["false_alarms"]:
        event["program"] = event["bound"] = evil
    for rows in (report["data"]["by_program"], report["systems"]["oomguard"]["by_program"]):
        rows[evil] = rows.pop("py-saw")
    text = Path(write_report(report, trained.runs, said(trained), str(tmp_path))).read_text(encoding="utf-8")
    assert "<img" not in text
    assert "&lt;img" in text
    assert not any(words in text for words in ("The zoo", "Closed loop", "Where kills happen", "Data card"))


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.booleans(), st.floats(-0.1, 1.0))
def test_levels_are_the_devices(p, is_silent, headroom):
    """Sample by sample what decide/levels.py says, of forecasts that never fall with the horizon."""
    forecast = np.maximum.accumulate(np.array(p))
    run = run_of(np.array([1 - headroom, 0.5]))
    rows = np.array([forecast if not is_silent else np.full(5, np.nan), forecast])
    thresholds = (0.9, 0.7, 0.5, 0.3, 0.2)       # p60…p300
    ratio = float(run.columns["headroom_bytes"][0] / run.columns["limit_bytes"][0])
    expected = level_of(None if is_silent else Forecast(*forecast), thresholds[::-1], ratio, PLAIN_RATIOS)
    assert levels_of(run, rows, thresholds)[0] == expected


def test_levels_have_one_colour_everywhere():
    """Report, explain and demo show the same level in the same colour."""
    assert LEVEL_COLOURS == picture.LEVEL_COLOURS == plot._LEVEL_COLOURS


def test_a_short_alarm_is_not_thinned_away():
    """Of an hour drawn with 20 points, one second at level 5 stays level 5, and the peak stays the peak."""
    run = quiet_run(3600)
    run.columns["headroom_bytes"][1234] *= 0.1
    levels = np.zeros(3601, int)
    levels[77] = 5
    _times, used, level = thinned(run, levels, np.arange(3601), 20)
    assert (len(used), max(level), round(max(used), 2)) == (20, 5, 0.95)


def test_a_curve_shows_its_kill_and_its_moment():
    """A killed run has a cross, a quiet one has none; without samples there is no curve."""
    killed, quiet = killed_run(300), quiet_run(300)
    levels = np.zeros(301, int)
    drawn = Drawn(0.0, 300.0, 240.0, "60 s ahead")
    assert 'class="kill"' in curve_svg(killed, levels[:300], drawn)
    assert "60 s ahead" in curve_svg(quiet, levels, drawn)
    assert 'class="kill"' not in curve_svg(quiet, levels, drawn)
    assert curve_svg(quiet, levels, Drawn(500.0, 600.0, 550.0, "")) == ""


def test_bars_are_coloured_where_the_threshold_is_reached():
    """p120 at its threshold has the colour of level 4, the others are pale; no forecast, no bars."""
    text = bars_svg([0.1, 0.5, 0.1, 0.1, 0.1], [0.5] * 5)
    assert text.count(LEVEL_COLOURS[4]) == 1
    assert text.count("var(--pale)") == 4
    assert bars_svg(None, [0.5] * 5) == ""


def test_a_figure_says_what_it_shows_and_its_words_stay_words():
    """The label is escaped; ids carry the figure's name."""
    text = svg_of(Figure(), "one", 'a "figure" <of> & for')
    assert 'aria-label="a &quot;figure&quot; &lt;of> &amp; for"' in text
    assert all(each.startswith("one-") for each in re.findall(r'\bid="([^"]+)"', text))
