"""Hooks that other distributions bring: the entry-point group `oomguard.hooks`, each a function of the guard."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points

from oomguard.errors import UsageError
from oomguard.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oomguard.embed.guard import Guard

GROUP = "oomguard.hooks"


def register_all(guard: Guard) -> list[str]:
    """Let every installed distribution register its hooks; return what is wrong with those that could not.

    One that is broken must not keep the app from starting: it did not ask for that one.
    """
    problems = []
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        try:
            _register(point, guard)
        except Exception as error:  # noqa: BLE001  somebody else's code; the guard tells of it when it starts
            problems.append(f"{_words(point)}: {type(error).__name__}: {error}"[:500])
    return problems


def register_named(guard: Guard, names: Collection[str]) -> None:
    """Let these register their hooks.

    Raises:
        UsageError: there is none of that name, or it does not load or register.
    """
    found = entry_points(group=GROUP)
    for name in names:
        points = [point for point in found if point.name == name]
        if not points:
            known = ", ".join(sorted({point.name for point in found})) or "none"
            raise UsageError(f"no entry point {name!r} in the group {GROUP}; there are: {known}")
        try:
            for point in points:
                _register(point, guard)
        except Exception as error:
            raise UsageError(f"{_words(points[0])}: {type(error).__name__}: {error}") from error


def _register(point: EntryPoint, guard: Guard) -> None:
    register: Any = point.load()
    register(guard)


def _words(point: EntryPoint) -> str:
    return f"entry point {point.name} = {point.value}"
