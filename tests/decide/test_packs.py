"""The rule packs that come with the package, and the schema that editors use."""

from __future__ import annotations

import json
import os

import jsonschema
import pytest
import yaml
from hostile_rules import GOOD, HOSTILE

from oomguard.decide.decide import decider_for
from oomguard.decide.place import NAME
from oomguard.decide.plan import STATE_SLOTS, Plan, Release, TargetPlan
from oomguard.decide.plan_json import from_json, to_json
from oomguard.decide.rule_parts import PROFILE_KEYS, SIGNALS
from oomguard.decide.rule_when import KEYS as WHEN_KEYS
from oomguard.decide.rules import KEYS, RULE_KEYS, load_rules, parse_rules, shipped_pack, undeclared_hooks
from oomguard.decide.view import View
from oomguard.forecast import Forecast

FOLDER = os.path.dirname(shipped_pack())
PACKS = sorted(name.removesuffix(".yaml") for name in os.listdir(FOLDER) if name.endswith(".yaml"))
with open(os.path.join(FOLDER, "schema.json"), encoding="utf-8") as stream:
    SCHEMA = json.load(stream)
EDITOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_a_schema():
    """By its own metaschema."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("pack", PACKS)
def test_every_pack_loads_validates_and_fits(pack):
    """The loader takes it, an editor finds nothing, the plan survives JSON, the state fits its slots."""
    path = shipped_pack(pack)
    plan = load_rules(path)
    with open(path, encoding="utf-8") as text:
        assert [error.message for error in EDITOR.iter_errors(yaml.safe_load(text))] == []
    assert from_json(to_json(plan)) == plan
    assert all(decider_for(plan, target.name).state_size <= STATE_SLOTS for target in plan.targets)
    assert undeclared_hooks(plan) == ()
    assert all(" " in rule.name for rule in plan.rules), "rule names are sentences"


@pytest.mark.parametrize("pack", PACKS)
def test_every_rule_of_every_pack_can_act(pack):
    """At level 5 with nothing left, or in the phase they wait for, all rules act sooner or later."""
    plan = load_rules(shipped_pack(pack))
    names = set()
    for target in plan.targets:
        decider, state = decider_for(plan, target.name, ram_bytes=1e9), [0.0] * STATE_SLOTS
        for t in range(900):
            view = View(1000.0 + t, 5, limit_bytes=1e9, used_bytes=9.9e8, headroom_bytes=1e7, available_bytes=1e7,
                        psi_full_ratio=0.0, phase="menu")
            decision = decider.decide(view, state)
            names |= {decision.rule} if decision else set()
    assert names == {rule.name for rule in plan.rules}


def run_default(level, used_bytes, ticks=4):
    plan = load_rules(shipped_pack())
    decider, state = decider_for(plan, "system"), [0.0] * STATE_SLOTS
    views = (View(50.0 + t, level, limit_bytes=100.0, used_bytes=used_bytes, headroom_bytes=100.0 - used_bytes)
             for t in range(ticks))
    decisions = [decider.decide(view, state) for view in views]
    return [decision and decision.actions[0] for decision in decisions]


def test_the_default_pack_asks_for_what_will_be_needed_from_level_2_on():
    """After two readings at level 2; never at level 1."""
    assert run_default(2, 50.0) == [None, ("any", Release("needed")), None, None]
    assert run_default(1, 50.0, ticks=60) == [None] * 60


def test_the_default_pack_asks_for_everything_above_97_percent():
    """At once, whatever the level."""
    assert run_default(0, 97.1, ticks=1) == [("any", Release("all"))]
    assert run_default(0, 97.0, ticks=60) == [None] * 60


def test_the_default_pack_asks_for_everything_at_level_5_above_90_percent():
    """At the second reading of that level; with more than a tenth free what is needed will do."""
    assert run_default(5, 90.1, ticks=2) == [None, ("any", Release("all"))]
    assert run_default(5, 90.0) == [None, ("any", Release("needed")), None, None]
    assert run_default(4, 90.1) == [None, ("any", Release("needed")), None, None]


@pytest.mark.parametrize(("p300", "used_bytes", "expected"), [
    (0.11, 41.0, [None, ("any", Release("needed")), None]), (0.09, 99.0 - 3, [None] * 3), (0.9, 39.0, [None] * 3)])
def test_the_default_pack_is_on_the_watch_from_one_chance_in_ten_on(p300, used_bytes, expected):
    """Two readings with more than 40 % used; with less chance of a kill, or more room, it is not."""
    plan = load_rules(shipped_pack())
    decider, state = decider_for(plan, "system"), [0.0] * STATE_SLOTS
    forecast = Forecast(0.0, 0.0, 0.0, 0.0, p300)
    views = (View(50.0 + t, 0, forecast, limit_bytes=100.0, used_bytes=used_bytes, headroom_bytes=100.0 - used_bytes)
             for t in range(3))
    decisions = [decider.decide(view, state) for view in views]
    assert [decision and decision.actions[0] for decision in decisions] == expected


@pytest.mark.parametrize("pack", ["default", "kiosk", "edge"])
def test_no_pack_empties_every_cache_on_a_forecast_alone(pack):
    """Level 5 with half of the limit free: nothing is asked for but what is needed."""
    plan = load_rules(shipped_pack(pack))
    for target in plan.targets:
        decider, state = decider_for(plan, target.name, ram_bytes=1e9), [0.0] * STATE_SLOTS
        for t in range(300):
            decision = decider.decide(View(1000.0 + t, 5, limit_bytes=1e9, used_bytes=5e8, available_bytes=5e8), state)
            assert decision is None or {action.release for action in decision.actions} == {Release("needed")}


def test_the_service_comes_with_the_rules_of_the_default_pack():
    """What is installed below /etc and what holds where nobody wrote any are the same."""
    etc = load_rules(os.path.join(os.path.dirname(os.path.dirname(FOLDER)), "deploy", "etc", "oomguard.yaml"))
    assert etc.rules == load_rules(shipped_pack()).rules


def test_the_default_pack_is_what_holds_when_nothing_is_said():
    """Its settings are the plan's own defaults, so that leaving a key out changes nothing but the gap."""
    plan = load_rules(shipped_pack())
    bare = Plan((TargetPlan("system", "system"),), plan.rules, source=plan.source, digest=plan.digest)
    assert plan._replace(bounds=bare.bounds) == bare
    assert plan.bounds.actions_per_minute == bare.bounds.actions_per_minute


@pytest.mark.parametrize(("text", "_where", "_says", "is_seen"), HOSTILE)
def test_the_schema_refuses_what_the_loader_refuses(text, _where, _says, is_seen):
    """Every hostile row that a schema can see, an editor marks; the few others need the loader."""
    found = list(EDITOR.iter_errors(yaml.safe_load(text)))
    assert bool(found) == is_seen


@pytest.mark.parametrize("text", GOOD)
def test_the_schema_takes_what_the_loader_takes(text):
    """No good file is marked."""
    parse_rules(text)
    assert [error.message for error in EDITOR.iter_errors(yaml.safe_load(text))] == []


def test_loader_and_schema_know_the_same_keys():
    """The two places name each other here: keys of a file, a rule, a condition, a profile; names, signals."""
    defs = SCHEMA["$defs"]
    assert set(SCHEMA["properties"]) == set(KEYS)
    assert set(defs["rule"]["properties"]) == set(RULE_KEYS)
    assert set(defs["condition"]["properties"]) == set(WHEN_KEYS)
    assert set(defs["profile"]["properties"]) == set(PROFILE_KEYS)
    assert defs["name"]["anyOf"][0]["pattern"] == f"^{NAME.pattern}$"
    assert defs["hook"]["properties"]["signal"]["enum"] == list(SIGNALS)
