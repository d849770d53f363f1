"""JSON by the standard library's C parts alone: the same as `json`, without `re` and 0.5 MB of RSS.

`json` itself is imported where these parts are not there, and by the C scanner when it meets a text that is none:
so the first bad line of a client costs the half megabyte after all.
"""

from __future__ import annotations

from collections.abc import Callable

from oomguard.typed import Any, NamedTuple, NoReturn

try:
    import _json

    _parts: Any = _json
except ImportError:             # another Python than CPython
    _parts = None

_BLANKS = " \t\n\r"
_CONSTANTS = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}

Pairs = list[tuple[str, Any]]


class _Settings(NamedTuple):
    """What the C scanner asks its maker for."""

    parse_constant: Callable[[str], object]
    object_pairs_hook: Callable[[Pairs], object] | None
    object_hook: None = None
    array_hook: None = None     # from Python 3.15 on
    parse_float: Callable[[str], object] = float
    parse_int: Callable[[str], object] = int
    strict: bool = True


def decoder(
    *, parse_constant: Callable[[str], object] = _CONSTANTS.__getitem__,
    object_pairs_hook: Callable[[Pairs], object] | None = None,
) -> Callable[[str], Any]:
    """Return what reads a text, as `json.loads` does with these arguments. It raises ValueError, RecursionError."""
    if _parts is None:
        import json

        return json.JSONDecoder(parse_constant=parse_constant, object_pairs_hook=object_pairs_hook).decode
    scan = _parts.make_scanner(_Settings(parse_constant, object_pairs_hook))

    def decode(text: str) -> Any:
        begin = len(text) - len(text.lstrip(_BLANKS))
        try:
            value, end = scan(text, begin)
        except StopIteration as stop:
            raise ValueError(f"Expecting value: char {stop.value}") from None
        if text[end:].strip(_BLANKS):
            raise ValueError(f"Extra data: char {end}")
        return value

    return decode


def encoder(
    *, ensure_ascii: bool = True, allow_nan: bool = True, separators: tuple[str, str] = (", ", ": "),
) -> Callable[[object], str]:
    """Return what writes a value, as `json.dumps` does with these arguments. It raises ValueError, TypeError."""
    if _parts is None:
        import json

        return json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=allow_nan, separators=separators).encode
    text_of = _parts.encode_basestring_ascii if ensure_ascii else _parts.encode_basestring
    between, after_key = separators

    def encode(value: object) -> str:
        marks: dict[int, object] = {}       # of what it is inside of, so that a circle is seen
        write = _parts.make_encoder(marks, _refuse, text_of, None, after_key, between, False, False, allow_nan)
        return "".join(write(value, 0))

    return encode


def no_key_twice(pairs: Pairs) -> dict[str, Any]:
    """Make an object of its pairs; refuse a key that is there twice: two readers could each believe another one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def no_constant(word: str) -> NoReturn:
    """Refuse NaN and the infinities: Python's JSON has them, JSON has not."""
    raise ValueError(f"{word} is not JSON")


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
