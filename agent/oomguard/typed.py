"""What the device's path needs of `typing`, without importing it: 0.6 MB of RSS less (bench/footprint).

For type checkers these names are the real ones. At run time only NamedTuple does anything, and that is
`collections.namedtuple`, which the standard library has loaded anyway.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar, cast
else:
    Any = NoReturn = object

    class Protocol:
        """Says what an object must be able to do; checked by the type checker only."""

    def TypeVar(name, *_bounds):  # noqa: N802  it stands for typing's
        """Return something that may stand in an annotation."""
        return name

    def cast(_kind, value):
        """Return the value."""
        return value

    class _NamedTupleMaker(type):
        """Turns a class body with annotations into a named tuple, as typing.NamedTuple does."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = list(body.get("__annotations__", ()))
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            for key, value in body.items():
                if key not in ("__module__", "__qualname__", "__dict__", "__weakref__"):
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_NamedTupleMaker):
        """The base of immutable records."""


__all__ = ["TYPE_CHECKING", "Any", "NamedTuple", "NoReturn", "Protocol", "TypeVar", "cast"]
