"""An explanation as text for a terminal, and as plain values for JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from oomguard.decide.decide import Standing
from oomguard.decide.levels import BACK_RATIO, KEPT_S
from oomguard.replay.explain import Explanation, Gave
from oomguard.tell.log import escaped
from oomguard.units import format_bytes, format_seconds

WIDTH = 100
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_CHARS = 50
PUSHES_SHOWN = 6
BAR_CHARS = 10
BRIEF_S = 0.001             # a hook that took less is not said to have taken any time: a signal, a line to a FIFO
AT_ONCE_S = 0.05            # the guard looks once more before it asks
HORIZON_NAMES = ("p60", "p120", "p180", "p240", "p300")


def headline(found: Explanation) -> str:
    """Return the one sentence that says what happened."""
    now = "Level 0, no alarm" if not found.level else f"Level {found.level}"
    if found.level and found.forecast is not None:
        was = "is" if found.ended == "running" else "was"
        now += f": a kill {was} expected within {_minutes(found.horizon_s)}"
    elif found.level > found.own_level:
        now += ", kept from the minute before"
    elif found.level:
        left = _share(found.point.headroom_bytes, found.point.limit_bytes)
        now += f" by headroom alone: {left} of the limit was left"
    return f"{now}. {outcome(found)}"


def outcome(found: Explanation) -> str:
    """Return what came after, in one sentence."""
    now_s = found.point.t_s
    if found.kill_s == found.kill_s:
        after = format_seconds(found.kill_s - now_s)
        goes_on = found.ended_after_s > found.kill_s
        return f"A process of it was killed {after} later; it went on." if goes_on else f"The kill came {after} later."
    if found.ended == "running":
        return "It is running."
    words = {"oom": "killed", "exit": "exited", "crash": "crashed", "stopped": "was stopped, not killed,"}
    ended = words.get(found.ended)
    if ended is None or found.ended_after_s != found.ended_after_s:
        return "No kill is recorded after it."
    who = "It was" if ended == "killed" else "The app"
    return f"{who} {ended} {format_seconds(found.ended_after_s - now_s)} later."


def text(found: Explanation) -> str:
    """Return the explanation as people read it."""
    point = found.point
    where = f"run {escaped(found.run_id)}  {escaped(found.app)}"
    lines = [f"{where}  {found.what} at {format_seconds(point.t_s)} ({point.t_s:.1f} s)", "",
             *_wrapped(headline(found), ""), ""]
    lines += ["MEMORY", *_window(found), "", "FORECAST", *_forecast(found), ""]
    if found.score is not None:
        lines += [*_pushes(found), ""]
    lines += ["RULES", *_rules(found), "", "RELEASED", *_released(found)]
    return "\n".join(lines)


def _window(found: Explanation) -> list[str]:
    point, history = found.point, found.history
    span_s = history[-1].t_s - history[0].t_s if history else 0.0
    before = history[0] if history else point
    limit = f"{escaped(found.constraint) or 'the limit'} allows {format_bytes(point.limit_bytes)}"
    lines = [f"  {limit}; the last {span_s:.0f} s:"]
    for name in ("used", "headroom"):
        curve = spark([getattr(each, f"{name}_bytes") / each.limit_bytes for each in history])
        then, now = (_share(getattr(each, f"{name}_bytes"), each.limit_bytes) for each in (before, point))
        lines.append(f"  {name:<9} {curve}  {then} -> {now}, now {format_bytes(getattr(point, f'{name}_bytes'))}")
    return lines


def spark(ratios: Sequence[float]) -> str:
    """Return a line of blocks, 0 low and 1 high; `?` where unknown."""
    size = min(SPARK_CHARS, len(ratios))
    picked = [ratios[round(i * (len(ratios) - 1) / max(size - 1, 1))] for i in range(size)]
    return "".join("?" if ratio != ratio else SPARKS[min(max(int(ratio * 8), 0), 7)] for ratio in picked)


def _forecast(found: Explanation) -> list[str]:
    if found.forecast is None:
        ratio = found.point.headroom_bytes / found.point.limit_bytes
        steps = ", ".join(f"{level} at {_percent(step)}" for level, step in enumerate(found.plain_ratios, 1))
        held = f"the plain levels hold, by headroom: {steps}; here {_percent(ratio)}, so level {found.own_level}"
        return [f"  none: {escaped(found.abstains_because or 'no model')}", *_wrapped(held + _kept(found))]
    chances = ", ".join(f"{_minutes(60 * (at + 1))} {_percent(p)}" for at, p in enumerate(found.forecast))
    lines = _wrapped(f"a kill within {chances} ({escaped(found.model_id)})")
    return [*lines, *_wrapped(_why_level(found) + _kept(found)),
            f"  time to limit: {format_seconds(found.time_to_limit_s)}"]


def _why_level(found: Explanation) -> str:
    assert found.forecast is not None
    by_level = tuple(zip(reversed(HORIZON_NAMES), reversed(found.forecast), found.thresholds, strict=True))
    level = found.own_level
    if not level:
        name, p, threshold = by_level[0]
        return f"level 0: {name} = {_percent(p)} is below its threshold, {_percent(threshold)}"
    name, p, threshold = by_level[level - 1]
    above = ""
    if level < 5:
        next_name, next_p, next_threshold = by_level[level]
        above = f"; not {level + 1}: {next_name} = {_percent(next_p)} < {_percent(next_threshold)}"
    return f"level {level}: {name} = {_percent(p)} >= its threshold, {_percent(threshold)}{above}"


def _kept(found: Explanation) -> str:
    """Say why a level stands that this reading by itself does not reach."""
    if found.level <= found.own_level:
        return ""
    return (f"; level {found.level} is kept from before: two readings in a row reached it within the last "
            f"{KEPT_S:.0f} s, and headroom has not come back by {_percent(BACK_RATIO)} since")


def _pushes(found: Explanation) -> list[str]:
    score = found.score
    assert score is not None
    most = max((abs(push.contribution) for push in found.pushes), default=1.0)
    lines = ["WHAT PUSHED THE FORECAST",
             *_wrapped(f"{score.unit} of a kill within {_minutes(score.horizon_s)}: the model starts at "
                       f"{score.bias:+.2f}, this window brings it to {score.score:+.2f}")]
    for push in found.pushes[:PUSHES_SHOWN]:
        bar = ("+" if push.contribution > 0 else "-") * max(1, round(BAR_CHARS * abs(push.contribution) / most))
        lines += textwrap.wrap(f"{push.about}: {push.words}", WIDTH, subsequent_indent=" " * 23,
                               initial_indent=f"  {push.contribution:+6.2f}  {bar:<{BAR_CHARS}}   ")
    rest = found.pushes[PUSHES_SHOWN:]
    if rest:
        lines.append(f"  {sum(push.contribution for push in rest):+6.2f}  {'':<{BAR_CHARS}}   "
                     f"the rest: {', '.join(push.about for push in rest)}")
    return lines


def _rules(found: Explanation) -> list[str]:
    lines = []
    for standing in found.standings:
        is_it = found.decision is not None and standing.rule == found.decision.rule
        because = found.decision.because if is_it and found.decision is not None else standing.because
        lines += _wrapped(f"{'>' if is_it else ' '} {escaped(standing.rule)!r} {_stands(standing, is_it)}"
                          f"{escaped(because)}")
    if found.decision is None and found.ended != "running":     # what acted just now only the log knows
        lines.append("  nothing was decided at this reading")
    return lines or ["  there are none"]


def _stands(standing: Standing, is_it: bool) -> str:
    truth = standing.truth
    if is_it:
        return "acts: "
    if truth and standing.cooling_s > 0:
        return f"holds, but acted lately and rests for {format_seconds(standing.cooling_s)} more: "
    if truth and standing.is_bounded:
        return "holds, but the bounds on actions stop it: "
    if truth:
        return "holds: "
    return "does not hold: " if truth is False else "cannot be told, a reading is unknown: "


def _released(found: Explanation) -> list[str]:
    if not found.gave:
        return ["  no action is recorded here"]
    return [line for each in found.gave for line in _wrapped(released(each, found.point.t_s))]


def released(each: Gave, now_s: float) -> str:
    """Return what one action asked for and what it gave."""
    action = each.action
    asked = f" for {format_bytes(action.requested_bytes)}" if action.requested_bytes == action.requested_bytes else ""
    took = f" in {_short(action.duration_s)}" if action.duration_s >= BRIEF_S else ""   # NaN says nothing either
    gave = "what it gave is not known" if action.freed_bytes != action.freed_bytes else \
        f"it gave {format_bytes(action.freed_bytes)}{took}"
    seen = "" if each.after_bytes != each.after_bytes else \
        f"; headroom {format_bytes(each.before_bytes)} -> {format_bytes(each.after_bytes)}"
    after_s = action.t_s - now_s
    when = "at once" if 0 <= after_s < AT_ONCE_S else f"{abs(after_s):.1f} s {'later' if after_s > 0 else 'earlier'}"
    return f"{when} {action.hook or 'a hook'!r} was asked{asked}: {gave}{seen}"


def _short(seconds: float) -> str:
    return format_seconds(seconds) if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def plain(found: Explanation) -> dict[str, object]:
    """Return the explanation as values that JSON knows; unknown numbers are None."""
    score = found.score
    return _known({
        "run_id": found.run_id, "app": found.app, "what": found.what, "headline": headline(found),
        **found.point._asdict(), "level": found.level, "constraint": found.constraint,
        "probabilities": None if found.forecast is None else found.forecast._asdict(),
        "thresholds": dict(zip(reversed(HORIZON_NAMES), found.thresholds, strict=True)),
        "time_to_limit_s": found.time_to_limit_s, "scorer": found.scorer,
        "abstains_because": found.abstains_because or None, "model": found.model_id or None,
        "window": [each._asdict() for each in found.history],
        "score": None if score is None else {
            "horizon_s": score.horizon_s, "unit": score.unit, "score": score.score, "bias": score.bias,
            "pushes": [{"about": push.about, "contribution": push.contribution, "words": push.words,
                        "features": [{"name": name, "value": value, "contribution": share}
                                     for name, value, share in push.features]} for push in found.pushes]},
        "decision": None if found.decision is None else {
            "rule": found.decision.rule, "because": found.decision.because,
            "actions": [{"hook": action.hook, "release": action.release.kind} for action in found.decision.actions]},
        "rules": [standing._asdict() for standing in found.standings],
        "released": [{**each.action._asdict(), "headroom_before_bytes": each.before_bytes,
                      "headroom_after_bytes": each.after_bytes} for each in found.gave],
        "kill_s": found.kill_s, "ended": found.ended, "ended_after_s": found.ended_after_s})


def _known(value: object) -> dict[str, object]:
    cleaned = _clean(value)
    assert isinstance(cleaned, dict)
    return cleaned


def _clean(value: object) -> object:
    if isinstance(value, dict):
        return {key: _clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _wrapped(line: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(line, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _minutes(seconds: int) -> str:
    return f"{seconds // 60} min"


def _share(part: float, whole: float) -> str:
    return _percent(part / whole)


def _percent(ratio: float) -> str:
    """Return a share so that nearly all does not read as all, nor nearly none as none."""
    if ratio != ratio:
        return "?"
    if 0.99 < ratio < 1:
        return f"{min(100 * ratio, 99.9):.3g} %"
    return f"{100 * ratio:.2g} %" if 0 < abs(ratio) < 0.0095 else f"{100 * ratio:.0f} %"
