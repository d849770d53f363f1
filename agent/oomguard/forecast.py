"""The forecast: how probable a kill is within one to five minutes, and when it becomes likelier than not."""

from __future__ import annotations

from oomguard.typed import NamedTuple

HORIZON_STEP_S = 60.0


class Forecast(NamedTuple):
    """Calibrated probabilities (0…1) of a kill within 60, 120 … 300 s; none is below the one before."""

    p60: float
    p120: float
    p180: float
    p240: float
    p300: float


def time_to_limit_s(forecast: Forecast) -> float | None:
    """Return the horizon at which the probability of a kill crosses 0.5.

    Interpolates linearly between the horizons, with a probability of 0 at 0 s. The result is in 30…300 s:
    certainty within the first minute reads as half of it, since nothing finer is known.

    Returns:
        Seconds, or None when the probability stays below 0.5 up to 300 s or is unknown (NaN) before that.
    """
    start_s, before = 0.0, 0.0
    for probability in forecast:
        if probability != probability:
            return None
        if probability >= 0.5:
            return start_s + HORIZON_STEP_S * (0.5 - before) / (probability - before)
        start_s, before = start_s + HORIZON_STEP_S, probability
    return None
