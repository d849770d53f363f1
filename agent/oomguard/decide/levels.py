"""The level, 0…5: how near a kill is, by the forecast or, without one, by plain headroom."""

from __future__ import annotations

from collections.abc import Sequence

from oomguard.forecast import Forecast


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
