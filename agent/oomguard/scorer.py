"""Who scores a window: the model, or nobody, in which case the plain levels hold."""

from __future__ import annotations

from oomguard import features
from oomguard.forecast import Forecast
from oomguard.forest import Forest, abstention
from oomguard.kernel import native
from oomguard.profile import Profile
from oomguard.typed import TYPE_CHECKING, NamedTuple
from oomguard.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.act.runner import Runner
    from oomguard.net import Net
    from oomguard.net_scorer import NetScorer

NEVER = (float("nan"),) * 5


class Model(NamedTuple):
    """A checked model with what the device needs of its manifest."""

    model_id: str
    digest: str                             # sha256 of the manifest
    forest: Forest | Net                    # a net where the model is no tree
    thresholds: tuple[float, ...]           # of levels 1…5, compared with p300, p240, p180, p120, p60
    critical_ratio: float
    phases: dict[str, int]

    @property
    def scorer(self) -> str:
        """Who speaks by this model, in log and status: `forest` or `onnx`."""
        return "forest" if isinstance(self.forest, Forest) else "onnx"


def scorer_in(model: Model | None) -> str:
    """Return who speaks where a model does not abstain: `forest`, `onnx`, or `plain` without one."""
    return "plain" if model is None else model.scorer


def gated(model: Model | None) -> Model | None:
    """Return a model that abstains where this one does; what it says otherwise means nothing where this is a net."""
    if model is None or isinstance(model.forest, Forest):
        return model
    return model._replace(forest=model.forest.gate)


def open_scorer(model: Model | None, profile: Profile, runner: Runner, tell: Callable[..., None],
                ) -> Scorer | NetScorer:
    """Return what scores by this model: a forest here and now, a net in the runner's helper, which tells how it fares.
    """
    if model is None or isinstance(model.forest, Forest):
        return Scorer(model, profile)
    from oomguard.net_scorer import NetScorer  # only where the model is no forest

    return NetScorer(model, model.forest, profile, runner.scoring(model.forest.onnx, tell))


class Scorer:
    """Scores one target's window by a forest. Without a model it always abstains."""

    __slots__ = ("_bound", "_facts", "_forest", "_window", "name", "thresholds")

    def __init__(self, model: Model | None, profile: Profile) -> None:
        self._forest: Forest | None = None
        if model is not None:
            if not isinstance(model.forest, Forest):
                raise TypeError("a net is asked through open_scorer")
            self._forest = model.forest
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
