"""A result's distributions as one picture: stages, peers, lateness under load, growth."""

from __future__ import annotations

import io

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from oomguard.measure.timing import CURVE

SCORES = {"score_near": "window near", "score": "4,096 in turn", "score_c": "in turn, loop of C",
          "score_cold": "cold caches"}
TICKS = {"tick_system": "system", "tick_process": "process", "tick_cgroup": "cgroup",
         "tick_cgroup_cold": "cgroup, cold caches"}
WAYS = {"as it is": ("-", 0.9), "SCHED_FIFO and mlock": ("--", 0.9)}


def picture(result: dict) -> bytes:
    """Return the picture as PNG."""
    figure, axes = plt.subplots(3, 2, figsize=(13, 14), layout="constrained")
    stages = result.get("stages", {})
    _ecdfs(axes[0][0], {label: stages.get(name) for name, label in SCORES.items()}, "A score")
    _ecdfs(axes[0][1], {label: stages.get(name) for name, label in TICKS.items()}, "A whole tick of one target")
    _peers(axes[1][0], result.get("peers", {}).get("peers", {}))
    _late(axes[1][1], result.get("load", {}))
    _growth(axes[2][0], result.get("growth", {}))
    _daemons(axes[2][1], result.get("daemons", {}).get("daemons", {}))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    plt.close(figure)
    return file.getvalue()


def _ecdfs(axis, curves: dict, title: str) -> None:
    for label, one in curves.items():
        if one and "curve_us" in one:
            axis.plot(one["curve_us"], CURVE, label=f"{label}: p50 {one['p50_us']:.3g} µs")
    _dress(axis, title, "µs", "share of calls that took at most so long")


def _dress(axis, title: str, x: str, y: str) -> None:
    axis.set(title=title, xlabel=x, ylabel=y, xscale="log")
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def _peers(axis, peers: dict) -> None:
    """Draw a violin each: the density of calls over time, from the kept quantiles up to the 99th percentile."""
    import math

    names = sorted(peers, key=lambda name: -peers[name]["near"]["p50_us"])
    upto = CURVE.index(0.99)
    for at, name in enumerate(names):
        logs = [math.log10(us) for us in peers[name]["near"]["curve_us"][1:upto + 1] if us > 0]
        axis.violinplot(logs, positions=[at], orientation="horizontal", showmedians=True, showextrema=False, widths=0.8)
        axis.annotate(f"{peers[name]['near']['over_score']['ratio']:,.3g} ×", (max(logs), at), xytext=(6, -3),
                      textcoords="offset points", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    ticks = range(-1, 5)
    axis.set_xticks(list(ticks), [f"{10.0 ** tick:g}" for tick in ticks])
    axis.set(title="One row from Python, the same trees (× our score, features counted)", xlabel="µs")
    axis.grid(alpha=0.3, axis="x")


def _late(axis, loads: dict) -> None:
    for at, (kind, ways) in enumerate(loads.items()):
        for way, one in ways.items():
            if "late_us" in one:
                style, alpha = WAYS[way]
                axis.plot([us / 1000 for us in one["late_us"]["curve_us"]], CURVE, style, color=f"C{at}", alpha=alpha,
                          label=f"{kind}, {way}: p99 {one['late_us']['p99_us'] / 1000:.3g} ms")
    _dress(axis, "How late a tick begins on a saturated machine", "ms", "share of ticks")


def _growth(axis, growth: dict) -> None:
    for what, points in growth.items():
        axis.plot([point["x"] for point in points], [point["instructions"] for point in points], "o-", label=what)
    _dress(axis, "How cost grows", "how many", "instructions of a walk (of features, for blocks)")
    axis.set_yscale("log")


def _daemons(axis, daemons: dict) -> None:
    for name, one in daemons.items():
        axis.plot(one["cpu_s"] * 1000, one["rss_mb"], "o")
        axis.annotate(name, (one["cpu_s"] * 1000, one["rss_mb"]), xytext=(6, 4), textcoords="offset points", fontsize=9)
    _dress(axis, "Daemons, a look a second", "processor time in ten minutes, ms", "RSS, MB")
