"""Explanations of alarms and actions: every part is there, sums up and reads like an answer; text, JSON, picture."""

from __future__ import annotations

import dataclasses
import json
from math import nan

import numpy as np
import pytest
from recordings import SAMPLE, random_bundle, random_plan, random_samples, run_of

from oomguard.decide.plan import Action, Condition, Plan, Release, Rule, TargetPlan
from oomguard.errors import OomguardError, UsageError
from oomguard.forecast import Forecast
from oomguard.learn.dataset import read_recordings
from oomguard.learn.protocol.events import alarms_of, track_of
from oomguard.profile import Profile
from oomguard.replay.alarms import alarms_in
from oomguard.replay.explain import Wanted, explain
from oomguard.replay.live import explain_now
from oomguard.replay.picture import check_plot, draw
from oomguard.replay.recording import Acted, load_runs
from oomguard.replay.replay import Replayer, Setting, fresh_state
from oomguard.replay.telling import headline, plain, spark, text
from oomguard.trust.bundle import load_bundle, shipped_folder
from oomguard.window import Window

RULES = (Rule("trim", Condition("level_at_least", 1.0, for_s=2.0), (Action("cache", Release("needed")),), 60.0),
         Rule("last resort", Condition("used_above", 0.97), (Action("any", Release("all")),), 60.0))
PLAN = Plan((TargetPlan("app", "self"),), RULES)


@pytest.fixture(scope="module")
def replayer():
    """The shipped model with two plain rules."""
    return Replayer(Setting(PLAN, load_bundle(shipped_folder(), allow_unsigned=True)))


@pytest.fixture(scope="module")
def runs():
    """The project's recordings."""
    return {run.run_id: run for run in load_runs(str(SAMPLE))}


def test_every_alarm_of_the_sample_reads_like_an_answer(replayer, runs):
    """Each alarm: a headline, a forecast or why there is none, pushes that sum up, every rule, no odd text."""
    explained = 0
    for run in list(runs.values())[::6]:
        for number in range(1, len(alarms_in(replayer.read(run))) + 1):
            found = explain(replayer, run, Wanted(alarm=number))
            shown = text(found)
            assert found.what == f"alarm {number}"
            assert found.level >= 1
            assert shown.splitlines()[2].startswith(f"Level {found.level}")
            if found.score is None:
                assert "none: the window holds" in shown
            else:
                pushed = sum(push.contribution for push in found.pushes)
                assert pushed + found.score.bias == pytest.approx(found.score.score, abs=1e-9)
            assert all(repr(rule.name) in shown for rule in RULES)
            assert not any(odd in shown for odd in ("nan", "None", "{", "}"))
            assert json.loads(json.dumps(plain(found), allow_nan=False))["level"] == found.level
            explained += 1
    assert explained > 10


def test_alarms_are_those_of_the_event_protocol(replayer, runs):
    """What explain numbers is what evaluate counts (DESIGN 5)."""
    learned = {run.run_id: run for run in read_recordings(str(SAMPLE))}
    for run_id in ("000-redis-leak-256", "023-py-saw-256", "439-ffmpeg-reverse-384", "024-py-plateau-96"):
        readings = replayer.read(runs[run_id])
        track = track_of(learned[run_id], readings.levels[:len(learned[run_id].t_s)].astype(float))
        counted = alarms_of(track.score >= 1, track.seconds)
        found = runs[run_id].t_s[alarms_in(readings)]
        assert len(found) == len(counted)
        assert np.all(np.abs(found - counted) <= 2.0)


def test_the_same_moment_says_what_the_replay_decides(replayer, runs):
    """At a sample where a rule fires, the explanation has that decision; a tick later the rule rests."""
    run = runs["000-redis-leak-256"]
    at, decision = next(iter(replayer.replay(run).decisions.items()))
    found = explain(replayer, run, Wanted(at_s=float(run.t_s[at])))
    assert found.decision == decision
    assert "> 'trim' acts: level" in text(found)
    after = explain(replayer, run, Wanted(at_s=float(run.t_s[at + 1])))
    assert after.decision is None
    assert "acted lately and rests for" in text(after)


def test_an_action_says_what_was_asked_and_what_it_gave(replayer, runs):
    """Requested and freed bytes, duration, headroom before and after; what is not known is said to be unknown."""
    run = runs["000-redis-leak-256"]
    at = next(iter(replayer.replay(run).decisions))
    t_s = float(run.t_s[at]) + 0.001
    run = dataclasses.replace(run, actions=(
        Acted(t_s, "trim", "cache", 1, 20 << 20, 12 << 20, 0.4), Acted(t_s + 0.5, "trim", "gc", 1, 8 << 20, nan, nan)))
    found = explain(replayer, run, Wanted(action=1))
    shown = text(found)
    assert found.what == "action 1"
    assert "'cache' was asked for 20.0 MiB: it gave 12.0 MiB in 400 ms; headroom" in shown
    assert "'gc' was asked for 8.0 MiB: what it gave is not known" in shown
    with pytest.raises(UsageError, match="1 recorded actions, no number 2"):
        explain(replayer, run, Wanted(action=2))


@pytest.mark.parametrize("wanted", [Wanted(alarm=99), Wanted(at_s=-1.0), Wanted(action=1)])
def test_what_is_not_there_is_a_clear_error(replayer, runs, wanted):
    """No such alarm, time or action: the run is named."""
    with pytest.raises(UsageError, match="000-redis-leak-256"):
        explain(replayer, runs["000-redis-leak-256"], wanted)


def test_without_a_forecast_the_reason_and_the_plain_levels_are_told(replayer, runs):
    """Too young a window, no model at all, and a feature out of range: each reason in words."""
    run = runs["000-redis-leak-256"]
    young = text(explain(replayer, run, Wanted(at_s=5.0)))
    assert "none: the window holds 4 s, the model needs 5" in young
    bare = text(explain(Replayer(Setting(PLAN)), run, Wanted()))
    assert "none: no model" in bare
    assert "the plain levels hold, by headroom: 1 at 30 %" in bare
    assert "by headroom alone" in bare


def test_a_kept_level_says_since_when_it_is_owed(replayer, runs):
    """Where the reading by itself is lower, the explanation says why the level stands all the same."""
    found = explain(replayer, runs["000-redis-leak-256"], Wanted())
    assert "is kept from before" not in text(found)
    calm = dataclasses.replace(found, forecast=Forecast(0.0, 0.0, 0.0, 0.0, 0.0))
    assert f"level {found.level} is kept from before" in " ".join(text(calm).split())
    empty = found.point._replace(headroom_bytes=found.point.limit_bytes)
    blind = dataclasses.replace(found, forecast=None, point=empty)
    assert headline(blind).startswith(f"Level {found.level}, kept from the minute before.")


def test_a_run_without_alarms_explains_its_last_sample(replayer, runs):
    """Nothing was raised: the last moment is explained, and says so."""
    found = explain(replayer, runs["014-pagecache-384"], Wanted())
    assert found.what == "moment"
    assert headline(found).startswith("Level 0, no alarm. The app was stopped, not killed,")


@pytest.mark.parametrize("name", ["why.png", "why.svg"])
def test_pictures_are_drawn_of_anything(tmp_path, replayer, runs, name):
    """With a forecast and without one, with a kill near, with actions, with a name that plays with matplotlib."""
    pytest.importorskip("matplotlib")
    run = dataclasses.replace(runs["000-redis-leak-256"], app="$x_$\n^", run_id="\\frac{")
    run = dataclasses.replace(run, actions=(Acted(150.2, "trim", "$cache", 1, 1e6, 1e6, 0.4),))
    for wanted in (Wanted(), Wanted(at_s=5.0), Wanted(at_s=200.0), Wanted(action=1)):
        path = tmp_path / name
        draw(str(path), explain(replayer, run, wanted))
        assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_a_picture_that_cannot_be_drawn_is_refused_at_once(tmp_path):
    """Wrong ending, no such folder: before any work is done."""
    for path in ("why.gif", str(tmp_path / "none" / "why.png")):
        with pytest.raises(UsageError, match="--plot"):
            check_plot(path)
    check_plot("")


def test_names_cannot_play_with_the_terminal(replayer, runs):
    """Escape sequences in a run's or app's name are shown, not sent."""
    run = dataclasses.replace(runs["000-redis-leak-256"], app="\x1b[2J", run_id="a\nb")
    assert "\x1b" not in text(explain(replayer, run, Wanted()))


@pytest.mark.parametrize(("ratios", "shown"), [
    ([0.0, 0.5, 1.0], "▁▅█"), ([nan, -1.0, 2.0], "?▁█"), ([], ""), ([0.5] * 200, "▅" * 50)])
def test_spark(ratios, shown):
    """Low is low, high is high, unknown a question mark, never more than fifty."""
    assert spark(ratios) == shown


def test_the_running_guard_is_explained_from_its_window_file(tmp_path):
    """Forecast, level, contributions and the rules' state are the live ones; the file stays as it is."""
    profile = Profile(ram_bytes=2e9, cores=2.0)
    setting = Setting(random_plan(2)._replace(profile=profile), random_bundle(1))
    samples = random_samples(4, 200)
    (tmp_path / "windows").mkdir()
    path = tmp_path / "windows" / "app.window"
    replayer, state = Replayer(setting), fresh_state()
    run = run_of(samples, profile=profile)
    readings, decider = replayer.read(run), setting.decider_of(run)
    window = Window.open(str(path), "run", 0.0, setting.bundle.phases)
    for at, sample in enumerate(samples):
        window.push(sample)
        decider.decide(readings.view(at), state)
        decider.decide(readings.view(at), window.state)
    window.close()
    before = path.read_bytes()
    found = explain_now(setting, str(tmp_path), "app")
    assert path.read_bytes() == before
    assert found.forecast == readings.forecast(199)
    assert found.level == readings.levels[199]
    assert sum(push.contribution for push in found.pushes) + found.score.bias == pytest.approx(found.score.score)
    assert [one.rule for one in found.standings] == [one.name for one in setting.plan.rules]
    assert [one.cooling_s for one in found.standings] == [
        one.cooling_s for one in decider.standings(readings.view(199), state)]
    assert "It is running." in text(found)


@pytest.mark.parametrize("content", [None, b"", b"short", b"x" * 40000])
def test_a_window_that_is_none_is_a_clear_error(tmp_path, content):
    """Missing, empty, torn, foreign: an error of ours."""
    (tmp_path / "windows").mkdir()
    if content is not None:
        (tmp_path / "windows" / "app.window").write_bytes(content)
    with pytest.raises(OomguardError):
        explain_now(Setting(random_plan(1)), str(tmp_path), "app")
