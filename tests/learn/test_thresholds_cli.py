"""`learn simulate` and `learn thresholds` from the command line: what they print, write and refuse."""

from __future__ import annotations

import argparse
import json

import pytest

from oomguard.cli import learn_simulate, learn_thresholds
from oomguard.errors import UsageError
from oomguard.learn.thresholds.critical import study_of
from oomguard.learn.thresholds.figure import figure_of_types
from oomguard.trust.bundle import load_bundle, load_shipped

from .made import quiet_run
from .test_critical import leaks_to


def invoke(verb, *words):
    """Run one verb's module on a command line."""
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Return the folder of a small simulated fleet."""
    folder = tmp_path_factory.mktemp("simulated") / "fleet"
    invoke(learn_simulate, "--out", folder, "--types", 3, "--runs", 60, "--seed", 1)
    return folder


@pytest.fixture
def recorded(monkeypatch):
    """Let the fleet pass for recorded runs, which nothing but a test may do."""
    monkeypatch.setattr("oomguard.learn.simulate.fleet.run_is_simulated", lambda _run: False)


def test_simulate_tells_what_it_planted(tmp_path, capsys):
    """As a table for people and as JSON for programs, the same as in the folder."""
    assert invoke(learn_simulate, "--out", tmp_path / "f", "--types", 2, "--runs", 5, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "f" / "simulated.json").read_text())
    assert invoke(learn_simulate, "--out", tmp_path / "g", "--types", 2, "--runs", 5) == 0
    assert "premature peak" in capsys.readouterr().out


def test_simulated_recordings_are_refused_unless_asked_for(fleet, capsys):
    """Thresholds come from recorded runs; to look at invented ones, one says so, and the answer says so too."""
    with pytest.raises(UsageError, match="60 of 60 runs are simulated"):
        invoke(learn_thresholds, fleet)
    assert invoke(learn_thresholds, fleet, "--simulated", "--json") == 0
    assert json.loads(capsys.readouterr().out)["simulated"] is True


def test_simulated_thresholds_reach_no_bundle(fleet, tmp_path):
    """Not even when both are asked for."""
    with pytest.raises(UsageError, match="for no bundle"):
        invoke(learn_thresholds, fleet, "--simulated", "--bundle", "shipped", "--out", tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.usefixtures("recorded")
def test_a_bundle_is_given_the_thresholds_of_these_devices(fleet, tmp_path, capsys):
    """The copy differs from the shipped one in its thresholds and is unsigned until somebody signs it."""
    assert invoke(learn_thresholds, fleet, "--bundle", "shipped", "--out", tmp_path / "mine", "--json") == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert "not signed yet" in captured.err
    mine = load_bundle(str(tmp_path / "mine"), allow_unsigned=True)
    assert mine.thresholds_for("simulated-stick-2015").critical_ratio == \
        said["device_types"]["simulated-stick-2015"]["critical_ratio"]
    assert mine.forest == load_shipped().forest
    assert "thresholds" in said["device_types"]["simulated-stb-2015"]


def test_recorded_runs_are_not_called_simulated():
    """--simulated on real recordings would mark real figures as invented."""
    with pytest.raises(UsageError, match="are recorded"):
        invoke(learn_thresholds, "models/recordings/sample", "--simulated")


@pytest.mark.parametrize(("words", "says"), [
    (["--out", "b"], "say which one to start from"), (["--miss-to-false-alarm", "0"], "above 0"),
    (["--field-kills-per-hour", "-1"], "above 0"), (["--seed", "-1"], "not below")])
def test_wrong_words_are_refused_before_anything_is_read(words, says):
    """A folder that does not exist is never looked for."""
    with pytest.raises(UsageError, match=says):
        invoke(learn_thresholds, "/no/such/folder", *words)


def test_a_figure_is_drawn_and_a_strange_name_refused(fleet, tmp_path):
    """The picture is a picture; another ending is an error that says which are taken."""
    assert invoke(learn_thresholds, fleet, "--simulated", "--figure", tmp_path / "kills.png") == 0
    assert (tmp_path / "kills.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"ends in \.png"):
        invoke(learn_thresholds, fleet, "--simulated", "--figure", tmp_path / "kills.txt")


def test_each_panel_names_its_shape_and_threshold():
    """Types with kills have a panel, most kills first; those without are counted in the title."""
    figure = figure_of_types(study_of([*leaks_to(0.6, 20, 1, device_type="stick"),
                                       *leaks_to(0.95, 4, 2, device_type="stb"), quiet_run(60, device_type="new")]))
    panels = [axes for axes in figure.axes if axes.axison]
    titles = [axes.get_title(loc="left").strip() for axes in panels]
    assert titles == ["stick: premature peak", "stb: shape unknown, too few kills"]
    assert "20 kills in 20 runs, critical 0.6" in panels[0].texts[0].get_text()
    assert "1 more device type" in figure.get_suptitle()


def test_without_kills_the_figure_says_so():
    """An empty study is a figure all the same."""
    figure = figure_of_types(study_of([quiet_run(60)]))
    assert figure.axes[0].texts[0].get_text() == "no kill in these runs"
