"""The level, 0…5: how near a kill is, by the forecast or, without one, by plain headroom; and how long it is kept.

A forecast is made anew at each reading and wavers near a threshold: a leak that pauses is a leak for all that. So a
level that two readings in a row reached is kept for a minute, unless the headroom comes back (what that is worth:
docs/learn.md). `series.kept` says the same of whole runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from oomguard.decide.conditions import State
from oomguard.decide.plan import RULE_SLOTS
from oomguard.forecast import Forecast

KEPT_S = 60.0
BACK_RATIO = 0.02           # of the limit: so much more headroom than when the level was last reached, and it is over

# Where in a target's state: the level of the reading before, until when any level is kept, and for each level until
# when and from which headroom. Zeros keep nothing.
BEFORE, UNTIL = RULE_SLOTS, RULE_SLOTS + 1
KEPT = tuple(range(RULE_SLOTS + 2, RULE_SLOTS + 12, 2))


def level_of(
    forecast: Forecast | None, thresholds: Sequence[float], headroom_ratio: float,
    plain_ratios: Sequence[float],
) -> int:
    """Return the level of one reading.

    Args:
        forecast: the probabilities, or None when there is no model or it abstains.
        thresholds: five probabilities, of level 1 (compared with p300), 2 (p240), 3 (p180), 4 (p120) and 5
            (p60). A NaN is never reached.
        headroom_ratio: headroom / limit; NaN where unknown, negative when over the limit.
        plain_ratios: five falling shares: level n holds without a forecast when headroom_ratio <= the n-th.

    Returns:
        The highest level whose test holds, 0 when none does. A forecast with a NaN in it counts as none;
        without a forecast and without a known headroom the level is 0.
    """
    if forecast is None:
        return plain_level_of(headroom_ratio, plain_ratios)
    p60, p120, p180, p240, p300 = forecast
    total = p60 + p120 + p180 + p240 + p300
    if total != total:                  # a NaN among them
        return plain_level_of(headroom_ratio, plain_ratios)
    if p60 >= thresholds[4]:
        return 5
    if p120 >= thresholds[3]:
        return 4
    if p180 >= thresholds[2]:
        return 3
    if p240 >= thresholds[1]:
        return 2
    return 1 if p300 >= thresholds[0] else 0


def plain_level_of(headroom_ratio: float, plain_ratios: Sequence[float]) -> int:
    """Return the level by headroom alone: the number of shares in `plain_ratios` it has fallen to."""
    level = 0
    for ratio in plain_ratios:
        if not headroom_ratio <= ratio:
            break
        level += 1
    return level


def kept_level(level: int, t_s: float, headroom_ratio: float, state: State) -> int:
    """Return the level that stands at a reading: its own, or a higher one that is kept from readings before.

    Args:
        level: of this reading alone, by `level_of`.
        t_s: of the reading; readings come in the order of time.
        headroom_ratio: headroom / limit.
        state: the target's, RULE_SLOTS and 12 more floats; changed in place. A damaged one keeps nothing for longer.
    """
    before = state[BEFORE]
    state[BEFORE] = level
    sure = min(level, before)           # a level that one reading alone reached may be noise
    if not sure > 0 and not t_s < state[UNTIL] <= t_s + KEPT_S:
        return level
    stands = level
    for number, slot in enumerate(KEPT, 1):
        if number <= sure:
            state[UNTIL] = state[slot] = t_s + KEPT_S
            state[slot + 1] = headroom_ratio
        elif t_s < state[slot] <= t_s + KEPT_S and headroom_ratio <= state[slot + 1] + BACK_RATIO:
            stands = max(stands, number)
        else:
            state[slot] = 0.0
    return stands
