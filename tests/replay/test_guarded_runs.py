"""Real guarded runs (tests/data/guarded: redis, node, Python; kills included) replay to what their logs say."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from oomguard.cli import main
from oomguard.decide.plan_json import from_json, to_json
from oomguard.decide.rules import load_rules
from oomguard.replay.alarms import alarms_in
from oomguard.replay.compare import SAME, compare, first_actions, sample_before
from oomguard.replay.explain import ANSWER_S, Wanted, explain
from oomguard.replay.happened import of_lines, of_runs
from oomguard.replay.recording import load_runs
from oomguard.replay.replay import Replayer, Setting
from oomguard.replay.telling import headline, plain, text
from oomguard.trust.bundle import load_bundle

GUARDED = Path(__file__).parents[1] / "data" / "guarded"
NAMES = sorted(path.stem for path in (GUARDED / "logs").glob("*.jsonl"))
FIGURES = ("limit_bytes", "used_bytes", "headroom_bytes")
CHANCES = ("p60", "p120", "p180", "p240", "p300")
MOST_BYTES = 1 << 20
EXPECTED = {        # how it ended, kills inside the run
    "redis": ("exit", 0), "redis-killed": ("oom", 0), "node": ("exit", 0), "node-killed": ("oom", 0),
    "python": ("exit", 0), "python-killed": ("oom", 0), "workers": ("stopped", 2), "quiet": ("exit", 0)}

of_each = pytest.mark.parametrize("name", NAMES)
of_each_acting = pytest.mark.parametrize("name", [name for name in NAMES if name != "quiet"])


@cache
def recorded():
    """Return the recorded runs by name."""
    return {run.app: run for run in load_runs(str(GUARDED / "tables"))}


@cache
def rules_of(name):
    """Return the rule file that a run was guarded by."""
    own = GUARDED / "rules" / f"{name}.yaml"
    return str(own if own.exists() else GUARDED / "rules" / "default.yaml")


@cache
def replayer_of(name):
    """Return who replays a run: the rules and the model that it was guarded by, kept beside it."""
    plan = from_json(to_json(load_rules(rules_of(name))))
    return Replayer(Setting(plan, load_bundle(str(GUARDED / "bundle"), allow_unsigned=True)))


@cache
def replayed(name):
    """Return the replay of a run."""
    return replayer_of(name).replay(recorded()[name])


@cache
def log_of(name, event=""):
    """Return what the guard logged, or only the events of one name.

    A tick may come between the kill and its being seen: no recording holds a row at or after the kill of all of it.
    """
    lines = (GUARDED / "logs" / f"{name}.jsonl").read_text().splitlines()
    killed_s = min((kill.t_s for kill in recorded()[name].kills if kill.is_whole_target), default=np.inf)
    return [found for found in map(json.loads, lines)
            if event in ("", found["event"]) and not found.get("t_s", 0.0) >= killed_s - 0.001]


@pytest.fixture(autouse=True)
def as_then(monkeypatch):
    """Let a later version be the one that recorded: it has to decide the same, and its number alone says otherwise."""
    (version,) = {run.recorded_with.version for run in recorded().values()}
    monkeypatch.setattr("oomguard.replay.compare.__version__", version)


def logged(number):
    """Return a number as the log writes it."""
    return None if number is None else float(f"{number:.6g}")


def test_the_recordings_are_what_they_were_made_for():
    """Survivors, whole kills and kills inside a run that goes on, small enough to keep, all by the bundle beside."""
    assert {name: (run.ended, sum(not kill.is_whole_target for kill in run.kills))
            for name, run in recorded().items()} == EXPECTED
    digest = load_bundle(str(GUARDED / "bundle"), allow_unsigned=True).digest
    assert {run.recorded_with.bundle for run in recorded().values()} == {digest}
    assert sum(path.stat().st_size for path in GUARDED.rglob("*") if path.is_file()) < MOST_BYTES
    cadences = {round(float(np.median(np.diff(run.t_s))), 1) for run in recorded().values()}
    assert cadences == {0.1, 1.0}
    assert all(run.t_s[-1] > 60 for run in recorded().values())


@of_each
def test_a_run_replays_to_the_decisions_of_its_log(name):
    """The same rules for the same reasons at the same times, and nothing beside them."""
    found = replayed(name)
    decided = [(decision.rule, decision.because, logged(round(float(found.run.t_s[at]), 3)))
               for at, decision in found.decisions.items()]
    assert decided == [(event["rule"], event["because"], event["t_s"]) for event in log_of(name, "decision")]
    assert bool(decided) == (name != "quiet")


@of_each
def test_levels_are_those_of_the_log_at_every_sample(name):
    """The log tells each change of the level: between two of them it stays what it was."""
    found = replayed(name)
    changes = [(event["t_s"], event["level"]) for event in log_of(name, "level")]
    assert np.all(found.readings.is_taken)
    levels, level = [], 0
    for t_s in found.run.t_s.tolist():
        while changes and changes[0][0] <= logged(round(t_s, 3)):
            level = changes.pop(0)[1]
        levels.append(level)
    assert found.readings.levels.tolist() == levels
    assert not changes


@of_each
def test_figures_of_every_line_are_replayed(name):
    """Bytes, probabilities and time to limit of every line that carries them, to the last digit that it shows."""
    found, lines = replayed(name), 0
    for event in log_of(name):
        if "used_bytes" not in event or "t_s" not in event:
            continue
        at = int(np.argmin(np.abs(found.run.t_s - event["t_s"])))
        columns, forecast = found.run.columns, found.readings.forecast(at)
        assert [columns[figure][at] for figure in FIGURES] == [event[figure] for figure in FIGURES]
        assert (int(found.readings.levels[at]), found.run.constraints[at]) == (event["level"], event["constraint"])
        assert event["scorer"] == ("plain" if forecast is None else "forest")
        if forecast is not None:
            assert [logged(round(p, 4)) for p in forecast] == [event[chance] for chance in CHANCES]
            assert logged(found.readings.time_to_limit_s(at)) == event["time_to_limit_s"]
        lines += 1
    assert lines or name == "quiet"


@of_each
def test_recording_and_replay_hold_against_each_other(name):
    """`replay` calls it the same guard, finds every recorded decision again, and no difference."""
    found = compare(replayed(name), replayer_of(name).setting)
    assert {each.name: each.verdict for each in found.ingredients} == dict.fromkeys(
        ("bundle", "rules", "profile", "version"), SAME)
    assert found.differences == ()
    assert found.confirmed + found.unanswered == len(log_of(name, "decision"))


@pytest.mark.parametrize("name", ["workers", "python-killed"])
def test_other_rules_decide_otherwise(name):
    """The pair to it: without the second rule its decisions are missing, and the comparison says which."""
    setting = replayer_of(name).setting
    other = Setting(setting.plan._replace(rules=setting.plan.rules[:1], digest="another"), setting.bundle)
    found = compare(Replayer(other).replay(recorded()[name], is_busy_as_recorded=False), other)
    assert not found.is_same_guard
    second = setting.plan.rules[1].name
    missing = [action for action in first_actions(recorded()[name].actions) if action.rule == second]
    assert missing
    assert {action.t_s for action in missing} <= {each.t_s for each in found.differences if each.recorded}


def moments(name):
    """Return every alarm and action of a run, as `explain` takes them."""
    alarms = len(alarms_in(replayed(name).readings))
    actions = len(first_actions(recorded()[name].actions))
    return [Wanted(alarm=n + 1) for n in range(alarms)] + [Wanted(action=n + 1) for n in range(actions)]


@of_each_acting
def test_every_alarm_and_action_is_explained(name):
    """Window, forecast, pushes that sum to the score, rule and outcome, in text and in JSON, as they were."""
    run, found = recorded()[name], replayed(name)
    assert moments(name)
    for wanted in moments(name):
        told = explain(replayer_of(name), run, wanted)
        at = int(np.searchsorted(run.t_s, told.point.t_s))
        assert told.history[-1] == told.point
        assert 0 <= told.point.t_s - told.history[0].t_s <= 300.0
        assert told.point.used_bytes == run.columns["used_bytes"][at]
        assert (told.level, told.forecast) == (int(found.readings.levels[at]), found.readings.forecast(at))
        assert told.level >= 1 or wanted.action
        assert told.decision == found.decisions.get(at)
        held = next(standing for standing in told.standings if told.decision is None
                    or standing.rule == told.decision.rule)
        assert told.decision is None or held.truth
        _check_words(told)
        _check_values(told, json.loads(json.dumps(plain(told), allow_nan=False)))
        if wanted.action:
            _check_action(told, run, wanted.action)
        else:
            soon = [action for action in run.actions if 0 <= action.t_s - told.point.t_s <= ANSWER_S]
            assert told.gave or not soon    # where it was answered, even if the guard acted before it was counted


def _check_words(told):
    shown = text(told)
    assert headline(told) in " ".join(shown.split())
    assert all(part in shown for part in ("MEMORY", "FORECAST", "RULES", "RELEASED"))
    assert not any(odd in shown for odd in ("nan", "None", "inf", "{", "}"))
    assert max(map(len, shown.splitlines())) <= 120
    if told.forecast is not None:
        assert told.pushes[0].words in " ".join(shown.split())


def _check_values(told, values):
    if told.forecast is None:
        assert values["score"] is None
        assert values["abstains_because"]
        return
    score = values["score"]
    pushed = sum(push["contribution"] for push in score["pushes"])
    assert score["bias"] + pushed == pytest.approx(score["score"], abs=1e-9)
    for push in score["pushes"]:
        shares = sum(feature["contribution"] for feature in push["features"])
        assert shares == pytest.approx(push["contribution"], abs=1e-9)
    assert list(values["probabilities"].values()) == list(told.forecast)
    assert values["window"][-1]["used_bytes"] == values["used_bytes"]
    assert values["ended"] in ("exit", "oom", "stopped")


def _check_action(told, run, number):
    """What was asked and given is what is recorded, and the rule is the one that asked."""
    first = first_actions(run.actions)[number - 1]
    assert told.decision is not None
    assert told.decision.rule == first.rule
    assert told.gave[0].action == first
    assert repr(first.hook) in text(told)
    later = [kill for kill in run.kills if kill.t_s >= told.point.t_s]
    assert ("The kill came" in headline(told)) == any(kill.is_whole_target for kill in later)
    assert ("it went on" in headline(told)) == any(not kill.is_whole_target for kill in later)


@of_each
def test_events_of_log_and_recording_agree(name):
    """Decisions, releases and kills: what the log told as it happened is what the recording holds."""
    with (GUARDED / "logs" / f"{name}.jsonl").open("rb") as lines:
        told = list(of_lines(lines))
    kept = of_runs([recorded()[name]])

    def facts(events, event, digits, *names):
        return sorted([logged(round(found.fields["t_s"], digits)), *(_known(found.fields[each]) for each in names)]
                      for found in events if found.name == event and found.target == name)

    # The kill of all of it is told as the end; as a kill too, where a tick came in between.
    inside = [found for found in kept if found.name == "kill" and not found.fields["whole_target"]]
    ended_s = [logged(round(found.fields["t_s"], 3)) for found in kept
               if found.name == "kill" and found.fields["whole_target"]]
    # What a release came to is recorded, not what waited until it was due, or for nothing: at most a cooldown.
    decided = facts(told, "decision", 3, "rule", "level")
    cooldown_s = {rule.name: rule.cooldown_s for rule in replayer_of(name).setting.plan.rules}
    for t_s, rule, level in facts(kept, "decision", 3, "rule", "level"):
        assert any((rule, level) == (was, stood) and 0 <= t_s - then_s <= cooldown_s[rule]
                   for then_s, was, stood in decided)
    assert facts(told, "release", 9, "rule", "hook", "freed_bytes") == facts(kept, "release", 9, "rule", "hook",
                                                                              "freed_bytes")
    assert [each for each in facts(told, "kill", 3, "killer") if each[0] not in ended_s] == facts(
        inside, "kill", 3, "killer")
    ends = [found.fields["ended"] for found in told if found.name == "end"]
    assert ends in ([], [found.fields["ended"] for found in kept if found.name == "end"])


def _known(value):
    return -1.0 if value is None or value != value else value


def test_the_command_lines_say_so_too(capsys):
    """`replay` exits 0 over one run and its rules, `explain` answers each action, `events` reads both forms."""
    tables, run = str(GUARDED / "tables"), recorded()["redis-killed"]
    setting = ("--rules", rules_of("redis-killed"), "--model", str(GUARDED / "bundle"), "--allow-unsigned")
    assert main(["replay", tables, "--run", run.run_id, *setting]) == 0
    assert "the same guard decides the same" in capsys.readouterr().out
    assert main(["explain", tables, "--run", run.run_id, "--action", "1", *setting]) == 0
    assert "'purge' was asked" in capsys.readouterr().out
    assert main(["events", tables, "--target", "redis-killed", "--event", "kill,end", "--json"]) == 0
    kill, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert (kill["event"], kill["whole_target"], end["ended"]) == ("kill", True, "oom")
    assert main(["events", str(GUARDED / "logs" / "workers.jsonl"), "--event", "kill", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == EXPECTED["workers"][1]


def test_a_run_of_nothing_is_told_as_such():
    """The quiet run has no alarm and no action: explain shows its last moment."""
    run = recorded()["quiet"]
    assert moments("quiet") == []
    told = explain(replayer_of("quiet"), run, Wanted())
    assert told.what == "moment"
    assert told.level == 0
    assert sample_before(replayed("quiet"), np.inf) == len(run.t_s) - 1
    assert "Level 0, no alarm" in text(told)
