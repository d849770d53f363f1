"""Pool device types by empirical Bayes: what few kills say is drawn towards what the whole fleet says.

Three textbook models, each fitted to the fleet itself:

- normal-normal, for a quantity with a known error per type: y_i ~ N(theta_i, v_i), theta_i ~ N(mu, tau²). tau² by the
  moments of DerSimonian & Laird (1986), then theta_i = B_i mu + (1 - B_i) y_i with B_i = v_i / (v_i + tau²), its
  variance (1 - B_i) v_i + B_i² var(mu) (Efron & Morris 1975; Morris 1983).
- beta-binomial, for a share of n: (k + m p) / (n + m), p the fleet's share, m by marginal likelihood.
- gamma-Poisson, for a rate over t hours: (k + m r) / (t + m), r the fleet's rate, m by marginal likelihood.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Reals = NDArray[np.float64]

STRENGTHS = np.exp(np.linspace(np.log(0.5), np.log(1000.0), 45))     # kills, or hours, that the fleet's word weighs


class Fleet(NamedTuple):
    """The distribution that the types of a fleet come from."""

    mean: float
    mean_variance: float
    between_variance: float         # tau²
    types: int


def fleet_of(values: ArrayLike, variances: ArrayLike) -> Fleet:
    """Return mu, its variance and tau² from one value per type and the variance of its error; at least one type."""
    y, v = np.asarray(values, np.float64), np.asarray(variances, np.float64)
    weight = 1 / v
    spread = float(weight @ (y - weight @ y / weight.sum()) ** 2)
    left = float(weight.sum() - (weight**2).sum() / weight.sum())
    between = max(0.0, (spread - (len(y) - 1)) / left) if len(y) > 1 and left > 0 else 0.0
    weight = 1 / (v + between)
    return Fleet(float(weight @ y / weight.sum()), float(1 / weight.sum()), between, len(y))


def shrunk(fleet: Fleet, value: float, variance: float) -> tuple[float, float]:
    """Return one type's value drawn towards the fleet's mean, with the variance of what it is now."""
    towards = variance / (variance + fleet.between_variance)
    return (towards * fleet.mean + (1 - towards) * value,
            (1 - towards) * variance + towards**2 * fleet.mean_variance)


def unseen(fleet: Fleet) -> tuple[float, float]:
    """Return the same for a type of which nothing is known: the fleet's mean, and how far types lie from it."""
    return fleet.mean, fleet.between_variance + fleet.mean_variance


def share_strength(hits: ArrayLike, of: ArrayLike) -> float:
    """Return m of the beta-binomial: how many trials the fleet's share weighs beside a type's own."""
    k, n = np.asarray(hits, np.float64), np.asarray(of, np.float64)
    p = float(k.sum() / max(n.sum(), 1.0))
    if not 0 < p < 1:
        return float(STRENGTHS[-1])         # all alike, as far as anyone can see
    a, b = STRENGTHS[:, None] * p, STRENGTHS[:, None] * (1 - p)
    likelihood = (_log_beta(k + a, n - k + b) - _log_beta(a, b)).sum(axis=1)
    return _most_likely(likelihood)


def rate_strength(events: ArrayLike, hours: ArrayLike) -> float:
    """Return m of the gamma-Poisson: how many hours the fleet's rate weighs beside a type's own."""
    k, t = np.asarray(events, np.float64), np.asarray(hours, np.float64)
    rate = float(k.sum() / max(t.sum(), 1e-9))
    if rate <= 0:
        return float(STRENGTHS[-1])
    m = STRENGTHS[:, None]
    likelihood = (_log_gamma(k + rate * m) - _log_gamma(rate * m) + rate * m * np.log(m / (m + t))
                  - k * np.log(m + t)).sum(axis=1)
    return _most_likely(likelihood)


def _log_gamma(x: Reals) -> Reals:
    return np.asarray(np.vectorize(math.lgamma, otypes=[np.float64])(x), np.float64)


def _log_beta(a: Reals, b: Reals) -> Reals:
    return _log_gamma(a) + _log_gamma(b) - _log_gamma(a + b)


def _most_likely(likelihood: Reals) -> float:
    """Return the strength of the highest likelihood; of equals, the strongest pooling."""
    return float(STRENGTHS[len(STRENGTHS) - 1 - int(np.argmax(np.round(likelihood[::-1], 9)))])


def logit(ratio: ArrayLike) -> Reals:
    """Return ln(x / (1 - x)), with x held within 0.001…0.999."""
    bounded = np.clip(np.asarray(ratio, np.float64), 1e-3, 1 - 1e-3)
    return np.asarray(np.log(bounded / (1 - bounded)), np.float64)


def expit(x: float) -> float:
    """Return 1 / (1 + e^-x)."""
    return float(1 / (1 + np.exp(-x)))
