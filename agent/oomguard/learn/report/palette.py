"""The colours of the report: few, told apart by most eyes, on white and on black."""

from __future__ import annotations

# Level 0…5, as in replay/picture.py and demo/plot.py, which learn must not import: a test holds them equal.
LEVEL_COLOURS = ("#4c9f70", "#e9d460", "#f4b942", "#f08a3c", "#e2553d", "#b3122b")
INK, DIM, RULE, PAPER = "#1f2933", "#52606d", "#dfe5eb", "#fefefe"
PALE = "#c3cfd9"
MODEL, HIDDEN, KILLED = "#2f7de1", "#77aef0", "#b3122b"
ZOO = ("#8b5cf6", "#c026d3", "#0d9488", "#65a30d", "#db2777")

# What the page's two themes say instead (style.css): a figure is drawn once.
THEMED = {INK: "var(--ink)", DIM: "var(--dim)", RULE: "var(--rule)", PAPER: "var(--card)", PALE: "var(--pale)",
          "#000000": "var(--ink)"}

_LINES = {
    "linear 30 s": "#f3c18b", "linear 60 s": "#eda85c", "linear 120 s": "#e08a2e", "linear 300 s": "#b96a16",
    "linear 120 s, kept": "#e08a2e", "linear 300 s, kept": "#b96a16",
    "EMA slope": "#9a6b4b", "level threshold": "#8a94a3", "per-type threshold": "#5d6b7a", "level 0.80": "#a7b0bc",
    "level 0.90": "#6f7b8a", "PSI rule": "#b04fb0", "earlyoom's rule": "#2aa198", "constant": "#b3122b",
    "never": "#52606d"}


def colour_of(system: str, zoo: tuple[str, ...] = ()) -> str:
    """Return the colour of a system, the same in every figure."""
    if system == "oomguard":
        return MODEL
    if system.startswith("oomguard"):
        return HIDDEN
    if system in zoo:
        return ZOO[zoo.index(system) % len(ZOO)]
    return _LINES.get(system, DIM)


def is_dashed(system: str) -> bool:
    """Whether a system's line is dashed: what is a variant of its neighbour."""
    return system.startswith("oomguard,") or system.endswith(", kept") or system == "per-type threshold"
