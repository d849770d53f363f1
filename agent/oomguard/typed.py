"""What the device's path needs of `typing`, without importing it: 0.6 MB of RSS less (bench/footprint).

For type checkers these names are the real ones. At run time only NamedTuple does anything: it makes what
`collections.namedtuple` makes, but all records share their methods: 0.3 MB less on Python 3.13.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar, cast
else:
    from _collections import _tuplegetter

    Any = NoReturn = object

    class Protocol:
        """Says what an object must be able to do; checked by the type checker only."""

    def TypeVar(name, *_bounds):  # noqa: N802  it stands for typing's
        """Return something that may stand in an annotation."""
        return name

    def cast(_kind, value):
        """Return the value."""
        return value

    class _Record(tuple):
        """What all named tuples have in common; each has `_fields`, their `_field_defaults` and a `__new__`."""

        __slots__ = ()

        @classmethod
        def _make(cls, values):
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **changes):
            made = self._make(map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"Got unexpected field names: {list(changes)!r}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            shown = (f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({', '.join(shown)})"

        def __getnewargs__(self):
            return tuple(self)

        __replace__ = _replace              # copy.replace, from Python 3.13 on

    _GETTERS = tuple(_tuplegetter(at, "") for at in range(64))      # a property each place, of whatever name

    def _maker_of(name, fields, defaults):
        """Return the `__new__` of a record: compiled, as the arguments' names are its own."""
        words = "".join(f"{field}, " for field in fields)
        code = f"lambda _cls, {words}: _new(_cls, ({words}))"
        make = eval(code, {"_new": tuple.__new__, "__builtins__": {}, "__name__": f"namedtuple_{name}"})  # noqa: S307
        make.__name__, make.__qualname__, make.__defaults__ = "__new__", f"{name}.__new__", defaults
        return make

    class _NamedTupleMaker(type):
        """Turns a class body with annotations into a named tuple, as typing.NamedTuple does."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body.pop(field) for field in fields if field in body}
            if tuple(defaults) != fields[len(fields) - len(defaults):]:
                raise TypeError(f"{name}: a field without a default follows one with a default")
            getters = {field: _GETTERS[at] for at, field in enumerate(fields)}
            return type(name, (_Record,), body | getters | {
                "__slots__": (), "__match_args__": fields, "_fields": fields, "_field_defaults": defaults,
                "__new__": _maker_of(name, fields, tuple(defaults.values()))})

    class NamedTuple(metaclass=_NamedTupleMaker):
        """The base of immutable records."""


__all__ = ["TYPE_CHECKING", "Any", "NamedTuple", "NoReturn", "Protocol", "TypeVar", "cast"]
