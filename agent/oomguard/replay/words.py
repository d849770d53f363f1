"""Features in words: what each number says of the memory, and which of them speak of the same thing."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from typing import NamedTuple

import numpy as np

from oomguard.features import FAR_S, NAMES
from oomguard.profile import BOUND_KINDS
from oomguard.replay.contributions import Contributions
from oomguard.units import format_bytes, format_seconds

# Which features speak of the same thing: the first pattern that fits wins.
GROUPS = (
    ("how much is left", r"headroom_ratio|used_ratio"),
    ("the app's own bound", r".*_capacity_ratio|heap_limit_ratio|bound_.*|straight_line_to_bound_s"),
    ("how fast it falls", r"slope_.*|straight_line_.*|used_growth_.*"),
    ("how the fall changes", r"acceleration_.*|mean_.*"),
    ("how far it swings", r"spread_.*|below_high_.*|above_low_.*"),
    ("stalls on memory", r"psi_.*"),
    ("page faults", r"refaults_.*|major_faults_.*"),
    ("page cache and kernel", r"charged_.*|kernel_.*"),
    ("swap", r"swap_free_ratio|swap_to_ram"),
    ("the machine", r"available_ratio|log2_ram|cores"),
    ("the size of the limit", r"log2_limit"),
    ("releases", r"since_release_s|evictable_ratio"),
    ("the app's phase", r"phase|in_phase_s"),
    ("late readings", r"late_s"),
)
SHOWN = 2               # features named per group
SHOWN_SHARE = 0.25      # the second is named if it pushed at least so much of what the first did
AWAY_RATIO = 5e-4       # nearer than 0.05 % of the limit to its highest or lowest headroom is at it
STEADY_PER_S = 2e-5     # below 0.002 % of the limit a second (0.6 % in five minutes) a slope reads as none


class Push(NamedTuple):
    """Features that speak of the same thing, and how much they pushed the score together."""

    about: str
    contribution: float
    words: str                                          # what the strongest of them say
    features: tuple[tuple[str, float, float], ...]      # name, value, contribution; strongest first


def pushes(contributions: Contributions, row: np.ndarray[tuple[int], np.dtype[np.float32]],
           length_s: float = inf) -> tuple[Push, ...]:
    """Return what pushed the score, group by group, strongest first; together with the bias they are the score.

    Args:
        contributions: of every feature.
        row: float32[COUNT], the features.
        length_s: what the window held; a span that is longer is said to be so long.
    """
    grouped: dict[str, list[tuple[str, float, float]]] = {}
    for name, value, share in zip(NAMES, row.tolist(), contributions.by_feature.tolist(), strict=True):
        grouped.setdefault(group_of(name), []).append((name, value, share))
    found = []
    for about, members in grouped.items():
        members.sort(key=lambda member: -abs(member[2]))
        total = sum(member[2] for member in members)
        if any(member[2] for member in members):
            words = _said(members, total, length_s)
            found.append(Push(about, total, words, tuple(member for member in members if member[2])))
    return tuple(sorted(found, key=lambda push: -abs(push.contribution)))


def group_of(name: str) -> str:
    """Return what a feature speaks of."""
    return next(about for about, pattern in GROUPS if re.fullmatch(pattern, name))


def _said(members: list[tuple[str, float, float]], total: float, length_s: float) -> str:
    """Let the features speak that pushed the group's way."""
    agreeing = [member for member in members if member[2] * total >= 0] or members
    strongest = abs(agreeing[0][2])
    told = dict.fromkeys(in_words(name, value, length_s) for name, value, share in agreeing[:SHOWN]
                         if abs(share) >= SHOWN_SHARE * strongest)
    return "; ".join(told)


def in_words(name: str, value: float, length_s: float = inf) -> str:
    """Return what one feature says, as a person would: `headroom falls 1.2 % of the limit per second over 30 s`."""
    stem, _, last = name.rpartition("_")
    if re.fullmatch(r"[0-9]+s", last) and stem in SPOKEN_SPANS:
        span = _span(last, length_s)
        return f"{SPOKEN_SPANS[stem][0]} over {span} is not known" if value != value \
            else SPOKEN_SPANS[stem][1](value).replace("{span}", span)
    if name.startswith(("acceleration_", "mean_")):
        return _change(name, value, length_s)
    if name == "since_release_s" and value != value:
        return "no memory has been asked for in this run"
    noun, say = SPOKEN[name]
    return f"{noun} is not known" if value != value else say(value)


def _percent(ratio: float) -> str:
    number = abs(100 * ratio)
    return f"{number:.0f} %" if number >= 10 else f"{number:.2g} %" if number else "0 %"


def _fall(ratio_per_s: float) -> str:
    if abs(ratio_per_s) < STEADY_PER_S:
        return "headroom holds steady over {span}"
    way = "falls" if ratio_per_s < 0 else "rises"
    return f"headroom {way} {_percent(ratio_per_s)} of the limit per second over {{span}}"


def _away(ratio: float, way: str) -> str:
    return f"{_percent(ratio)} of the limit {way}" if abs(ratio) >= AWAY_RATIO else "at"


def _growth(noun: str) -> Callable[[float], str]:
    def say(ratio_per_s: float) -> str:
        if abs(ratio_per_s) < STEADY_PER_S:
            return f"{noun} holds steady over {{span}}"
        way = "grows" if ratio_per_s > 0 else "shrinks"
        return f"{noun} {way} {_percent(ratio_per_s)} of the limit per second over {{span}}"

    return say


def _line(where: str) -> Callable[[float], str]:
    def say(seconds: float) -> str:
        if seconds >= FAR_S:
            return f"a straight line over {{span}} does not reach {where} within the hour"
        return f"a straight line over {{span}} reaches {where} in {format_seconds(seconds)}"

    return say


def _of_limit(noun: str) -> tuple[str, Callable[[float], str]]:
    return noun, lambda ratio: f"{noun} is {'-' if ratio < 0 else ''}{_percent(ratio)} of the limit"


def _span(last: str, length_s: float) -> str:
    return f"{min(float(last[:-1]), max(length_s, 1.0)):.0f} s"


def _change(name: str, value: float, length_s: float) -> str:
    if name == "mean_of_last_three":
        what = "the mean of the last three readings"
    elif name == "mean_10s_minus_60s":
        what = "mean headroom over 10 s"
    else:
        short, long = (_span(last, length_s) for last in name.split("_")[1:])
        if short == long:
            return f"a window of {short} is too young to compare with what was before"
        if value != value:
            return f"how the fall changes between {long} and {short} is not known"
        pace = "no faster" if abs(value) < STEADY_PER_S else \
            f"{_percent(value)} of the limit per second {'faster' if value < 0 else 'slower'}"
        return f"over the last {short} headroom falls {pace} than over {long}"
    against = "headroom now" if name == "mean_of_last_three" else f"that over {_span('60s', length_s)}"
    if value != value:
        return f"{what} is not known"
    return f"{what} is {_percent(value)} of the limit {'above' if value >= 0 else 'below'} {against}"


_KINDS = {float(number): kind for number, kind in enumerate(BOUND_KINDS)}


def _bound_kind(number: float) -> str:
    kind = _KINDS.get(number, "does something unknown")
    return f"at its own bound the app {kind}"


def _bytes(power: float) -> str:
    return format_bytes(2.0 ** min(power, 100.0))       # beyond it no memory is, and float64 overflows at 1024


Spoken = tuple[str, Callable[[float], str]]
SPOKEN_SPANS: dict[str, Spoken] = {
    "slope": ("how fast headroom changes", _fall),
    "straight_line": ("where a straight line leads", _line("the limit")),
    "spread": ("how far headroom strays",
               lambda ratio: f"headroom strays {_percent(ratio)} of the limit from its line over {{span}}"),
    "below_high": ("the highest headroom",
                   lambda ratio: f"headroom is {_away(ratio, 'below')} its highest in {{span}}"),
    "above_low": ("the least headroom",
                  lambda ratio: f"headroom is {_away(ratio, 'above')} its lowest in {{span}}"),
    "psi_some": ("the time stalled on memory",
                 lambda ratio: f"some task stalled on memory for {_percent(ratio)} of {{span}}"),
    "psi_full": ("the time when all stalled",
                 lambda ratio: f"all tasks stalled on memory for {_percent(ratio)} of {{span}}"),
    "refaults": ("what was read back",
                 lambda ratio: f"{_percent(ratio)} of the limit per second was evicted and read back over {{span}}"),
    "major_faults": ("major page faults", lambda count: f"{count:.3g} major page faults per second over {{span}}"),
    "used_growth": ("the growth of used memory", _growth("used memory")),
    "charged_growth": ("the growth of charged memory", _growth("charged memory (with page cache)")),
    "kernel_growth": ("the growth of kernel memory", _growth("kernel memory")),
}
SPOKEN: dict[str, Spoken] = {
    "headroom_ratio": _of_limit("headroom"),
    "used_ratio": _of_limit("used memory"),
    "charged_ratio": _of_limit("charged memory (with page cache)"),
    "kernel_ratio": _of_limit("kernel memory"),
    "available_ratio": ("what the machine has available",
                        lambda ratio: f"{_percent(ratio)} of the machine's RAM is available"),
    "swap_free_ratio": ("free swap", lambda ratio: "swap can take nothing more" if ratio <= 0
                        else f"swap can still take {_percent(ratio)} of the limit"),
    "evictable_ratio": ("what the hooks hold", lambda ratio: f"the hooks hold {_percent(ratio)} of the limit"),
    "late_s": ("how late readings are", lambda seconds: f"the last reading was {1000 * seconds:.0f} ms late"),
    "since_release_s": ("when memory was last asked for", lambda seconds: (
        "memory was last asked for five minutes ago or longer" if seconds >= 300
        else f"memory was asked for {format_seconds(seconds)} ago")),
    "phase": ("the app's phase", lambda number: f"the app is in its phase {number:.0f}"),
    "in_phase_s": ("the time in its phase", lambda seconds: f"it has been in it for {format_seconds(seconds)}"),
    "log2_ram": ("the machine's RAM", lambda power: f"the machine has {_bytes(power)} of RAM"),
    "log2_limit": ("the limit", lambda power: f"the limit is {_bytes(power)}"),
    "cores": ("the number of cores", lambda count: f"the machine has {count:.0f} cores"),
    "swap_to_ram": ("the size of swap", lambda ratio: "the machine has no swap" if ratio <= 0
                    else f"swap is {_percent(ratio)} of RAM"),
    "cache_capacity_ratio": _of_limit("the app's cap on its cache"),
    "buffer_capacity_ratio": _of_limit("the app's cap on its buffers"),
    "heap_limit_ratio": _of_limit("the app's cap on its heap"),
    "bound_kind": ("what the app does at its own bound", _bound_kind),
    "bound_room_ratio": ("the room below the app's own bound", lambda ratio: (
        f"used memory is {_percent(ratio)} of the limit {'below' if ratio >= 0 else 'above'} the app's own bound")),
    "straight_line_half": ("where a straight line leads", lambda seconds: _line("the limit")(seconds).replace(
        "{span}", "the later half of the window")),
    "straight_line_to_bound_s": ("when a straight line reaches the app's own bound",
                                 lambda seconds: _line("the app's own bound")(seconds).replace("{span}", "60 s")),
}
