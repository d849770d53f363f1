"""A figure as an SVG that takes the page's fonts and theme, and as a PNG file; the same figure, the same bytes."""

from __future__ import annotations

import io
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from oomguard.learn.report.palette import DIM, INK, PAPER, RULE, THEMED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

PNG_DPI = 150
STYLE: Any = {
    "font.family": "sans-serif", "font.size": 11.0, "svg.fonttype": "none", "text.parse_math": False,
    "text.color": INK, "axes.labelcolor": DIM, "xtick.color": DIM, "ytick.color": DIM, "axes.edgecolor": RULE,
    "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlesize": 11.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.titlecolor": INK, "lines.linewidth": 2.0, "legend.frameon": False}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the report's style."""
    with mpl.rc_context(STYLE):
        yield


def panel(width_in: float = 6.0, height_in: float = 3.9) -> tuple[Figure, Axes]:
    """Return a figure of one panel: narrow enough that its words stay legible on a phone."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.add_subplot()


def svg_of(figure: Figure, name: str, says: str) -> str:
    """Return the figure as inline SVG: colours of the theme, fonts of the page, ids of its own.

    Args:
        figure: what to draw.
        name: prefix of its ids, unique in the page.
        says: what it shows, for those who cannot see it.
    """
    raw = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", raw.getvalue()[raw.getvalue().index("<svg"):], flags=re.DOTALL)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: (?:(?:italic|oblique|bold|\d{3}) )*([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    for plain, themed in THEMED.items():
        text = text.replace(plain, themed)
    view = re.search(r'viewBox="[^"]+"', text)
    box = view.group(0) if view else ""
    label = says.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(r"<svg[^>]*>", f'<svg {box} role="img" aria-label="{label}" xmlns="http://www.w3.org/2000/svg" '
                  'xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1).strip()


def save_png(figure: Figure, folder: str, name: str) -> None:
    """Write the figure as a PNG on white."""
    figure.savefig(os.path.join(folder, f"{name}.png"), dpi=PNG_DPI, facecolor=PAPER, metadata={"Software": None})
