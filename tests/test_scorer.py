"""Who scores: the model where there is one and it knows what it sees, else nobody."""

from __future__ import annotations

from oomguard.briefing import _model, _plain_model
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.forecast import Forecast
from oomguard.profile import Profile
from oomguard.scorer import NEVER, Scorer
from oomguard.trust.bundle import load_shipped
from windows import window_of

PLAN = Plan((TargetPlan("app", "self"),), ())
MIB = float(1 << 20)


def model():
    """Return the shipped model, by way of the briefing."""
    bundle = load_shipped()
    return _model(_plain_model(bundle, PLAN), bundle.forest)


def test_without_a_model_it_always_abstains() -> None:
    """And says why; no level is reached by its thresholds."""
    scorer, window = Scorer(None, Profile()), window_of([1e8] * 100)
    assert scorer.score(window) is None
    assert scorer.abstains_because(window) == "no model"
    assert scorer.name == "plain" and scorer.thresholds is NEVER


def test_with_a_model_a_long_window_has_a_forecast() -> None:
    """Probabilities that do not fall with the horizon, and nothing to explain."""
    scorer, window = Scorer(model(), Profile()), window_of([250 * MIB - second * MIB / 4 for second in range(200)])
    forecast = scorer.score(window)
    why = scorer.abstains_because(window)
    assert isinstance(forecast, Forecast) is (why == "")
    if forecast is not None:
        assert list(forecast) == sorted(forecast) and forecast.p60 >= 0 and forecast.p300 <= 1
    scorer.release()
    window.close()


def test_a_short_window_has_none() -> None:
    """Below 10 s the model abstains, and says so."""
    scorer, window = Scorer(model(), Profile()), window_of([100 * MIB] * 5)
    assert scorer.score(window) is None
    assert scorer.abstains_because(window) not in ("", "no model")


def test_another_window_is_another_score() -> None:
    """It holds one window at a time and lets it go, so that it can be closed."""
    scorer = Scorer(model(), Profile())
    calm, falling = window_of([200 * MIB] * 200), window_of([200 * MIB - second * MIB for second in range(195)])
    first, second = scorer.score(calm), scorer.score(falling)
    assert scorer.score(calm) == first and scorer.score(falling) == second
    scorer.release()
    for window in (calm, falling):
        window.close()
