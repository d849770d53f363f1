"""Puts a condition that came true into words for the log: `level 3 >= 2 for 3.0 s`."""

from __future__ import annotations

from collections.abc import Callable

from oomguard.decide.conditions import State, Test, reader
from oomguard.decide.plan import Condition
from oomguard.decide.view import View
from oomguard.units import format_bytes, format_seconds


def because(test: Test, view: View, state: State, ram_bytes: float) -> str:
    """Return why a test answers as it does at this tick; of `any`, only the parts that are true."""
    condition = test.condition
    if condition.test == "not":
        text = f"not ({because(test.parts[0], view, state, ram_bytes)})"
    elif test.parts:
        text = _group(test, view, state, ram_bytes)
    elif condition.test == "phase":
        text = f"phase {view.phase or '?'} is {condition.word}"
    else:
        text = _threshold(condition, reader(condition, ram_bytes)(view))
    return f"{text} for {format_seconds(condition.for_s)}" if condition.for_s > 0 else text


def _group(test: Test, view: View, state: State, ram_bytes: float) -> str:
    parts = [part for part in test.parts if part.call(view, state)] if test.condition.test == "any" else []
    texts = [because(part, view, state, ram_bytes) for part in parts or test.parts]
    text = (" and " if test.condition.test == "all" else " or ").join(texts)
    return f"({text})" if len(texts) > 1 and test.condition.for_s > 0 else text


def _threshold(condition: Condition, reading: float) -> str:
    name, form = _name_and_form(condition)
    is_below = condition.test.endswith("_below")
    sign = "<" if is_below else ">=" if condition.test == "level_at_least" else ">"
    text = f"{name} {form(reading)} {sign} {form(condition.value)}"
    return text if condition.until is None else f"{text} until {form(condition.until)}"


def _name_and_form(condition: Condition) -> tuple[str, Callable[[float], str]]:
    if condition.test == "level_at_least":
        return "level", _whole
    if condition.test == "time_to_limit_below":
        return "time to limit", format_seconds
    if condition.test == "available_below":
        return ("available RAM", _percent) if condition.word == "ram" else ("available", format_bytes)
    if condition.test == "probability_above":
        return f"p{condition.within_s:.0f}", _percent
    if condition.test == "pressure_above":
        return f"{condition.word} pressure", _percent
    return condition.test.removesuffix("_above").removesuffix("_below"), _percent


def _percent(ratio: float) -> str:
    return "?" if ratio != ratio else f"{100 * ratio:.4g}%"


def _whole(number: float) -> str:
    return f"{number:.0f}"
