"""The rule loader: what it reads, and what it says of every mistake."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest
from hostile_rules import GOOD, HOSTILE, THEN, WHEN
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.decide.plan import Action, Bounds, Condition, HookPlan, Plan, Release, TargetPlan
from oomguard.decide.rules import RulesError, load_rules, parse_rules, shipped_pack, undeclared_hooks
from oomguard.errors import ConfigError
from oomguard.profile import Profile

FULL = """\
version: 1
device: {device_type: tv, ram: 1GiB, cores: 4, heap_limit: 300MiB, bound_kind: aborts}
cadence: 500ms
model: none
dry_run: true
plain_levels: [50%, 40%, 30%, 20%, 10%]
bounds: {actions_per_minute: 4, minimum_gap: 3s}
targets:
  - {name: player, unit: player.service}
  - {name: worker, pid: 42}
  - self
hooks:
  - {name: gc, command: [jcmd, 42, GC.run], cost: 2.5, deadline: 2s, minimum: 8MiB, targets: [worker]}
  - {name: usr, signal: SIGUSR1}
  - {name: cold, reclaim: {swappiness: 0}}
rules:
  - name: trim the image cache
    when: {level_at_least: 2, for: 3s}
    then: [{hook: image-cache, release: needed}, {hook: gc, release: 25%}]
    cooldown: 45s
    targets: [player]
  - name: last resort
    when: {any: [{level_at_least: 5}, {used_above: 95%, until: 90%}]}
    then: [{hook: image-cache, release: 64MiB}, {hook: any, release: all}]
"""


def refused(text, **arguments):
    with pytest.raises(RulesError) as caught:
        parse_rules(text, **arguments)
    return caught.value


def when_of(text):
    return parse_rules(WHEN % text).rules[0].when


def test_a_full_file_becomes_the_plan_it_says():
    """Every key of the grammar arrives in its own field, with its unit taken off."""
    plan = parse_rules(FULL, file="full.yaml")
    assert plan.profile == Profile("tv", ram_bytes=float(1 << 30), cores=4.0,
                                   heap_limit_bytes=300.0 * (1 << 20), bound_kind="aborts")
    assert (plan.cadence_s, plan.model, plan.is_dry_run, plan.source) == (0.5, "none", True, "full.yaml")
    assert plan.plain_headroom_ratios == (0.5, 0.4, 0.3, 0.2, 0.1)
    assert plan.bounds == Bounds(4, 3.0)
    assert plan.digest == hashlib.sha256(FULL.encode()).hexdigest()
    assert plan.targets == (TargetPlan("player", "unit", "player.service"), TargetPlan("worker", "pid", "42"),
                            TargetPlan("self", "self"))
    assert plan.hooks == (
        HookPlan("gc", "command", argv=("jcmd", "42", "GC.run"), cost=2.5, deadline_s=2.0,
                 minimum_bytes=8 << 20, targets=("worker",)),
        HookPlan("usr", "signal", signal="SIGUSR1"), HookPlan("cold", "reclaim", swappiness=0))
    trim, last = plan.rules
    assert trim == ("trim the image cache", Condition("level_at_least", 2, for_s=3.0),
                    (Action("image-cache", Release("needed")), Action("gc", Release("ratio", 0.25))), 45.0,
                    ("player",))
    assert last.when == Condition("any", parts=(
        Condition("level_at_least", 5), Condition("used_above", 0.95, until=0.9)))
    assert last.then == (Action("image-cache", Release("bytes", 64.0 * (1 << 20))),
                         Action("any", Release("all")))


def test_what_a_file_leaves_out_has_the_defaults():
    """A file of one rule guards the whole system, with the shipped model and all else as documented."""
    plan = parse_rules(WHEN % "{level_at_least: 2}")
    bare = Plan((TargetPlan("system", "system"),), plan.rules, source=plan.source, digest=plan.digest)
    assert plan == bare
    assert plan.rules[0].cooldown_s == 30.0 and plan.rules[0].then == (Action("any", Release("needed")),)


LEVEL_2, USED = Condition("level_at_least", 2), Condition("used_above", 0.9)


@pytest.mark.parametrize(("text", "condition"), [
    ("{level_at_least: 2, used_above: 90%}", Condition("all", parts=(LEVEL_2, USED))),
    ("{level_at_least: 2, used_above: 90%, for: 3s}", Condition("all", parts=(LEVEL_2, USED), for_s=3.0)),
    ("{all: [{level_at_least: 2}], for: 3s}", Condition("all", parts=(LEVEL_2,), for_s=3.0)),
    ("{not: {level_at_least: 2, for: 1s}, for: 3s}",
     Condition("not", parts=(LEVEL_2._replace(for_s=1.0),), for_s=3.0)),
    ("{level_at_least: 2, for: 0s}", LEVEL_2),
    ("{phase: menu}", Condition("phase", word="menu")),
    ("{phase: [menu]}", Condition("phase", word="menu")),
    ("{phase: [menu, 3], for: 1s}", Condition("any", parts=(Condition("phase", word="menu"),
                                                            Condition("phase", word="3")), for_s=1.0)),
    ("{probability_above: {within: 2min, is: 40%}, until: 20%}",
     Condition("probability_above", 0.4, 120.0, until=0.2)),
    ("{pressure_above: {kind: full, is: 10%}}", Condition("pressure_above", 0.1, word="full")),
    ("{available_below: 5%, until: 8%}", Condition("available_below", 0.05, word="ram", until=0.08)),
    ("{available_below: 64MiB}", Condition("available_below", 64 << 20)),
    ("{time_to_limit_below: 1.5min}", Condition("time_to_limit_below", 90.0)),
    ("{charged_above: 95%}", Condition("charged_above", 0.95)),
    ("{headroom_below: 10%, until: 20%}", Condition("headroom_below", 0.1, until=0.2)),
])
def test_each_condition_is_read(text, condition):
    """Several keys are `all`, a list of phases is `any`, and `for` belongs to its own mapping."""
    assert when_of(text) == condition


@pytest.mark.parametrize(("text", "where", "says", "_is_seen"), HOSTILE)
def test_every_mistake_is_refused_with_its_path_value_and_what_is_allowed(text, where, says, _is_seen):
    """One row per mistake: the path points at it, the message names the value and the way out."""
    error = refused(text, file="r.yaml")
    assert (error.path, error.file) == (where, "r.yaml")
    assert says in error.problem
    assert len(str(error)) < 600


@pytest.mark.parametrize("release", ["1e9999%", "9" * 39 + "B", "9" * 400 + "B"])
def test_numbers_beyond_reason_are_refused(release):
    """No overflow and no infinity from a long number."""
    assert refused(THEN % f"[{{hook: a, release: {release}}}]").path == "rules[0].then[0].release"


def test_an_error_reads_as_file_line_path_problem():
    """The form that editors and people click on."""
    error = refused("version: 1\nrules:\n  - name: r\n    then: [{hook: a}]\n    when:\n"
                    "      level_at_least: 7\n", file="rules/r.yaml")
    assert str(error) == "rules/r.yaml:6: rules[0].when.level_at_least: 7 is not in 1..5"
    assert isinstance(error, ConfigError) and error.exit_code == 3


def test_all_mistakes_are_told_at_once_in_the_order_of_lines():
    """One run of `check` shows everything; the exception itself reads as the first."""
    error = refused("version: 3\ncadence: 5\nrules:\n- name: r\n  when: {level_at_least: 9, fro: 1s}\n"
                    "  then: [{hook: a, release: 5}]\ntargets: [host]\n")
    assert [(one.line, one.path) for one in error.problems] == [
        (1, "version"), (2, "cadence"), (5, "rules[0].when.fro"), (5, "rules[0].when.level_at_least"),
        (6, "rules[0].then[0].release"), (7, "targets[0]")]
    assert str(error) == str(error.problems[0])


def test_a_file_full_of_mistakes_is_not_told_for_ever():
    """After fifty problems the loader stops looking."""
    rules = "- {name: r, when: {level_at_least: 9}, then: [{hook: a}]}\n" * 1000
    assert len(refused(f"version: 1\nrules:\n{rules}").problems) == 51


def test_a_good_file_of_one_thousand_targets_loads():
    """The budget of 1,000 targets is not stopped by the loader."""
    targets = "".join(f"- {{name: s{i}, unit: s{i}.service}}\n" for i in range(1000))
    assert len(parse_rules(f"{WHEN % '{level_at_least: 2}'}\ntargets:\n{targets}").targets) == 1000


def test_rules_that_need_more_state_than_a_window_keeps_are_refused():
    """Holds, latches and cooldowns of one target must fit; the same number over many targets does."""
    rule = "- {name: r%d, when: {level_at_least: 2, for: 1s}, then: [{hook: a}], targets: [%s]}\n"
    head = "version: 1\ntargets: [{name: a, pid: 1}, {name: b, pid: 2}]\nrules:\n"
    assert parse_rules(head + "".join(rule % (i, "ab"[i % 2]) for i in range(180)))
    error = refused(head + "".join(rule % (i, "b") for i in range(180)))
    assert "target b has too many rules" in error.problem and error.path == "rules"


def test_hooks_that_nothing_declares_are_reported_and_allowed():
    """An app may register them later; `any` and declared ones are not among them."""
    assert undeclared_hooks(parse_rules(FULL)) == ("image-cache",)
    assert undeclared_hooks(load_rules(shipped_pack())) == ()


def test_paths_in_a_file_are_relative_to_it(tmp_path):
    """Profile and bundle are found beside the rules, wherever the command runs."""
    (tmp_path / "tv.yaml").write_text("device_type: tv\nram: 1GiB\n")
    (tmp_path / "r.yaml").write_text("device: tv.yaml\nmodel: ./bundle\n" + WHEN % "{level_at_least: 2}")
    plan = load_rules(tmp_path / "r.yaml")
    assert (plan.profile.device_type, plan.profile.ram_bytes) == ("tv", float(1 << 30))
    assert plan.model == str(tmp_path / "bundle")


def test_a_mistake_in_a_profile_file_names_that_file(tmp_path):
    """The line and path are those of the profile, not of the rules."""
    (tmp_path / "tv.yaml").write_text("device_type: tv\nram: 1\n")
    error = refused("device: tv.yaml\n" + WHEN % "{level_at_least: 2}", folder=str(tmp_path))
    assert (error.file, error.line, error.path) == (str(tmp_path / "tv.yaml"), 2, "ram")


@pytest.mark.parametrize(("content", "says"), [
    (b"\xff\xfe", "cannot be read"), (b"", "empty"), (b"a" * 300_000, "larger"), (None, "No such file")])
def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path, content, says):
    """Not UTF-8, empty, too large, not there."""
    path = tmp_path / "r.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RulesError, match=says) as caught:
        load_rules(path)
    assert caught.value.file == str(path)


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path):
    """A FIFO without a writer, a folder and a device do not hang the start."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, "/dev/zero", "a\0b"):
        with pytest.raises(RulesError):
            load_rules(path)


def test_a_byte_order_mark_is_borne():
    """Editors on other systems write one."""
    assert parse_rules("\ufeff" + GOOD[0])


LINES = st.sampled_from([line for text in (FULL, *GOOD, *(row[0] for row in HOSTILE))
                         for line in text.splitlines() if len(line) < 200])


@given(st.lists(LINES | st.text(max_size=20), max_size=12).map("\n".join))
@settings(deadline=None, max_examples=250)
def test_any_text_gives_a_plan_or_a_config_error(text):
    """Fuzz by shuffled lines of good and bad files: nothing else ever comes out."""
    try:
        assert isinstance(parse_rules(text), Plan)
    except ConfigError as error:
        assert error.problem


NOISE = st.text(alphabet="a1%:-[]{},&*!|>'\"#?\n \t\0é", max_size=4)


@given(st.integers(0, len(FULL)), st.integers(0, 12), NOISE)
@settings(deadline=None, max_examples=250)
def test_a_damaged_file_gives_a_plan_or_a_config_error(at, removed, noise):
    """Fuzz by splicing: any few characters changed in a good file."""
    try:
        assert isinstance(parse_rules(FULL[:at] + noise + FULL[at + removed:]), Plan)
    except ConfigError as error:
        assert error.problem


def test_deciding_and_reading_a_plan_import_no_yaml():
    """The daemon's side stays small: none of the modules that cost memory come along."""
    code = ("import sys, oomguard.decide.decide, oomguard.decide.plan_json, oomguard.decide.levels\n"
            "heavy = {'yaml', 'msgspec', 'dataclasses', 'inspect', 'difflib', 'hashlib', 'logging',"
            " 'pathlib', 'oomguard.decide.rules'}\n"
            "print(sorted(heavy & set(sys.modules)))")
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True,
                           env={"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})
    assert found.stdout == "[]\n"
