"""What a view that begins now shows of the time before: used over limit of the last minutes, and the last release."""

from __future__ import annotations

from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.ring import CAPACITY, RELEASED_AT, SPAN_S, head_of, wide_of, word_of
from oomguard.tell.wire import Message
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oomguard.guard import TargetGuard
    from oomguard.window import Window

POINTS = 60
EVERY_S = SPAN_S / POINTS


def history(guards: Mapping[str, TargetGuard], message: Message) -> dict[str, object]:
    """Answer `{"op": "history", "target": NAME}`. Raises UsageError where there is no such target now."""
    guard = guards.get(str(message.get("target", "")))
    if guard is None:
        raise UsageError("target is the name of one that is there, as `status` shows it")
    t_s = now_s() - guard.window.start_s
    released_s_ago = t_s - guard.window.buffer.cast("d")[RELEASED_AT // 8]
    return {"target": guard.name, "every_s": EVERY_S, "used_ratios": used_ratios(guard.window, t_s),
            "released_s_ago": released_s_ago}


def used_ratios(window: Window, t_s: float) -> list[float | None]:
    """Return the greatest used over limit of each 5 s before `t_s`, oldest first; None where nothing was read.

    Whole columns at once, as in `Window.headroom_history`, and of a full window every other block: 80 us, where a walk
    block by block took 700. A client may ask 50 times in a burst, and a tick waits for them.
    """
    base, which, count = head_of(window.buffer)
    doubles, floats = window.buffer.cast("d"), window.buffer.cast("f")
    times, used, limits = (
        view[at:at + CAPACITY].tolist() for view, at in (
            (doubles, wide_of("t_s", 0)), (floats, word_of("used_bytes", 0)), (floats, word_of("limit_bytes", 0))))
    found: list[float | None] = [None] * POINTS
    newest = (base + 1 + which) % CAPACITY
    for back in range(0, count, max(count // (2 * POINTS), 1)):
        slot = (base - back + 1) % CAPACITY if back else newest
        place, ratio = POINTS - 1 - int((t_s - times[slot]) / EVERY_S), used[slot] / limits[slot]
        if 0 <= place < POINTS and ratio == ratio and not ratio <= (found[place] or -1.0):
            found[place] = round(ratio, 4)
    return found
