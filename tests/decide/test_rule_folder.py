"""A folder of rules, as /etc/oomguard is: a main file, drop-ins in the order of their names, and a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from oomguard.decide.rule_files import FILES_MOST
from oomguard.decide.rules import RulesError, load_rules

MAIN = """\
version: 1
cadence: 2s
targets: [system]
rules:
  - {name: all of it, when: {level_at_least: 5}, then: [{hook: any, release: all}]}
"""
PLAYER = """\
version: 1
targets: [{name: player, unit: player.service}]
hooks: [{name: images, signal: SIGUSR2, targets: [player]}]
rules:
  - {name: images, when: {level_at_least: 2}, then: [{hook: images, release: needed}], targets: [player]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "oomguard.yaml").write_text(MAIN)
    (tmp_path / "rules.d").mkdir()
    return tmp_path


def test_lists_add_up_in_the_order_of_names(folder: Path) -> None:
    """Targets, hooks and rules of a drop-in come after the main file's, and those of 10- before those of 20-."""
    (folder / "rules.d" / "20-player.yaml").write_text(PLAYER)
    (folder / "rules.d" / "10-tv.yaml").write_text(PLAYER.replace("player", "tv").replace("images", "frames"))
    plan = load_rules(folder)
    assert [target.name for target in plan.targets] == ["system", "tv", "player"]
    assert [hook.name for hook in plan.hooks] == ["frames", "images"]
    assert [rule.name for rule in plan.rules] == ["all of it", "frames", "images"]
    assert str(folder) == plan.source


def test_of_settings_the_last_word_holds(folder: Path) -> None:
    """A drop-in changes one setting and leaves the others."""
    (folder / "rules.d" / "a.yaml").write_text("version: 1\ndry_run: true\nbounds: {minimum_gap: 7s}\n")
    (folder / "rules.d" / "b.yaml").write_text("version: 1\nbounds: {minimum_gap: 9s}\n")
    plan = load_rules(folder)
    assert (plan.is_dry_run, plan.bounds.minimum_gap_s, plan.cadence_s) == (True, 9.0, 2.0)


def test_without_drop_ins_it_is_the_main_file(folder: Path) -> None:
    """The plan and its digest are those of oomguard.yaml alone; what is no YAML file, or hidden, is not read."""
    (folder / "rules.d" / "README").write_text("no rules")
    (folder / "rules.d" / ".player.yaml.swp").write_text("no rules")
    (folder / "rules.d" / ".hidden.yaml").write_text("no rules")
    alone = load_rules(folder / "oomguard.yaml")
    assert alone._replace(source=str(folder)) == load_rules(folder)


def test_the_digest_changes_with_a_drop_in(folder: Path) -> None:
    """Other rules, another digest."""
    before = load_rules(folder).digest
    (folder / "rules.d" / "a.yaml").write_text("version: 1\ncadence: 1s\n")
    assert before != load_rules(folder).digest


def test_an_error_names_its_file(folder: Path) -> None:
    """Each of several mistakes says in which file and line it is, in the order in which files are read."""
    (folder / "rules.d" / "b.yaml").write_text("version: 1\n\ncadence: 1h\n")
    (folder / "rules.d" / "a.yaml").write_text("version: 1\n\n\n\nrulez: []\n")
    with pytest.raises(RulesError) as raised:
        load_rules(folder)
    told = [str(problem) for problem in raised.value.problems]
    assert told[0].startswith(f"{folder}/rules.d/a.yaml:5: rulez")
    assert told[1].startswith(f"{folder}/rules.d/b.yaml:3: cadence")


def test_a_name_that_is_taken_in_another_file_is_refused(folder: Path) -> None:
    """Two drop-ins with the same target, hook and rule: the second one is named."""
    for name in ("a.yaml", "b.yaml"):
        (folder / "rules.d" / name).write_text(PLAYER)
    with pytest.raises(RulesError) as raised:
        load_rules(folder)
    told = [str(problem) for problem in raised.value.problems]
    assert len(told) == 3
    assert all(line.startswith(f"{folder}/rules.d/b.yaml:") and "already" in line for line in told)


def test_a_drop_in_may_lean_on_the_main_file(folder: Path) -> None:
    """A rule of a drop-in may name a target of the main file, but not one that nobody declares."""
    rule = "version: 1\nrules: [{name: r, when: {level_at_least: 1}, then: [{hook: h, release: all}], targets: [%s]}]\n"
    (folder / "rules.d" / "a.yaml").write_text(rule % "system")
    assert load_rules(folder).rules[1].targets == ("system",)
    (folder / "rules.d" / "a.yaml").write_text(rule % "nobody")
    with pytest.raises(RulesError, match=r"a\.yaml:2: .*nobody"):
        load_rules(folder)


def test_device_yaml_holds_where_no_file_says_otherwise(folder: Path) -> None:
    """Its facts are the profile's; a `device` of a rule file has precedence."""
    (folder / "device.yaml").write_text("device_type: tv-2019\nlimit: 300MiB\n")
    profile = load_rules(folder).profile
    assert (profile.device_type, profile.limit_bytes) == ("tv-2019", 300 << 20)
    (folder / "rules.d" / "a.yaml").write_text("version: 1\ndevice: {device_type: kiosk}\n")
    assert load_rules(folder).profile.device_type == "kiosk"


@pytest.mark.parametrize("text", ["device_typ: x\n", "", "- 1\n"])
def test_a_wrong_device_yaml_is_an_error_of_that_file(folder: Path, text: str) -> None:
    """An unknown key, nothing, or no mapping."""
    (folder / "device.yaml").write_text(text)
    with pytest.raises(RulesError, match=r"device\.yaml"):
        load_rules(folder)


def test_a_folder_without_a_main_file_is_refused(tmp_path: Path) -> None:
    """The file that is missing is named."""
    with pytest.raises(RulesError, match=r"oomguard\.yaml: cannot be read: No such file"):
        load_rules(tmp_path)


def test_too_many_drop_ins_are_refused(folder: Path) -> None:
    """A folder of thousands of files is a mistake."""
    for number in range(FILES_MOST + 1):
        (folder / "rules.d" / f"{number}.yaml").touch()
    with pytest.raises(RulesError, match="257 files are more than 256"):
        load_rules(folder)
