"""One page of the view: what is known, as lines of a width and a height. Pure; whoever paints it is elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from oomguard.top.pane import details, happened
from oomguard.top.scene import Facts, Scene, Track, number
from oomguard.top.text import Line, clipped, fit, safe, spark
from oomguard.units import format_bytes, format_seconds

LEAST_WIDTH, LEAST_HEIGHT = 30, 6
LIST_SHARE = 0.5                        # of the height, where there are more targets than that
LEVEL_STYLES = ("", "warn", "warn", "alarm", "alarm", "chosen-alarm")
_NAME, _SIZE, _PERCENT, _LEVEL, _TIME = 16, 19, 4, 5, 8
_KEYS = "q quit  up/down choose  s sort  p pause  ? help"
_HELP = """\
  q, Ctrl-C        quit
  up, down, k, j   choose a target; PageUp, PageDown, Home, End
  s, S             sort by: the guard's order, level, used, time to limit, name
  p, space         pause: the page stands still, the guard goes on
  ?, h             this page; any key leaves it

  USED/LIMIT   memory that the kernel cannot reclaim, of the limit that binds
  LAST 5 MIN   the same, oldest left; its top is the limit
  LEVEL        0 to 5: how near a kill is; 5 is nearest
  TO LIMIT     when a kill becomes likelier than not; - where it does not
  YIELD        what a release by the hook gave, as samples showed it
  COST         of a byte, relative to other hooks: cheaper ones are asked first\
"""


@dataclass
class Ui:
    """What the user has set."""

    sort: str = "guard"
    chosen: str = ""                # name of the target whose details are shown
    top: int = 0                    # the first target in the list that is shown
    is_paused: bool = False
    is_help: bool = False
    is_ascii: bool = False


def page(scene: Scene, ui: Ui, trouble: str, size: tuple[int, int], t_s: float) -> list[Line]:
    """Return the lines of a page, as many as it is high at most, each within its width.

    Args:
        scene: what is known.
        ui: what is chosen; `chosen` and `top` are moved to what is there.
        trouble: why the guard cannot be asked, empty where it can.
        size: width and height in cells.
        t_s: now, on the clock of the scene.
    """
    width, height = size
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return [clipped([(f"at least {LEAST_WIDTH}x{LEAST_HEIGHT}", "warn")], width)][:height]
    body = _help() if ui.is_help else _body(scene, ui, trouble, (width, height - 3), t_s)
    lines = [_title(scene, ui, width), _notice(scene, trouble, width), *body[:height - 3]]
    lines += [[] for _ in range(height - 1 - len(lines))]
    return [clipped(line, width) for line in [*lines, [(fit(_KEYS, width), "dim")]]]


def _title(scene: Scene, ui: Ui, width: int) -> Line:
    status = scene.status
    waiting = status.get("waiting_for")
    parts = [f"oomguard {safe(status.get('agent_version') or '')}".rstrip(), _count(len(scene.tracks), "target")]
    parts += [f"waiting for {len(waiting)}"] if isinstance(waiting, list) and waiting else []
    parts += [f"model {_named(status.get('model'), 'id') or 'none'}"] if status else []
    right = f"{'PAUSED  ' if ui.is_paused else ''}sort: {ui.sort}  {time.strftime('%H:%M:%S')}"
    return [(fit("  ".join(parts), width - len(right) - 1), "title"), (f" {right}", "title")]


def _notice(scene: Scene, trouble: str, width: int) -> Line:
    """Return the one line below the title: what is wrong, else what an operator should know."""
    if trouble:
        return [(fit(safe(trouble), width), "alarm")]
    warnings = scene.status.get("warnings")
    told = [f"warning: {safe(each)}" for each in warnings] if isinstance(warnings, list) else []
    if scene.status.get("dry_run"):
        told.insert(0, "DRY RUN: hooks are not called")
    return [(fit("  ".join(told), width), "warn")] if told else []


def _body(scene: Scene, ui: Ui, trouble: str, size: tuple[int, int], t_s: float) -> list[Line]:
    width, height = size
    tracks = scene.sorted_tracks(ui.sort)
    if not tracks:
        return [[], [(_nothing(scene, trouble), "dim")]]
    rows = min(len(tracks), max(height - 1, 1), max(int(height * LIST_SHARE), 1))
    place = _chosen_place(tracks, ui)
    ui.top = max(min(ui.top, place, len(tracks) - rows), place - rows + 1, 0)
    shown = tracks[ui.top:ui.top + rows]
    lines = [_columns(width, len(tracks), ui.top, rows)]
    lines += [_row(track, track.name == ui.chosen, ui, width, t_s) for track in shown]
    lines += details(tracks[place], scene.is_old, width, t_s)
    left = height - len(lines)
    return lines + happened(scene, width, left) if left >= 2 else lines


def _nothing(scene: Scene, trouble: str) -> str:
    waiting = scene.status.get("waiting_for")
    if isinstance(waiting, list) and waiting:
        return f"waiting for {', '.join(safe(name) for name in waiting)}: not there now"
    return "no guard; looking for it every second" if trouble else "no target" if scene.status else "asking the guard"


def _chosen_place(tracks: list[Track], ui: Ui) -> int:
    """Return where the chosen target stands; the first one is chosen where it is gone."""
    for place, track in enumerate(tracks):
        if track.name == ui.chosen:
            return place
    ui.chosen = tracks[0].name
    return 0


def _widths(width: int) -> tuple[int, int, int]:
    """Return how wide name, sizes and sparkline are: what is narrow loses the sizes first, then the line."""
    fixed = 2 + _PERCENT + 1 + _LEVEL + 1 + _TIME
    if width < fixed + _NAME + 1 + 10:
        return max(width - fixed - 1, 4), 0, 0
    rest = width - fixed - _NAME - 1
    if rest < _SIZE + 1 + 10:
        return _NAME, 0, rest - 1
    line = min(rest - _SIZE - 2, 60)
    return _NAME + max(rest - _SIZE - 2 - line, 0), _SIZE, line


def _columns(width: int, count: int, first: int, rows: int) -> Line:
    name, size, line = _widths(width)
    what = "TARGET" if count <= rows else f"TARGET {first + 1}-{first + rows}/{count}"
    text = "  " + fit(what, name) + " " + (fit("USED/LIMIT", size, is_right=True) + " " if size else "")
    text += fit("%", _PERCENT, is_right=True) + " " + (fit("LAST 5 MIN", line) + " " if line else "")
    return [(text + fit("LEVEL", _LEVEL) + " " + fit("TO LIMIT", _TIME, is_right=True), "head")]


def _row(track: Track, is_chosen: bool, ui: Ui, width: int, t_s: float) -> Line:
    name, size, line = _widths(width)
    used, limit = number(track.facts, "used_bytes"), number(track.facts, "limit_bytes")
    percent = "?" if track.ratio != track.ratio else f"{track.ratio:.0%}"
    level = number(track.facts, "level")
    style = LEVEL_STYLES[int(level)] if level in range(6) else "dim"
    sizes = fit(f"{short_bytes(used)}/{short_bytes(limit)}", size, is_right=True) + " " if size else ""
    bars = [(spark(track.trail.ratios(t_s), line, is_ascii=ui.is_ascii).ljust(line) + " ", style)] if line else []
    is_blind = bool(track.facts.get("is_blind"))
    told = "blind" if is_blind else ("?" if level != level else f"{level:.0f} " + "!" * min(max(int(level), 0), 3))
    return [("> " if is_chosen else "  ", "chosen" if is_chosen else ""),
            (fit(safe(track.name), name) + " ", "chosen" if is_chosen else ""),
            (sizes + fit(percent, _PERCENT, is_right=True) + " ", ""), *bars, (fit(told, _LEVEL), style), (" ", ""),
            (fit(format_seconds(number(track.facts, "time_to_limit_s")), _TIME, is_right=True), style)]


def short_bytes(count: float) -> str:
    """Return bytes in at most nine cells: `48.0 MiB`, `1023 MiB`."""
    text = format_bytes(count)
    number_text, _, unit = text.partition(" ")
    return f"{float(number_text):.0f} {unit}" if unit and math.fabs(float(number_text)) >= 1000 else text


def _help() -> list[Line]:
    return [[(text, "")] for text in _HELP.splitlines()]


def _count(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _named(value: object, key: str) -> str:
    return safe(value[key]) if isinstance(value, Mapping) and isinstance(value.get(key), str) else ""


__all__ = ["Facts", "Ui", "page", "short_bytes"]
