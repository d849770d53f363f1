"""Who scores a window: the model, or nobody, in which case the plain levels hold."""

from __future__ import annotations

from oomguard import features
from oomguard.forecast import Forecast
from oomguard.forest import Forest, abstention
from oomguard.kernel import native
from oomguard.profile import Profile
from oomguard.typed import NamedTuple
from oomguard.window import Window

NEVER = (float("nan"),) * 5


class Model(NamedTuple):
    """A checked model with what the device needs of its manifest."""

    model_id: str
    digest: str                             # sha256 of the manifest
    forest: Forest
    thresholds: tuple[float, ...]           # of levels 1…5, compared with p300, p240, p180, p120, p60
    critical_ratio: float
    phases: dict[str, int]


class Scorer:
    """Scores one target's window. Without a model it always abstains."""

    __slots__ = ("_bound", "_facts", "_forest", "_window", "name", "thresholds")

    def __init__(self, model: Model | None, profile: Profile) -> None:
        self._forest = None if model is None else model.forest
        self._facts = features.statics(profile)
        self._window: Window | None = None      # the one that `_bound` holds
        self._bound: native.Bound | None = None
        self.name = "plain" if model is None else "forest"
        self.thresholds = NEVER if model is None else model.thresholds

    def score(self, window: Window) -> Forecast | None:
        """Return the forecast, or None: no model, or it abstains for this window."""
        if window is not self._window:
            self._hold(window)
        if self._bound is not None:
            return self._bound.score()
        if self._forest is None:
            return None
        probabilities = self._forest.reference_score(window.buffer, self._facts)
        return None if probabilities is None else Forecast(*probabilities)

    def _hold(self, window: Window) -> None:
        self.release()
        self._window = window
        if self._forest is not None and self._forest.compiled is not None:
            self._bound = self._forest.compiled.bind(window.buffer, self._facts, Forecast)

    def release(self) -> None:
        """Let the window go, so that it can be closed."""
        if self._bound is not None:
            self._bound.release()
        self._window = self._bound = None

    def abstains_because(self, window: Window) -> str:
        """Say why `score` returns None for this window."""
        if self._forest is None:
            return "no model"
        why = abstention(window.buffer)
        if why:
            return why
        strange = self._forest.unfamiliar(features.of(window.buffer, self._facts))
        return f"outside what the model was trained on: {', '.join(strange[:4])}" if strange else ""
