"""Scores a target's window by a net that the helper runs: asked at one tick, it answers for the next.

Contract: the same as `scorer.Scorer`. Nothing here waits. A forecast that is more than STALE_TICKS ticks old, since the
helper is busy, dead or not there, is none, and the plain levels hold.
"""

from __future__ import annotations

from oomguard import features
from oomguard.forecast import Forecast
from oomguard.forest import CLASSES, cumulated
from oomguard.net import STALE_TICKS
from oomguard.scorer import Scorer, gated
from oomguard.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oomguard.net import Net
    from oomguard.profile import Profile
    from oomguard.scorer import Model
    from oomguard.window import Window


class Asker(Protocol):
    """Who asks about rows."""

    def answered(self, tick: int, classes: Sequence[float]) -> None:
        """Take in the probabilities of the classes for what was asked at a tick; empty where there are none."""


class Oracle(Protocol):
    """Who runs the net."""

    problem: str        # why it does not answer; empty where it does

    def ask(self, asker: Asker, tick: int, row: bytes) -> None:
        """Ask for the classes of one row, float32[F]; `asker.answered` is called later, or never."""

    def forget(self, asker: Asker) -> None:
        """Tell this asker nothing more."""


class NetScorer:
    """Scores one target's window, a tick late."""

    __slots__ = ("_calibration", "_facts", "_forecast", "_gate", "_of_tick", "_oracle", "_tick", "name", "thresholds")

    def __init__(self, model: Model, net: Net, profile: Profile, oracle: Oracle) -> None:
        self._gate = Scorer(gated(model), profile)
        self._facts, self._calibration, self._oracle = features.statics(profile), net.calibration, oracle
        self._tick = self._of_tick = 0
        self._forecast: Forecast | None = None
        self.name, self.thresholds = "onnx", model.thresholds

    def score(self, window: Window) -> Forecast | None:
        """Ask about this window, and return the forecast of the newest one that was answered, or None."""
        self._tick += 1
        if self._gate.score(window) is None:
            return None
        self._oracle.ask(self, self._tick, features.of(window.buffer, self._facts).tobytes())
        return self._forecast if self._is_fresh else None

    @property
    def _is_fresh(self) -> bool:
        return self._forecast is not None and self._tick - self._of_tick <= STALE_TICKS

    def answered(self, tick: int, classes: Sequence[float]) -> None:
        """Take in the probabilities of the classes for what was asked at a tick."""
        if len(classes) == CLASSES and tick > self._of_tick:
            self._forecast, self._of_tick = Forecast(*cumulated(classes, self._calibration)), tick

    def release(self) -> None:
        """Let the window go, so that it can be closed."""
        self._oracle.forget(self)
        self._gate.release()

    def abstains_because(self, window: Window) -> str:
        """Say why `score` returns None for this window."""
        why = self._gate.abstains_because(window)
        if why or self._is_fresh:
            return why
        return self._oracle.problem or f"the helper has said nothing of the last {STALE_TICKS} readings"
