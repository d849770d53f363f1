"""The plan's JSON: what goes in comes out, and nothing else comes in."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.decide.plan import (
    GROUP_TESTS,
    HOOK_KINDS,
    HORIZONS_S,
    PLAN_MAX_BYTES,
    RELEASE_KINDS,
    TARGET_KINDS,
    TESTS,
    Action,
    Bounds,
    Condition,
    HookPlan,
    Plan,
    Release,
    Rule,
    TargetPlan,
)
from oomguard.decide.plan_json import from_json, to_json
from oomguard.errors import ConfigError
from oomguard.profile import NAN, Profile

TEXT = st.text(st.characters(exclude_categories=("C", "Z")), max_size=12)
NUMBER = st.floats(0, 1e12)
SECONDS = st.floats(0, 86400)
FACT = st.one_of(st.just(NAN), NUMBER)


def _leaf(test):
    words = {"pressure_above": ("some", "full"), "available_below": ("", "ram")}
    word = st.sampled_from(words[test]) if test in words else TEXT
    return st.builds(Condition, st.just(test), NUMBER, st.sampled_from(HORIZONS_S), word, SECONDS,
                     st.none() | NUMBER, st.just(()))


def _group(parts):
    one = st.builds(lambda part: Condition("not", parts=(part,)), parts)
    many = st.builds(lambda test, found: Condition(test, parts=tuple(found)), st.sampled_from(("any", "all")),
                     st.lists(parts, min_size=1, max_size=3))
    return one | many


CONDITIONS = st.recursive(st.sampled_from([t for t in TESTS if t not in GROUP_TESTS]).flatmap(_leaf), _group,
                          max_leaves=4)
NAMES = st.lists(TEXT, max_size=2).map(tuple)
ACTIONS = st.builds(Action, TEXT, st.builds(Release, st.sampled_from(RELEASE_KINDS), NUMBER))
THEN = st.lists(ACTIONS, min_size=1, max_size=2).map(tuple)
RULES = st.builds(Rule, TEXT, CONDITIONS, THEN, SECONDS, NAMES)
HOOKS = st.builds(HookPlan, TEXT, st.sampled_from(HOOK_KINDS), NAMES, TEXT, st.none() | st.integers(0, 200),
                  st.floats(0, 1e9), SECONDS, st.integers(0, 1 << 50), NAMES, TEXT, TEXT, TEXT,
                  st.sampled_from(("", "allkeys-lru", "volatile-ttl")))
PROFILES = st.builds(Profile, TEXT, TEXT, *[FACT] * 6, st.sampled_from(("", "aborts")), FACT)
PLANS = st.builds(
    Plan,
    targets=st.lists(st.builds(TargetPlan, TEXT, st.sampled_from(TARGET_KINDS), TEXT), min_size=1,
                     max_size=3).map(tuple),
    rules=st.lists(RULES, max_size=3).map(tuple), hooks=st.lists(HOOKS, max_size=2).map(tuple),
    bounds=st.builds(Bounds, st.integers(1, 60), SECONDS),
    profile=PROFILES, cadence_s=st.floats(0.1, 10), plain_headroom_ratios=st.tuples(*[st.floats(0, 1)] * 5),
    model=TEXT, source=TEXT, digest=TEXT, is_dry_run=st.booleans(),
    model_may_be=st.lists(st.sampled_from(("unsigned", "older")), max_size=2).map(tuple))
SMALL = Plan((TargetPlan("system", "system"),),
             (Rule("r", Condition("any", parts=(Condition("level_at_least", 2),)),
                   (Action("any", Release("all")),)),),
             (HookPlan("gc", "command", argv=("gc", "now")),))


@given(PLANS)
def test_every_plan_comes_back_as_it_was(plan):
    """A round trip through bytes keeps every field, unknown facts included."""
    assert from_json(to_json(plan)) == plan


def _changed(path, value):
    document = json.loads(to_json(SMALL))
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(document).encode()


DEEP = {"test": "level_at_least", "value": 1, "within_s": 0, "word": "", "for_s": 0, "until": None,
        "parts": []}
for _ in range(40):
    DEEP = {**DEEP, "test": "any", "parts": [DEEP]}
RULE = ("plan", "rules", 0)


@pytest.mark.parametrize(("path", "value", "where"), [
    (("plan_version",), 2, "plan"),
    (("plan_version",), True, "plan"),
    (("more",), 1, "plan"),
    (("plan",), [], "plan"),
    (("plan", "more"), 1, "plan"),
    (("plan", "targets"), [], "plan.targets"),
    (("plan", "targets"), {}, "plan.targets"),
    (("plan", "targets", 0, "kind"), "host", "plan.targets[0].kind"),
    (("plan", "targets", 0, "name"), "a\nb", "plan.targets[0].name"),
    (("plan", "targets", 0, "name"), "a" * 5000, "plan.targets[0].name"),
    (("plan", "cadence_s"), 0, "plan.cadence_s"),
    (("plan", "cadence_s"), 1e999, "plan"),
    (("plan", "cadence_s"), "1", "plan.cadence_s"),
    (("plan", "cadence_s"), True, "plan.cadence_s"),
    (("plan", "cadence_s"), None, "plan.cadence_s"),
    (("plan", "plain_headroom_ratios"), [0.3], "plan.plain_headroom_ratios"),
    (("plan", "is_dry_run"), 1, "plan.is_dry_run"),
    (("plan", "bounds", "actions_per_minute"), 61, "plan.bounds.actions_per_minute"),
    (("plan", "bounds", "actions_per_minute"), 2.0, "plan.bounds.actions_per_minute"),
    (("plan", "profile", "ram_bytes"), -1, "plan.profile.ram_bytes"),
    (("plan", "profile", "bound_kind"), "explodes", "plan.profile.bound_kind"),
    (("plan", "hooks", 0, "argv"), "gc now", "plan.hooks[0].argv"),
    (("plan", "hooks", 0, "argv", 1), "a\0b", "plan.hooks[0].argv[1]"),
    (("plan", "hooks", 0, "kind"), "kill", "plan.hooks[0].kind"),
    (("plan", "hooks", 0, "swappiness"), 201, "plan.hooks[0].swappiness"),
    ((*RULE, "then"), [], "plan.rules[0].then"),
    ((*RULE, "then", 0, "release", "kind"), "most", "plan.rules[0].then[0].release.kind"),
    ((*RULE, "when", "test"), "level", "plan.rules[0].when.test"),
    ((*RULE, "when", "test"), "not_any", "plan.rules[0].when.test"),
    ((*RULE, "when", "test"), "used_above", "plan.rules[0].when"),
    ((*RULE, "when", "parts"), [], "plan.rules[0].when"),
    ((*RULE, "when", "parts", 0, "test"), "probability_above", "plan.rules[0].when.parts[0].within_s"),
    ((*RULE, "when", "parts", 0, "test"), "pressure_above", "plan.rules[0].when.parts[0].word"),
    ((*RULE, "when"), DEEP, "plan.rules[0].when" + ".parts[0]" * 12),
    ((*RULE, "cooldown_s"), 10**400, "plan.rules[0].cooldown_s"),
])
def test_a_plan_of_the_wrong_shape_is_refused_where_it_is_wrong(path, value, where):
    """Each wrong part gives a ConfigError with its path, and never another exception."""
    with pytest.raises(ConfigError) as caught:
        from_json(_changed(path, value))
    assert caught.value.path == where


@pytest.mark.parametrize("data", [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"plan_version":1,"plan_version":1,"plan":{}}',
    b'{"plan_version":NaN,"plan":{}}', b"9" * 5000, b" " * (PLAN_MAX_BYTES + 1)])
def test_what_is_no_plan_at_all_is_refused(data):
    """Broken text, deep nesting, double keys, NaN and too many bytes are ConfigErrors."""
    with pytest.raises(ConfigError):
        from_json(data)


@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 20))
def test_damaged_bytes_give_a_plan_or_a_config_error(noise, at, removed):
    """Fuzz: any splice into a valid plan parses to a plan or is refused, nothing else."""
    whole = to_json(SMALL)
    with suppress(ConfigError):
        assert isinstance(from_json(whole[:at] + noise + whole[at + removed:]), Plan)


def test_a_plan_that_is_too_large_is_not_written():
    """The limit holds on both sides."""
    many = tuple(TargetPlan(f"target-{i}", "cgroup", "/" + "x" * 100) for i in range(4000))
    with pytest.raises(ConfigError, match="more than"):
        to_json(SMALL._replace(targets=many))


def test_a_thousand_targets_fit():
    """The budget of 1,000 targets is not stopped by the plan's size."""
    many = tuple(TargetPlan(f"service-{i}", "unit", f"service-{i}.service") for i in range(1000))
    assert from_json(to_json(SMALL._replace(targets=many))).targets == many
