"""Rule files: YAML in, a checked plan out, and every mistake named by file, line and path.

This is read before the daemon starts and by `check` and `reload`; the daemon itself never sees YAML.
docs/rules.md is the reference for writers; rules/schema.json says the same to editors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

from oomguard.decide.decide import Decider
from oomguard.decide.place import Place
from oomguard.decide.plan import (
    MAX_ACTIONS_PER_MINUTE,
    MODEL_MAY_BE,
    RULE_SLOTS,
    Bounds,
    HookPlan,
    Plan,
    Rule,
    TargetPlan,
)
from oomguard.decide.plan_json import to_json
from oomguard.decide.rule_files import files_of, read_text
from oomguard.decide.rule_parts import read_hook, read_model, read_names, read_profile, read_target, read_then
from oomguard.decide.rule_when import DAY_S, HOUR_S, NOTHING, read_when
from oomguard.decide.yaml_lines import parse_yaml
from oomguard.errors import ConfigError
from oomguard.profile import Profile

KEYS = ("version", "device", "cadence", "targets", "hooks", "rules", "bounds", "plain_levels", "model",
        "model_may_be", "dry_run")
RULE_KEYS = ("name", "when", "then", "cooldown", "targets")
SYSTEM = TargetPlan("system", "system")
MOST = 4096                             # targets, hooks, rules: more would not fit into a plan anyway


class RulesError(ConfigError):
    """A rule file is wrong. Reads as its first problem; `problems` has all of them, in the order of files and lines."""

    def __init__(self, problems: Sequence[ConfigError]) -> None:
        files = list(dict.fromkeys(one.file for one in problems))
        self.problems = tuple(sorted(problems, key=lambda one: (files.index(one.file), one.line or 0)))
        first = self.problems[0]
        super().__init__(first.problem, file=first.file, line=first.line, path=first.path)


def load_rules(path: str | os.PathLike[str]) -> Plan:
    """Return the plan in a rule file, or in a folder as /etc/oomguard is.

    Of a folder oomguard.yaml is read, then rules.d/*.yaml in the order of their names: targets, hooks and rules add
    up, of everything else the last word holds. device.yaml says what device it is where no rule file does.

    Raises:
        RulesError: (a ConfigError) a file cannot be read, is larger than 256 KiB, is no YAML of the kind in
            yaml_lines.py, or one or more values are wrong.
    """
    name = os.fspath(path)
    try:
        files = files_of(name)
        texts = [(each, read_text(each)) for each in files.rules]
    except ConfigError as error:
        raise RulesError([error]) from None
    return _parse(texts, name, files.device)


def parse_rules(text: str, *, file: str = "<rules>", folder: str = "") -> Plan:
    """Return the plan in a text, whose paths are relative to `folder`. Raises as `load_rules` does."""
    return _parse([(file, text)], file, folder=folder or ".")


def _parse(texts: list[tuple[str, str]], source: str, device: str = "", folder: str = "") -> Plan:
    problems: list[ConfigError] = []
    try:
        roots = [Place(parse_yaml(text, file), "", file, problems) for file, text in texts]
        plan = _read_files(roots, folder)
        if device and plan.profile == Profile():
            plan = plan._replace(profile=_read_device_file(device, problems))
    except ConfigError as error:
        raise RulesError([*problems, error]) from None
    if problems:
        raise RulesError(problems)
    data = "".join(text for _file, text in texts).encode("utf-8", "surrogatepass")
    plan = plan._replace(source=_printable(source), digest=hashlib.sha256(data).hexdigest())
    _check_size(plan, source)
    return plan


def shipped_pack(name: str = "default") -> str:
    """Return the path of a rule pack that comes with the package."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "rules", f"{name}.yaml")


def undeclared_hooks(plan: Plan) -> tuple[str, ...]:
    """Return the hooks that rules name and nothing in the file declares: the app has to register them."""
    declared = {"any", *(hook.name for hook in plan.hooks)}
    return tuple(dict.fromkeys(
        action.hook for rule in plan.rules for action in rule.then if action.hook not in declared))


def _read_files(roots: list[Place], folder: str) -> Plan:
    """Return the plan of one file, or of a main file and its drop-ins."""
    settings: dict[str, Any] = {}
    parts = []
    for root in roots:
        fields = root.fields(KEYS, required=("version", "rules") if root is roots[0] else ("version",))
        settings |= _read_settings(fields, folder or os.path.dirname(os.path.abspath(root.file)))
        parts.append(fields)
    targets = _read_targets([fields["targets"] for fields in parts if "targets" in fields])
    names = [target.name for target in targets]
    hooks = _read_hooks([fields["hooks"] for fields in parts if "hooks" in fields], names)
    bounds: Bounds = settings.get("bounds", Bounds())
    rules = _read_rules([fields["rules"] for fields in parts if "rules" in fields], names, bounds)
    return Plan(targets, rules, hooks, **settings)


def _read_settings(fields: dict[str, Place], folder: str) -> dict[str, Any]:
    """Return what of a file is no list, by its name in a plan."""
    if "version" in fields and (fields["version"].node.value != 1 or fields["version"].node.value is True):
        fields["version"].wrong(f"{fields['version'].shown()} is not 1, the one version there is")
    settings: dict[str, Any] = {}
    if "device" in fields:
        settings["profile"] = _read_device(fields["device"], folder)
    if "cadence" in fields:
        settings["cadence_s"] = fields["cadence"].seconds(0.1, 10)
    if "bounds" in fields:
        settings["bounds"] = _read_bounds(fields["bounds"])
    if "plain_levels" in fields:
        settings["plain_headroom_ratios"] = _read_plain_levels(fields["plain_levels"])
    if "model" in fields:
        settings["model"] = read_model(fields["model"], folder)
    if "model_may_be" in fields:
        settings["model_may_be"] = tuple(
            item.choice(MODEL_MAY_BE) for item in fields["model_may_be"].items(len(MODEL_MAY_BE), "unsigned, older"))
    if "dry_run" in fields:
        settings["is_dry_run"] = fields["dry_run"].flag()
    return settings


def _read_device_file(path: str, problems: list[ConfigError]) -> Profile:
    """Return the profile in a file of facts. Raises ConfigError where it cannot be read."""
    return read_profile(Place(parse_yaml(read_text(path), path), "", path, problems))


def _read_device(place: Place, folder: str) -> Profile:
    value = place.node.value
    if isinstance(value, dict):
        return read_profile(place)
    if value == "auto":
        return Profile()
    if not isinstance(value, str) or not ("/" in value or value.endswith((".yaml", ".yml", ".json"))):
        place.wrong(f"{place.shown()} is not auto, a profile file (.yaml, .json) or a mapping of facts")
        return Profile()
    path = os.path.join(folder, value)
    try:
        return _read_device_file(path, place.problems)
    except ConfigError as error:
        if error.line is None:                  # the file as a whole: say who asked for it
            place.wrong(f"{place.shown()} {error.problem}")
        else:
            place.problems.append(error)
        return Profile()


def _read_bounds(place: Place) -> Bounds:
    fields = place.fields(("actions_per_minute", "minimum_gap"))
    bounds = Bounds()
    if "actions_per_minute" in fields:
        most = fields["actions_per_minute"].whole(1, MAX_ACTIONS_PER_MINUTE)
        bounds = bounds._replace(actions_per_minute=most)
    if "minimum_gap" in fields:
        bounds = bounds._replace(minimum_gap_s=fields["minimum_gap"].seconds(0, HOUR_S))
    return bounds


def _read_plain_levels(place: Place) -> tuple[float, ...]:
    value = place.node.value
    if not isinstance(value, list) or len(value) != 5:
        shown = f"a list of {len(value)}" if isinstance(value, list) else place.shown()
        place.wrong(f"{shown} is not a list of five shares of headroom, such as [30%, 20%, 15%, 10%, 5%]")
        return Plan._field_defaults["plain_headroom_ratios"]  # type: ignore[no-any-return]
    items = place.items(5, "shares")
    problems = len(place.problems)
    ratios = tuple(item.ratio() for item in items)
    if len(place.problems) == problems:
        for i in range(1, 5):
            if ratios[i] >= ratios[i - 1]:
                items[i].wrong(f"{items[i].shown()} is not below {items[i - 1].shown()}: levels 1 to 5 come "
                               "as headroom falls")
    return ratios


def _items(places: list[Place], what: str) -> list[Place]:
    """Return the items of one list that several files may go on with."""
    return [item for place in places for item in place.items(MOST, what)]


def _read_targets(places: list[Place]) -> tuple[TargetPlan, ...]:
    targets: list[TargetPlan] = []
    names: list[str] = []
    for item in _items(places, "targets"):
        targets.append(read_target(item, names))
        names.append(targets[-1].name)
    return tuple(targets) if places else (SYSTEM,)


def _read_hooks(places: list[Place], targets: list[str]) -> tuple[HookPlan, ...]:
    hooks: list[HookPlan] = []
    for item in _items(places, "hooks"):
        hooks.append(read_hook(item, [hook.name for hook in hooks], targets))
    return tuple(hooks)


def _read_rules(places: list[Place], targets: list[str], bounds: Bounds) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for item in _items(places, "rules"):
        rule = _read_rule(item, targets)
        if any(rule.name == other.name for other in rules):
            item.wrong(f"{rule.name!r} names another rule already")
        if len(rule.then) > bounds.actions_per_minute:
            item.wrong(f"{len(rule.then)} actions can never happen: bounds.actions_per_minute is "
                       f"{bounds.actions_per_minute}")
        rules.append(rule)
    return tuple(rules)


def _read_rule(place: Place, targets: list[str]) -> Rule:
    fields = place.fields(RULE_KEYS, required=("name", "when", "then"))
    if not {"name", "when", "then"} <= fields.keys():
        return Rule(f"?{place.path}", NOTHING, ())
    settings: dict[str, Any] = {}
    if "cooldown" in fields:
        settings["cooldown_s"] = fields["cooldown"].seconds(0, DAY_S)
    if "targets" in fields:
        settings["targets"] = read_names(fields["targets"], "target", targets)
    return Rule(fields["name"].text(120), read_when(fields["when"]), read_then(fields["then"]), **settings)


def _check_size(plan: Plan, file: str) -> None:
    """Refuse what would not fit into the plan or into a target's state."""
    try:
        to_json(plan)
    except ConfigError as error:
        raise RulesError([ConfigError(error.problem, file=file)]) from None
    for target in plan.targets:
        slots = Decider(plan.rules, plan.bounds, target=target.name).state_size
        if slots > RULE_SLOTS:
            problem = (f"target {target.name} has too many rules, holds and latches: {slots} slots of state, "
                       f"allowed: {RULE_SLOTS}")
            raise RulesError([ConfigError(problem, file=file, path="rules")])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
