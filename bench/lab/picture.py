"""The survey's picture, docs/lab.png: kills and hit ratio by arm, one column a device."""

from __future__ import annotations

from typing import Any

from bench.lab.arms import ARMS
from bench.lab.table import by_site, main_runs, ratio

INK, KERNEL, GUARD, OURS, PEER = "#333333", "#b3122b", "#f08a3c", "#1f4e79", "#9aa7b4"


def draw(path: str, runs: list[dict[str, Any]]) -> None:
    """Draw the runs into a file; nothing where there are none."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sites = by_site(main_runs(runs))
    if not sites:
        return
    names = [name for name in ARMS if any(name in found for _site, found in sites)]
    with mpl.rc_context({"font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(2.6 + 2.4 * len(sites), 1.8 + 0.62 * len(names)), dpi=120, layout="constrained")
        grid = figure.subplots(2, len(sites), squeeze=False, sharey=True, sharex="row")
        for column, (site, found) in enumerate(sites):
            grid[0][column].set_title(site.name, loc="left", fontsize=11, fontweight="bold", color=INK)
            draw_kills(grid[0][column], names, found)
            draw_ratios(grid[1][column], names, found)
        for axes in grid.flat:
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_yticks(range(len(names)), [ARMS[name].label for name in names])
        grid[0][0].invert_yaxis()       # the first arm on top; the rows share it
        figure.legend(loc="outside lower center", ncols=2, frameon=False, handles=grid[0][0].containers[:2],
                      labels=["killed by the kernel", "killed by the guard itself"])
        figure.savefig(path)


def draw_kills(axes: Any, names: list[str], found: dict[str, Any]) -> None:
    """Draw one device's kills as bars, the kernel's first; a device that was lost is a word."""
    both = {"kernel_kills": [0] * len(names), "guard_kills": [0] * len(names)}
    for at, name in enumerate(names):
        run = found.get(name)
        for who, counts in both.items():
            counts[at] = sum(phase[who] for phase in run["phases"].values()) if run and "lost" not in run else 0
        word = "not run" if run is None else "device lost" if "lost" in run else \
            str(both["kernel_kills"][at] + both["guard_kills"][at])
        axes.annotate(word, (both["kernel_kills"][at] + both["guard_kills"][at], at), xytext=(4, 0),
                      textcoords="offset points", va="center", color=INK, fontsize=9)
    axes.barh(range(len(names)), both["kernel_kills"], color=KERNEL, height=0.62)
    axes.barh(range(len(names)), both["guard_kills"], left=both["kernel_kills"], color=GUARD, height=0.62)
    axes.set_xlabel("kills")
    axes.margins(x=0.15)
    axes.set_xlim(left=0)


def draw_ratios(axes: Any, names: list[str], found: dict[str, Any]) -> None:
    """Draw one device's hit ratios as bars."""
    shown = [(at, name) for at, name in enumerate(names) if name in found and "lost" not in found[name]]
    ratios = [ratio(found[name]) for _at, name in shown]
    axes.barh([at for at, _name in shown], ratios, height=0.62,
              color=[OURS if name.startswith("oomguard") else PEER for _at, name in shown])
    for (at, _name), value in zip(shown, ratios, strict=True):
        axes.annotate(f"{value:.2f}", (value, at), xytext=(4, 0), textcoords="offset points", va="center", color=INK,
                      fontsize=9)
    axes.set(xlabel="cache hit ratio", xlim=(0, 1.15))
