"""The lower half of the page: what stands behind the chosen target, its hooks, and what happened."""

from __future__ import annotations

import time
from collections.abc import Mapping

from oomguard.tell.log import logfmt_value
from oomguard.top.scene import Facts, Scene, Track, number
from oomguard.top.text import Line, fit, safe
from oomguard.units import format_bytes, format_seconds

HOOKS_MOST = 8                      # rows; the costliest are left out, and counted
_HOOK = "{:<24} {:>6} {:>10} {:>6} {:>6}  {}"
_TOLD = ("hook", "kills", "killer", "constraint", "rule", "failures", "because", "why")


def details(track: Track, is_old: bool, width: int, t_s: float) -> list[Line]:
    """Return what is known of a target beside its row, in about six lines and one for each hook."""
    heading = f"-- {safe(track.name)} {'(as it was last seen) ' if is_old else ''}"
    lines: list[Line] = [[(heading + "-" * max(width - len(heading), 0), "head")]]
    facts = track.facts
    lines += [[(text, "")] for text in (_room(facts), _forecast(facts), _release(track, t_s), _totals(facts)) if text]
    return lines + _hooks(facts)


def happened(scene: Scene, width: int, height: int) -> list[Line]:
    """Return the newest events, newest last, below a heading; nothing where nothing happened."""
    if not scene.happened:
        return []
    newest = list(scene.happened)[-(height - 1):]
    return [[("-- what happened " + "-" * max(width - 17, 0), "head")],
            *([(time.strftime("%H:%M:%S ", time.localtime(at)), "dim"), (_words(event), "")] for at, event in newest)]


def _room(facts: Facts) -> str:
    headroom = format_bytes(number(facts, "headroom_bytes"))
    return f"{headroom} of headroom below {safe(facts.get('constraint') or '?')}"


def _forecast(facts: Facts) -> str:
    chances = facts.get("probabilities")
    if isinstance(chances, Mapping):
        told = ", ".join(f"{safe(key).removeprefix('p')} s {number(chances, key):.0%}" for key in chances
                         if number(chances, key) <= 1)
        return f"chance of a kill within {told}"
    why = facts.get("abstains_because")
    return f"plain thresholds decide: {safe(why)}" if why else "plain thresholds decide"


def _release(track: Track, t_s: float) -> str:
    ago_s = t_s - track.released_s
    if ago_s != ago_s:
        return "no release yet"
    ago = f"{format_seconds(max(ago_s, 0.0))} ago"
    event = track.release
    if event is None:
        return f"last release {ago} gave {format_bytes(number(track.facts, 'last_freed_bytes'))}"
    asked = number(event, "requested_bytes")           # "all" where the rule said so
    wanted = f" of {format_bytes(asked)} asked" if asked == asked else ""
    failed = "" if event.get("ok", True) else f", failed: {safe(event.get('why') or '?')}"
    gave = f"{safe(event.get('hook', '?'))} gave {format_bytes(number(event, 'freed_bytes'))}{wanted}"
    return f"last release {ago}: {gave} ({safe(event.get('rule', '?'))}){failed}"


def _totals(facts: Facts) -> str:
    told = []
    if number(facts, "releases", 0.0) > 0:
        word = "release" if number(facts, "releases") == 1 else "releases"
        told.append(f"{number(facts, 'releases'):.0f} {word} gave {format_bytes(number(facts, 'freed_bytes'))} in all")
    if number(facts, "kills", 0.0) > 0:
        told.append(f"kills by the kernel: {number(facts, 'kills'):.0f}")
    return "; ".join(told)


def _hooks(facts: Facts) -> list[Line]:
    listed = facts.get("hooks")
    hooks = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    if not hooks:
        return [[("no hook: nobody would be asked", "dim")]]
    hooks.sort(key=lambda hook: number(hook, "cost", 0.0))
    lines: list[Line] = [[(_HOOK.format("HOOK", "COST", "YIELD", "CALLS", "FAILED", "").rstrip(), "head")]]
    lines += [[(_hook(hook), "warn" if _is_held(hook) else "")] for hook in hooks[:HOOKS_MOST]]
    return lines + ([[(f"… and {len(hooks) - HOOKS_MOST} more", "dim")]] if len(hooks) > HOOKS_MOST else [])


def _hook(hook: Facts) -> str:
    cost = number(hook, "cost")
    return _HOOK.format(fit(safe(hook.get("name", "?")), 24), "?" if cost != cost else f"{cost:.3g}",
                        format_bytes(number(hook, "yield_bytes")), f"{number(hook, 'calls', 0.0):.0f}",
                        f"{number(hook, 'failures', 0.0):.0f}", "on hold" if _is_held(hook) else "").rstrip()


def _is_held(hook: Facts) -> bool:
    """Return whether the guard does not ask the hook now; CLOCK_BOOTTIME is the same for all of this machine."""
    return number(hook, "on_hold_until_s", 0.0) > time.clock_gettime(time.CLOCK_BOOTTIME)


def _words(event: Facts) -> str:
    """Return an event as one line: its name, its target, the fields that say most."""
    name, target = safe(event.get("event", "?")), event.get("target")
    head = " ".join([name, *([safe(target)] if target else [])])
    if name == "level":
        return f"{head}: {safe(event.get('was', '?'))} -> {safe(event.get('level', '?'))}"
    if name == "decision":
        return f"{head}: {safe(event.get('rule', '?'))}, for {safe(event.get('because', '?'))}"
    if name == "release":
        return f"{head}: {safe(event.get('hook', '?'))} gave {format_bytes(number(event, 'freed_bytes'))}"
    return " ".join([head, *(f"{key}={logfmt_value(event[key])}" for key in _TOLD if event.get(key) is not None)])
