"""Read and write quantities with their units: `3s`, `64MiB`, `25%`."""

from __future__ import annotations

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1000, "MB": 10**6, "GB": 10**9}


def _split(text: str, units: dict[str, float] | dict[str, int], example: str) -> tuple[float, str]:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ%").strip()
    unit = text.strip()[len(number):].strip()
    if unit not in units or not number.replace(".", "", 1).isascii() or not number.replace(".", "", 1).isdigit():
        raise ValueError(f"{text!r} is not a quantity like {example} (units: {', '.join(units)})")
    return float(number), unit


def parse_seconds(text: str) -> float:
    """Return the seconds in a text such as `3s`, `500ms` or `2min`. Raises ValueError that says what is allowed."""
    number, unit = _split(text, SECONDS, "3s")
    return number * SECONDS[unit]


def parse_bytes(text: str) -> int:
    """Return the bytes in a text such as `64MiB`. Raises ValueError that says what is allowed."""
    number, unit = _split(text, BYTES, "64MiB")
    return int(number * BYTES[unit])


def parse_ratio(text: str) -> float:
    """Return 0.25 for `25%`. The range is 0…100 %. Raises ValueError that says what is allowed."""
    number, _unit = _split(text, {"%": 0.01}, "25%")
    if number > 100:
        raise ValueError(f"{text!r} is more than 100%")
    return number / 100


def format_bytes(count: float) -> str:
    """Return bytes as people read them: `63.9 MiB`; `?` where unknown (NaN)."""
    if count != count:
        return "?"
    sign, size = ("-" if count < 0 else ""), abs(float(count))
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{sign}{size:.0f} {unit}" if unit == "B" else f"{sign}{size:.1f} {unit}"


def format_seconds(seconds: float | None) -> str:
    """Return seconds as people read them: `48 s`, `3.5 min`; `-` where there is none."""
    if seconds is None or seconds != seconds:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
