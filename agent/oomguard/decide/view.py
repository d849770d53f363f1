"""What a decision is made of: one reading of one target, as rules see it."""

from __future__ import annotations

from oomguard.forecast import Forecast
from oomguard.profile import NAN
from oomguard.typed import NamedTuple


class View(NamedTuple):
    """One tick of one target. Unknown numbers are NaN; no rule is ever satisfied by an unknown one."""

    t_s: float                                  # CLOCK_BOOTTIME, or any clock that runs on across restarts
    level: int                                  # 0…5
    forecast: Forecast | None = None            # None: no model, or it abstains
    time_to_limit_s: float | None = None        # None with a forecast: never; None without one: unknown
    limit_bytes: float = NAN
    used_bytes: float = NAN
    charged_bytes: float = NAN
    headroom_bytes: float = NAN
    available_bytes: float = NAN
    psi_some_ratio: float = NAN                 # share of the last 10 s
    psi_full_ratio: float = NAN
    phase: str | None = None                    # None: the app has not said
