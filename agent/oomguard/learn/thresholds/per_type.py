"""What a bundle says per device type: thresholds, critical ratio, the histogram they come from. And its table."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard.forest import HORIZONS_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oomguard.learn.thresholds.critical import Study, TypeStudy
    from oomguard.learn.thresholds.histograms import Peak
    from oomguard.learn.thresholds.levels import TypeThresholds

MOST_TYPES, MOST_HISTOGRAMS = 300, 60       # in a manifest, which is held to 256 KiB: those with most kills
TOLD_BINS, BUNDLED_BINS = 50, 20            # of used/limit: 0.02 each as told, 0.05 in a manifest


def manifest_parts(study: Study, whole: tuple[float, ...],
                   by_type: Mapping[str, TypeThresholds] | None = None) -> dict[str, Any]:
    """Return the keys `thresholds` and `histograms` of a manifest.

    Args:
        study: where each type is killed.
        whole: the global alarm thresholds, of p60…p300.
        by_type: those of each type; None: all have the global ones.
    A type is named only where it differs from `default`: the device falls back to that (bundle.thresholds_for).
    """
    by_type = by_type or {}
    kept = sorted((name for name, one in study.types.items() if one.readings.kills and name != "default"),
                  key=lambda name: (-study.types[name].readings.kills, name))
    rows = {name: {**_named(by_type[name].thresholds if name in by_type else whole),
                   "critical_ratio": study.types[name].ratio} for name in sorted(kept[:MOST_TYPES])}
    default = {**_named(whole), "critical_ratio": study.ratio}
    return {"thresholds": {"default": default, **{name: row for name, row in rows.items() if row != default}},
            "histograms": {"bins": BUNDLED_BINS, "types_with_kills": len(kept), "types": {
                name: told_type(study.types[name], BUNDLED_BINS) for name in sorted(kept[:MOST_HISTOGRAMS])}}}


def told(study: Study, by_type: Mapping[str, TypeThresholds] | None = None) -> dict[str, Any]:
    """Return everything that was learned, as JSON holds it: one entry per type, and the fleet's."""
    return {"critical_ratio": study.ratio, "interval": _listed(study.interval),
            "fleet": None if study.fleet is None else study.fleet._asdict(),
            "device_types": {name: {**told_type(one), **_told_alarms((by_type or {}).get(name))}
                             for name, one in study.types.items()}}


def told_type(one: TypeStudy, bins: int = TOLD_BINS) -> dict[str, Any]:
    """Return one type's shape, critical threshold and histograms, each of so many bins of used/limit from 0 to 1."""
    own = one.own
    at_kill, before = (part.sum(axis=0).reshape(bins, -1).sum(axis=1)
                       for part in (one.readings.at_kill, one.readings.before))
    return {
        "runs": len(one.readings.at_kill), "hours": round(float(one.readings.exposure_s.sum()) / 3600.0, 2),
        "kills": one.readings.kills, "kills_unread": one.readings.unread,
        "shape": one.peak.shape, "peak": _told_peak(one.peak), "before": _told_peak(one.peak_before),
        "critical_ratio": one.ratio, "interval": _listed(one.interval), "pooled_share": round(one.pooled_share, 3),
        "own": None if own is None else {"ratio": own.ratio, "interval": _listed(own.interval),
                                         "kills_per_h_below": round(own.below_per_h, 3),
                                         "kills_per_h_beyond": round(own.above_per_h, 3)},
        "at_kill_histogram": [int(count) for count in at_kill],
        "before_histogram": [round(float(count), 2) for count in before]}


def table_of(study: Study, by_type: Mapping[str, TypeThresholds] | None = None) -> str:
    """Return the study as a table for people."""
    lines = ["device type | runs | kills | shape | critical used/limit (95 %) | from | alarm at p60 … p300",
             "---|---|---|---|---|---|---"]
    by_type = by_type or {}
    lines += [f"{name} | {len(one.readings.at_kill)} | {one.readings.kills} | {_shape_words(one.peak)} | "
              f"{_interval_words(one.ratio, one.interval)} | {_source_words(one)} | {_alarm_words(by_type.get(name))}"
              for name, one in study.types.items()]
    lines.append(f"any other | | | | {_interval_words(study.ratio, study.interval)} | the fleet | ")
    return "\n".join(lines)


def _named(thresholds: tuple[float, ...]) -> dict[str, float]:
    return {f"p{horizon}": value for horizon, value in zip(HORIZONS_S, thresholds, strict=True)}


def _told_alarms(own: TypeThresholds | None) -> dict[str, Any]:
    return {} if own is None else {"thresholds": _named(own.thresholds), "thresholds_are_own": own.is_own}


def _told_peak(peak: Peak) -> dict[str, Any]:
    told_: dict[str, Any] = {"shape": peak.shape}
    for name in ("at_ratio", "share", "p_value", "agreement"):
        value = float(getattr(peak, name))
        told_[name] = None if isnan(value) else round(value, 4)
    return told_


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [float(np.round(end, 4)) for end in interval]


def _shape_words(peak: Peak) -> str:
    if isnan(peak.p_value):
        return f"unknown: {peak.kills} kill{'s' * (peak.kills != 1)}"
    return f"{peak.shape} ({peak.share:.0%} within 0.1 round {peak.at_ratio:.2f})"


def _interval_words(ratio: float, interval: tuple[float, float] | None) -> str:
    return f"{ratio:.3f}" if interval is None else f"{ratio:.3f} ({interval[0]:.3f}…{interval[1]:.3f})"


def _source_words(one: TypeStudy) -> str:
    if one.own is None:
        return "the fleet"
    return f"own {one.own.ratio:.3f}" + (f", {one.pooled_share:.0%} fleet" if one.pooled_share >= 0.005 else "")


def _alarm_words(own: TypeThresholds | None) -> str:
    if own is None or not own.is_own:
        return "global"
    return " ".join(f"{value:.2f}" for value in own.thresholds)
