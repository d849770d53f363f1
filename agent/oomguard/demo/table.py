"""What the demo showed, side by side."""

from __future__ import annotations

from oomguard.demo.screen import LABELS, SPEAKERS, state
from oomguard.demo.story import Story, is_shown, lead_s
from oomguard.units import format_bytes


def table(unguarded: Story, guarded: Story) -> str:
    """Return the closing table as text."""
    rows = [("", LABELS["unguarded"], LABELS["guarded"]), *(
        (name, tell(unguarded), tell(guarded)) for name, tell in (
            ("how it ended", state), ("oom_kill counter", _oom_kills), ("evictions", _evictions),
            ("given back", lambda story: format_bytes(story.evicted_bytes) if story.evictions else "-"),
            ("cache hit ratio", lambda story: f"{story.cache_hit_ratio:.2f}"),
            ("peak used", lambda story: f"{story.peak_used_ratio:.0%} of the limit")))]
    rows.insert(3, ("first alarm", "-", _first_alarm(guarded)))
    rows.insert(4, ("its lead", "-", _lead(unguarded, guarded)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "   ".join("─" * width for width in widths))
    return "\n".join(lines) + "\n\n" + verdict(unguarded, guarded)


def verdict(unguarded: Story, guarded: Story) -> str:
    """Return one sentence on what was seen."""
    if is_shown(unguarded, guarded):
        return (f"The same app, the same seed: killed by the {unguarded.killer} after {unguarded.survived_s:.0f} s "
                f"on its own; alive at {guarded.survived_s:.0f} s under the guard.")
    missed = []
    if unguarded.ended != "oom":
        missed.append(f"the app without the guard was not killed ({state(unguarded)})")
    if guarded.ended != "exit":
        missed.append(f"the app under the guard did not live to the end ({state(guarded)})")
    return "Not shown: " + "; ".join(missed) + "."


def _oom_kills(story: Story) -> str:
    return str(story.oom_kills) if story.oom_kills >= 0 else "-"


def _evictions(story: Story) -> str:
    times = ", ".join(f"{t_s:.0f}" for t_s, _freed in story.evictions[:8])
    return f"{len(story.evictions)} (at {times}{' …' if len(story.evictions) > 8 else ''} s)" if times else "0"


def _first_alarm(guarded: Story) -> str:
    first = guarded.first_alarm
    if first is None:
        return "none"
    return f"level {first.level} at {first.t_s:.0f} s, by {SPEAKERS.get(first.scorer, first.scorer)}"


def _lead(unguarded: Story, guarded: Story) -> str:
    lead = lead_s(unguarded, guarded)
    return "-" if lead is None else f"{lead:.0f} s before the other was killed"
