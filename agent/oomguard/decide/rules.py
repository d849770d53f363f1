"""Rule files: YAML in, a checked plan out, and every mistake named by file, line and path.

This is read before the daemon starts and by `check` and `reload`; the daemon itself never sees YAML.
docs/rules.md is the reference for writers; rules/schema.json says the same to editors.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from typing import Any

from oomguard.decide.decide import Decider
from oomguard.decide.place import Place
from oomguard.decide.plan import MAX_ACTIONS_PER_MINUTE, STATE_SLOTS, Bounds, HookPlan, Plan, Rule, TargetPlan
from oomguard.decide.plan_json import to_json
from oomguard.decide.rule_parts import read_hook, read_model, read_names, read_profile, read_target, read_then
from oomguard.decide.rule_when import DAY_S, HOUR_S, NOTHING, read_when
from oomguard.decide.yaml_lines import YAML_MAX_BYTES, parse_yaml
from oomguard.errors import ConfigError
from oomguard.profile import Profile

KEYS = ("version", "device", "cadence", "targets", "hooks", "rules", "bounds", "plain_levels", "model",
        "dry_run")
RULE_KEYS = ("name", "when", "then", "cooldown", "targets")
SYSTEM = TargetPlan("system", "system")
MOST = 4096                             # targets, hooks, rules: more would not fit into a plan anyway


class RulesError(ConfigError):
    """A rule file is wrong. Reads as its first problem; `problems` has all of them, in the order of lines."""

    def __init__(self, problems: Sequence[ConfigError]) -> None:
        self.problems = tuple(sorted(problems, key=lambda one: one.line or 0))
        first = self.problems[0]
        super().__init__(first.problem, file=first.file, line=first.line, path=first.path)


def load_rules(path: str | os.PathLike[str]) -> Plan:
    """Return the plan in a rule file.

    Raises:
        RulesError: (a ConfigError) it cannot be read, is larger than 256 KiB, is no YAML of the kind in
            yaml_lines.py, or one or more values are wrong.
    """
    name = os.fspath(path)
    try:
        text = _read_text(name)
    except ConfigError as error:
        raise RulesError([error]) from None
    return parse_rules(text, file=name, folder=os.path.dirname(os.path.abspath(name)))


def parse_rules(text: str, *, file: str = "<rules>", folder: str = ".") -> Plan:
    """Return the plan in a text, whose paths are relative to `folder`. Raises as `load_rules` does."""
    problems: list[ConfigError] = []
    try:
        plan = _read_file(Place(parse_yaml(text, file), "", file, problems), folder)
    except ConfigError as error:
        raise RulesError([*problems, error]) from None
    if problems:
        raise RulesError(problems)
    data = text.encode("utf-8", "surrogatepass")
    plan = plan._replace(source=_printable(file), digest=hashlib.sha256(data).hexdigest())
    _check_size(plan, file)
    return plan


def shipped_pack(name: str = "default") -> str:
    """Return the path of a rule pack that comes with the package."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "rules", f"{name}.yaml")


def undeclared_hooks(plan: Plan) -> tuple[str, ...]:
    """Return the hooks that rules name and nothing in the file declares: the app has to register them."""
    declared = {"any", *(hook.name for hook in plan.hooks)}
    return tuple(dict.fromkeys(
        action.hook for rule in plan.rules for action in rule.then if action.hook not in declared))


def _read_text(path: str) -> str:
    try:
        with open(path, "rb", opener=_open_quickly) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ConfigError("is not a regular file", file=path)
            data = stream.read(YAML_MAX_BYTES + 1)
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:      # ValueError: not UTF-8, or a path with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot be read: {reason}", file=path) from None


def _open_quickly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)      # a FIFO must not hang the start


def _read_file(root: Place, folder: str) -> Plan:
    fields = root.fields(KEYS, required=("version", "rules"))
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
    if "dry_run" in fields:
        settings["is_dry_run"] = fields["dry_run"].flag()
    targets = _read_targets(fields["targets"]) if "targets" in fields else (SYSTEM,)
    names = [target.name for target in targets]
    settings["hooks"] = _read_hooks(fields["hooks"], names) if "hooks" in fields else ()
    bounds: Bounds = settings.get("bounds", Bounds())
    rules = _read_rules(fields["rules"], names, bounds) if "rules" in fields else ()
    return Plan(targets, rules, **settings)


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
        return read_profile(Place(parse_yaml(_read_text(path), path), "", path, place.problems))
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


def _read_targets(place: Place) -> tuple[TargetPlan, ...]:
    targets: list[TargetPlan] = []
    names: list[str] = []
    for item in place.items(MOST, "targets"):
        targets.append(read_target(item, names))
        names.append(targets[-1].name)
    return tuple(targets)


def _read_hooks(place: Place, targets: list[str]) -> tuple[HookPlan, ...]:
    hooks: list[HookPlan] = []
    for item in place.items(MOST, "hooks"):
        hooks.append(read_hook(item, [hook.name for hook in hooks], targets))
    return tuple(hooks)


def _read_rules(place: Place, targets: list[str], bounds: Bounds) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for item in place.items(MOST, "rules"):
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
        if slots > STATE_SLOTS:
            problem = (f"target {target.name} has too many rules, holds and latches: {slots} slots of state, "
                       f"allowed: {STATE_SLOTS}")
            raise RulesError([ConfigError(problem, file=file, path="rules")])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
