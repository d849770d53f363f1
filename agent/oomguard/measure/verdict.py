"""Whether figures are good enough: beside budgets that somebody configured, and beside an earlier run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from oomguard.errors import ConfigError, UsageError

Stages = Mapping[str, Mapping[str, float]]      # as in `bench --json`: stage, then p50_us, p90_us …
Limits = Mapping[str, Mapping[str, float]]      # the same, each the most that is allowed

QUANTILES = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")
WEIGHTS = ("rss_bytes", "pss_bytes", "rss_peak_bytes", "rss_over_bare_bytes")
DAEMON = "daemon"       # the name that weights go by in a budget file
SCORE_OVER_C = "score_over_c"
MARGIN_RATIO = 0.25     # two runs on one busy machine differ by up to a fifth at the median
FILE_MAX_BYTES = 1 << 20

# DESIGN 6
BUDGETS: Limits = {
    "walk": {"p50_us": 1.0}, "series": {"p50_us": 1.0}, "tick_cgroup": {"p50_us": 20.0, "p99_us": 60.0},
    "start": {"p50_us": 300_000.0}, SCORE_OVER_C: {"ratio": 1.2},
    DAEMON: {"rss_over_bare_bytes": 5_000_000, "rss_peak_bytes": 48_000_000}}


class Compared(NamedTuple):
    """One stage beside an earlier run's, by the median."""

    before_us: float
    ratio: float            # now / before
    is_slower: bool         # by more than the margin


def read_budgets(path: str) -> Limits:
    """Return the limits of a budget file: {"score": {"p50_us": 2.5}, "daemon": {"rss_bytes": 15000000}}.

    Raises:
        UsageError: it cannot be read. ConfigError: it names what is not measured, or no positive number.
    """
    limits = _object_in(path)
    for stage, allowed in limits.items():
        known = WEIGHTS if stage == DAEMON else ("ratio",) if stage == SCORE_OVER_C else QUANTILES
        if not isinstance(allowed, dict) or not allowed:
            raise ConfigError(f'{stage}: {{"p50_us": 2.5}} or the like is wanted', file=path)
        for quantity, most in allowed.items():
            if quantity not in known:
                raise ConfigError(f"{stage}.{quantity} is not one of {', '.join(known)}", file=path)
            if isinstance(most, bool) or not isinstance(most, int | float) or not most > 0:
                raise ConfigError(f"{stage}.{quantity}: {most!r} is not a positive number", file=path)
    return limits


def read_report(path: str) -> dict[str, Any]:
    """Return what `bench --json` wrote earlier. Raises UsageError."""
    said = _object_in(path)
    stages = said.get("stages")
    if not isinstance(stages, dict) or not all(
            isinstance(one, dict) and isinstance(one.get("p50_us"), int | float) for one in stages.values()):
        raise UsageError(f"{path} was not written by `oomguard bench --json`")
    return said


def over(stages: Stages, weights: Mapping[str, float | None], limits: Limits) -> list[str]:
    """Return in words what is over its limit. What was not measured is not judged."""
    return [f"{stage} {quantity} {value:.4g} is over {most:.4g}"
            for stage, allowed in limits.items() for quantity, most in allowed.items()
            for value in _measured(stages, weights, stage, quantity) if value > most]


def _measured(stages: Stages, weights: Mapping[str, float | None], stage: str, quantity: str) -> Iterator[float]:
    value: float | None = None
    if stage == DAEMON:
        value = weights.get(quantity)
    elif stage == SCORE_OVER_C:
        if "score" in stages and "score_c" in stages:
            value = stages["score"]["p50_us"] / stages["score_c"]["p50_us"]
    elif stage in stages:
        value = stages[stage][quantity]
    if value is not None:
        yield value


def compared(before: Stages, now: Stages, margin_ratio: float) -> dict[str, Compared]:
    """Return every stage that both runs measured, medians beside each other."""
    both: dict[str, Compared] = {}
    for stage, figures in now.items():
        if stage in before and before[stage]["p50_us"] > 0:
            before_us = float(before[stage]["p50_us"])
            ratio = figures["p50_us"] / before_us
            both[stage] = Compared(before_us, round(ratio, 4), ratio > 1 + margin_ratio)
    return both


def _object_in(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            said = json.loads(file.read(FILE_MAX_BYTES + 1)[:FILE_MAX_BYTES])
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(said, dict):
        raise UsageError(f"{path}: not a JSON object")
    return said
