"""Reads the other parts of a rule file: targets, hooks, the device and what a rule then does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from oomguard.decide.place import Place
from oomguard.decide.plan import (
    HOOK_KINDS,
    MAX_ACTIONS_PER_MINUTE,
    TARGET_KINDS,
    Action,
    HookPlan,
    Release,
    TargetPlan,
)
from oomguard.decide.rule_servers import SERVER_SETTINGS
from oomguard.profile import BOUND_KINDS, Profile

USER, USER_MAX_CHARS = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?"), 32        # useradd(8)
SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGWINCH", *(f"SIGRTMIN+{n}" for n in range(1, 16)))
UNIT_SUFFIXES = (".service", ".scope", ".slice")
ALONE = ("self", "system")              # targets that need no value


def read_target(place: Place, taken: list[str]) -> TargetPlan:
    """Return one target: `system`, `self`, or a mapping with a name and exactly one way to find it."""
    if not isinstance(place.node.value, dict):
        word = place.choice(ALONE)
        return TargetPlan(place.name("target", taken), word)
    fields = place.fields(("name", *TARGET_KINDS))
    kind = _one_kind(place, fields, TARGET_KINDS)
    if not kind:
        return TargetPlan("?", "system")
    value = ""
    if kind in ALONE:
        if fields[kind].node.value is not True:
            fields[kind].wrong(f"{fields[kind].shown()} is not true")
    else:
        value = TARGET_VALUES[kind](fields[kind])
    if "name" in fields:
        return TargetPlan(fields["name"].name("target", taken), kind, value)
    if kind not in ALONE:
        place.wrong("name is missing")
    elif kind in taken:
        place.wrong(f"{kind!r} names another target already")
    return TargetPlan(kind, kind, value)


def _one_kind(place: Place, fields: dict[str, Place], kinds: tuple[str, ...]) -> str:
    found = [key for key in fields if key in kinds]
    if len(found) == 1:
        return found[0]
    if isinstance(place.node.value, dict):
        place.wrong(f"{' and '.join(found) or 'none'} of {', '.join(kinds)} is given; allowed: exactly one")
    return ""


def _unit(place: Place) -> str:
    unit = place.text()
    if not unit.endswith(UNIT_SUFFIXES) or "/" in unit:
        place.wrong(f"{place.shown()} is not a unit such as player.service ({', '.join(UNIT_SUFFIXES)})")
    return unit


def _cgroup(place: Place) -> str:
    path = place.text(4096)
    if not path.startswith("/") or ".." in path.split("/"):
        place.wrong(f"{place.shown()} is not a path below the cgroup root such as /system.slice/a.service")
    return path


def _pid(place: Place) -> str:
    return str(place.whole(1, 1 << 22))


TARGET_VALUES: dict[str, Callable[[Place], str]] = {
    "unit": _unit, "cgroup": _cgroup, "pid": _pid, "command": Place.text}


def read_hook(place: Place, taken: list[str], targets: list[str]) -> HookPlan:
    """Return one declared hook: a name and exactly one of command, signal, reclaim and a server's kind."""
    fields = place.fields(("name", *HOOK_KINDS, "user", "cost", "deadline", "minimum", "targets"), required=("name",))
    kind = _one_kind(place, fields, HOOK_KINDS)
    if not kind or "name" not in fields:
        return HookPlan("?", "reclaim")
    settings: dict[str, Any] = {}
    if "user" in fields:
        settings["user"] = _user(fields["user"], kind)
    if "cost" in fields:
        settings["cost"] = fields["cost"].number(0, 1e9)
    if "deadline" in fields:
        settings["deadline_s"] = fields["deadline"].seconds(0.01, 300)
    if "minimum" in fields:
        settings["minimum_bytes"] = fields["minimum"].size(0)
    if "targets" in fields:
        settings["targets"] = read_names(fields["targets"], "target", targets)
    name = fields["name"].name("hook", taken, reserved="any")
    return HookPlan(name, kind, **{**HOOK_SETTINGS[kind](fields[kind]), **settings})


def _user(place: Place, kind: str) -> str:
    """Return who a command runs as. Whether there is such a user is for the helper's machine to say."""
    if kind != "command":
        place.wrong(f"only a command runs as another user, a {kind} does not")
    name = place.text(USER_MAX_CHARS)
    if not USER.fullmatch(name):
        place.wrong(f"{place.shown()} is not a user's name: letters, digits, _, - and ., no digit first")
    return name


def _command(place: Place) -> dict[str, object]:
    if isinstance(place.node.value, str):
        place.wrong(f"{place.shown()} is not a list: write the program and each argument, "
                    "such as [redis-cli, MEMORY, PURGE]; no shell reads it")
        return {}
    return {"argv": tuple(item.text(4096) for item in place.items(64, "texts: a program and its arguments"))}


def _signal(place: Place) -> dict[str, object]:
    return {"signal": place.choice(SIGNALS)}


def _reclaim(place: Place) -> dict[str, object]:
    if place.node.value is True:
        return {}
    if not isinstance(place.node.value, dict):
        place.wrong(f"{place.shown()} is not true or {{swappiness: 0..200}}")
        return {}
    fields = place.fields(("swappiness",), required=("swappiness",))
    return {"swappiness": fields["swappiness"].whole(0, 200)} if fields else {}


HOOK_SETTINGS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "command": _command, "signal": _signal, "reclaim": _reclaim, **SERVER_SETTINGS}


def read_names(place: Place, what: str, declared: list[str]) -> tuple[str, ...]:
    """Return a list of names, each of which must have been declared."""
    names: list[str] = []
    for item in place.items(4096, f"names of {what}s"):
        name = item.choice(declared or ["?"])
        if name in names:
            item.wrong(f"{name!r} is there twice")
        names.append(name)
    return tuple(names)


def read_then(place: Place) -> tuple[Action, ...]:
    """Return what a rule does, in order."""
    return tuple(_read_action(item) for item in place.items(MAX_ACTIONS_PER_MINUTE, "actions"))


def _read_action(place: Place) -> Action:
    fields = place.fields(("hook", "release"), required=("hook",))
    hook = fields["hook"].name("hook") if "hook" in fields else "?"
    return Action(hook, _read_release(fields["release"]) if "release" in fields else Release("needed"))


def _read_release(place: Place) -> Release:
    word = place.node.text
    if word in ("needed", "all"):
        return Release(word)
    value = place.node.value
    if not isinstance(value, str) or not word[:1].isdigit():
        place.wrong(f"{place.shown()} is not needed, all, a share such as 25% or a size such as 64MiB")
        return Release("needed")
    release = Release("ratio", place.ratio()) if place.is_ratio() else Release("bytes", float(place.size(1)))
    if release.kind == "ratio" and release.amount == 0:
        place.wrong(f"{place.shown()} releases nothing; allowed: above 0% to 100%")
    return release


FACTS: dict[str, str] = {
    "ram": "ram_bytes", "swap": "swap_bytes", "cache_capacity": "cache_capacity_bytes",
    "buffer_capacity": "buffer_capacity_bytes", "heap_limit": "heap_limit_bytes", "limit": "limit_bytes"}
PROFILE_KEYS = ("device_type", "sdk_version", "cores", "bound_kind", *FACTS)


def read_profile(place: Place) -> Profile:
    """Return the device profile in a mapping; facts that it leaves out stay unknown and are detected."""
    fields = place.fields(PROFILE_KEYS)
    facts: dict[str, Any] = {FACTS[key]: float(fields[key].size(0)) for key in FACTS if key in fields}
    if "device_type" in fields:
        facts["device_type"] = fields["device_type"].name("device type")
    if "sdk_version" in fields:
        facts["sdk_version"] = fields["sdk_version"].text(64)
    if "cores" in fields:
        facts["cores"] = fields["cores"].number(0.01, 4096)
    if "bound_kind" in fields:
        facts["bound_kind"] = fields["bound_kind"].choice(BOUND_KINDS)
    return Profile(**facts)


def read_model(place: Place, folder: str) -> str:
    """Return shipped, none, or the absolute folder of a bundle."""
    value = place.node.text
    if isinstance(place.node.value, str) and "/" in value:
        return os.path.abspath(os.path.join(folder, place.text(4096)))
    if value not in ("shipped", "none"):
        place.wrong(f"{place.shown()} is not shipped, none or the folder of a bundle (a path with a /)")
    return value
