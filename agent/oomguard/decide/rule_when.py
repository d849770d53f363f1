"""Reads a rule's `when`: keys of one mapping must all hold; `for` and `until` belong to their mapping."""

from __future__ import annotations

from collections.abc import Callable

from oomguard.decide.place import Place
from oomguard.decide.plan import (
    CONDITION_MAX_DEPTH,
    GROUP_TESTS,
    HORIZONS_S,
    TESTS,
    THRESHOLD_TESTS,
    Condition,
)

HOUR_S = 3600.0
DAY_S = 86400.0
HORIZONS = "60s, 120s, 180s, 240s, 300s"
KEYS = (*TESTS, "for", "until")
NOTHING = Condition("all")          # what a wrong condition is read as; a file with one never becomes a plan


def read_when(place: Place, depth: int = 1) -> Condition:
    """Return the condition in a mapping such as `{level_at_least: 2, for: 3s}`."""
    if depth > CONDITION_MAX_DEPTH:
        place.wrong(f"is nested deeper than {CONDITION_MAX_DEPTH} conditions")
        return NOTHING
    fields = place.fields(KEYS)
    tests = [key for key in fields if key in TESTS]
    if not tests:
        if isinstance(place.node.value, dict):
            place.wrong(f"there is no condition; allowed: {', '.join(TESTS)}")
        return NOTHING
    parts = tuple(_read_test(key, fields[key], depth) for key in tests)
    if "until" in fields:
        parts = (_with_until(parts, tests, fields["until"]),)
    for_s = fields["for"].seconds(0, HOUR_S) if "for" in fields else 0.0
    return _grouped("all", parts)._replace(for_s=for_s)


def _grouped(test: str, parts: tuple[Condition, ...]) -> Condition:
    return parts[0] if len(parts) == 1 else Condition(test, parts=parts)


def _read_test(key: str, place: Place, depth: int) -> Condition:
    if key in ("any", "all"):
        parts = tuple(read_when(item, depth + 1) for item in place.items(64, "conditions"))
        return Condition(key, parts=parts)
    if key == "not":
        return Condition("not", parts=(read_when(place, depth + 1),))
    return READERS[key](key, place)


def _with_until(parts: tuple[Condition, ...], tests: list[str], place: Place) -> Condition:
    """Return the one threshold with the value at which it lets go."""
    if len(tests) != 1 or tests[0] not in THRESHOLD_TESTS:
        place.wrong(f"until goes with exactly one of {', '.join(THRESHOLD_TESTS)}, not with "
                    f"{', '.join(tests)}")
        return parts[0]
    condition = parts[0]
    problems = len(place.problems)
    until = _read_until(condition, place)
    if len(place.problems) == problems:
        is_below = condition.test.endswith("_below")
        if until <= condition.value if is_below else until >= condition.value:
            place.wrong(f"{place.shown()} must be {'above' if is_below else 'below'} the value of "
                        f"{condition.test}, for that is where it lets go")
    return condition._replace(until=until)


def _read_until(condition: Condition, place: Place) -> float:
    if condition.test == "level_at_least":
        return place.whole(0, 4)
    if condition.test == "time_to_limit_below":
        return place.seconds(0, DAY_S)
    if condition.test == "available_below" and condition.word != "ram":
        return place.size(0)
    return place.ratio()


def _level(key: str, place: Place) -> Condition:
    return Condition(key, place.whole(1, 5))


def _share(key: str, place: Place) -> Condition:
    return Condition(key, place.ratio())


def _available(key: str, place: Place) -> Condition:
    if place.is_ratio():
        return Condition(key, place.ratio(), word="ram")
    if isinstance(place.node.value, (int, float)) and not isinstance(place.node.value, bool):
        place.wrong(f"{place.shown()} has no unit: write a size such as 64MiB or a share of RAM, 5%")
        return NOTHING
    return Condition(key, place.size(1))


def _time_to_limit(key: str, place: Place) -> Condition:
    return Condition(key, place.seconds(0.001, DAY_S))


def _probability(key: str, place: Place) -> Condition:
    fields = place.fields(("within", "is"), required=("within", "is"))
    if len(fields) != 2:
        return NOTHING
    within = fields["within"]
    problems = len(place.problems)
    within_s = within.seconds(0, DAY_S)
    if within_s not in HORIZONS_S and len(place.problems) == problems:
        within.wrong(f"{within.shown()} is no horizon of the forecast; allowed: {HORIZONS}")
    return Condition(key, fields["is"].ratio(), within_s=within_s)


def _pressure(key: str, place: Place) -> Condition:
    fields = place.fields(("kind", "is"), required=("kind", "is"))
    if len(fields) != 2:
        return NOTHING
    return Condition(key, fields["is"].ratio(), word=fields["kind"].choice(("some", "full")))


def _phase(key: str, place: Place) -> Condition:
    if not isinstance(place.node.value, list):
        return Condition(key, word=place.text(64))
    parts = tuple(Condition(key, word=item.text(64)) for item in place.items(64, "phases"))
    return _grouped("any", parts) if parts else NOTHING


READERS: dict[str, Callable[[str, Place], Condition]] = {
    "level_at_least": _level, "probability_above": _probability, "used_above": _share,
    "charged_above": _share, "headroom_below": _share, "available_below": _available,
    "time_to_limit_below": _time_to_limit, "pressure_above": _pressure, "phase": _phase,
}
assert set(READERS) | set(GROUP_TESTS) == set(TESTS)
