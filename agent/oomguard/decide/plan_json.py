"""The plan as versioned JSON: what the short-lived parser hands over, and all that the daemon reads."""

from __future__ import annotations

from collections.abc import Callable

from oomguard.decide.plan import (
    CONDITION_MAX_DEPTH,
    EVICTING_POLICIES,
    GROUP_TESTS,
    HOOK_KINDS,
    HORIZONS_S,
    MAX_ACTIONS_PER_MINUTE,
    MODEL_MAY_BE,
    PLAN_MAX_BYTES,
    PLAN_VERSION,
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
from oomguard.errors import ConfigError
from oomguard.lean_json import decoder, encoder, no_constant, no_key_twice
from oomguard.profile import BOUND_KINDS, NAN, Profile
from oomguard.typed import Any, TypeVar

LARGEST = float(1 << 53)            # above it a float64 no longer holds every whole number
TEXT_MAX_CHARS = 4096

T = TypeVar("T")
Read = Callable[[Any, str], Any]    # a JSON value and its path → the value, or ConfigError


_encode = encoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_decode = decoder(object_pairs_hook=no_key_twice, parse_constant=no_constant)


def to_json(plan: Plan) -> bytes:
    """Return the plan as JSON. Raises ConfigError when it is larger than 256 KiB."""
    versioned = {"plan_version": PLAN_VERSION, "plan": _plain(plan)}
    data = _encode(versioned).encode("utf-8")
    if len(data) > PLAN_MAX_BYTES:
        raise ConfigError(f"{len(data)} bytes of checked plan are more than {PLAN_MAX_BYTES}: write fewer "
                          "targets, hooks or rules")
    return data


def from_json(data: bytes) -> Plan:
    """Return the plan in a JSON text; the text is hostile until this returns.

    Raises:
        ConfigError: it is too large, no JSON, of another version, or any part has the wrong shape or range.
    """
    if len(data) > PLAN_MAX_BYTES:
        raise ConfigError(f"{len(data)} bytes are more than {PLAN_MAX_BYTES}", path="plan")
    try:
        raw = _decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is no JSON that oomguard wrote: {error}", path="plan") from None
    if not isinstance(raw, dict) or raw.keys() != {"plan_version", "plan"}:
        raise ConfigError("is not {plan_version, plan}", path="plan")
    if raw["plan_version"] != PLAN_VERSION or isinstance(raw["plan_version"], bool):
        raise ConfigError(f"version {raw['plan_version']!r} is not {PLAN_VERSION}", path="plan")
    plan: Plan = _record(Plan, PLAN)(raw["plan"], "plan")
    return plan


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        if fields is None:
            return [_plain(one) for one in value]
        return {name: _plain(one) for name, one in zip(fields, value, strict=True)}
    return None if value != value else value            # an unknown number: JSON has no NaN


def _refuse(path: str, value: object, allowed: str) -> ConfigError:
    shown = repr(value)
    return ConfigError(f"{shown if len(shown) <= 80 else shown[:77] + '...'} is not {allowed}", path=path)


def _record(kind: type[T], fields: dict[str, Read], check: Callable[[T, str], None] | None = None) -> Read:
    def read(value: Any, path: str) -> T:
        if not isinstance(value, dict) or value.keys() != fields.keys():
            raise _refuse(path, value, "an object of " + ", ".join(fields))
        made = kind(**{name: one(value[name], f"{path}.{name}") for name, one in fields.items()})
        if check is not None:
            check(made, path)
        return made

    return read


def _items(one: Read, most: int, fewest: int = 0) -> Read:
    def read(value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or not fewest <= len(value) <= most:
            raise _refuse(path, value, f"a list of {fewest}..{most}")
        return tuple([one(item, f"{path}[{i}]") for i, item in enumerate(value)])

    return read


def _number(low: float, high: float) -> Read:
    def read(value: Any, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise _refuse(path, value, f"a number in {low:g}..{high:g}")
        return float(value)

    return read


def _whole(low: int, high: int) -> Read:
    def read(value: Any, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _refuse(path, value, f"a whole number in {low}..{high}")
        return value

    return read


def _or(nothing: object, one: Read) -> Read:
    def read(value: Any, path: str) -> Any:
        return nothing if value is None else one(value, path)

    return read


def _word(words: tuple[str, ...]) -> Read:
    def read(value: Any, path: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise _refuse(path, value, "one of " + ", ".join(words))
        return value

    return read


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MAX_CHARS or not all(map(str.isprintable, value)):
        raise _refuse(path, value, f"a text of at most {TEXT_MAX_CHARS} printable characters")
    return value


def _flag(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _refuse(path, value, "true or false")
    return value


def _condition(depth: int) -> Read:
    def read(value: Any, path: str) -> Condition:
        if depth > CONDITION_MAX_DEPTH:
            raise ConfigError(f"is nested deeper than {CONDITION_MAX_DEPTH}", path=path)
        fields = {**CONDITION, "parts": _items(_condition(depth + 1), 64)}
        made: Condition = _record(Condition, fields, _check_condition)(value, path)
        return made

    return read


def _check_condition(condition: Condition, path: str) -> None:
    test, parts = condition.test, len(condition.parts)
    if (test in GROUP_TESTS) != (parts > 0) or (test == "not" and parts != 1):
        raise ConfigError(f"{parts} parts do not fit {test}", path=path)
    if test == "probability_above" and condition.within_s not in HORIZONS_S:
        raise _refuse(f"{path}.within_s", condition.within_s, "60, 120, 180, 240 or 300")
    words = {"pressure_above": ("some", "full"), "available_below": ("", "ram")}.get(test)
    if words and condition.word not in words:
        raise _refuse(f"{path}.word", condition.word, "one of " + ", ".join(map(repr, words)))


NAME: Read = _text
NAMES = _items(NAME, 4096)
SECONDS = _number(0, 86400)
BYTES = _number(0, LARGEST)

TARGET: dict[str, Read] = {"name": NAME, "kind": _word(TARGET_KINDS), "value": _text}
CONDITION: dict[str, Read] = {
    "test": _word(TESTS), "value": BYTES, "within_s": SECONDS, "word": _text, "for_s": SECONDS,
    "until": _or(None, BYTES)}
RELEASE: dict[str, Read] = {"kind": _word(RELEASE_KINDS), "amount": BYTES}
ACTION: dict[str, Read] = {"hook": NAME, "release": _record(Release, RELEASE)}
RULE: dict[str, Read] = {
    "name": NAME, "when": _condition(1), "then": _items(_record(Action, ACTION), MAX_ACTIONS_PER_MINUTE, 1),
    "cooldown_s": SECONDS, "targets": NAMES}
HOOK: dict[str, Read] = {
    "name": NAME, "kind": _word(HOOK_KINDS), "argv": _items(_text, 64), "signal": _text,
    "swappiness": _or(None, _whole(0, 200)), "cost": _number(0, 1e9), "deadline_s": SECONDS,
    "minimum_bytes": _whole(0, 1 << 53), "targets": NAMES, "address": _text, "user": _text,
    "password_file": _text, "policy": _word(("", *EVICTING_POLICIES))}
BOUNDS: dict[str, Read] = {
    "actions_per_minute": _whole(1, MAX_ACTIONS_PER_MINUTE), "minimum_gap_s": SECONDS}
FACT = _or(NAN, BYTES)
PROFILE: dict[str, Read] = {
    "device_type": _text, "sdk_version": _text, "ram_bytes": FACT, "swap_bytes": FACT, "cores": FACT,
    "cache_capacity_bytes": FACT, "buffer_capacity_bytes": FACT, "heap_limit_bytes": FACT,
    "bound_kind": _word(("", *BOUND_KINDS)), "limit_bytes": FACT}
PLAN: dict[str, Read] = {
    "targets": _items(_record(TargetPlan, TARGET), 4096, 1), "rules": _items(_record(Rule, RULE), 4096),
    "hooks": _items(_record(HookPlan, HOOK), 4096), "bounds": _record(Bounds, BOUNDS),
    "profile": _record(Profile, PROFILE), "cadence_s": _number(0.1, 10),
    "plain_headroom_ratios": _items(_number(0, 1), 5, 5), "model": _text,
    "model_may_be": _items(_word(MODEL_MAY_BE), len(MODEL_MAY_BE)), "source": _text, "digest": _text,
    "is_dry_run": _flag}
