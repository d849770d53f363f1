"""Features, forecasts, kept levels at every sample of a recorded run: the same as on the device, to the bit.

Off the device: replay and learning use it. One call per run goes through the kernel (about a microsecond a sample,
without the GIL); without the kernel the readable references do the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from oomguard import features
from oomguard.decide.levels import BACK_RATIO, KEPT_S
from oomguard.forest import HORIZONS_S, Forest, cumulated
from oomguard.kernel import HAS_KERNEL, native
from oomguard.net import STALE_TICKS, Net
from oomguard.profile import Profile
from oomguard.sense.sample import Sample
from oomguard.window import Window

Real = TypeVar("Real", np.float32, np.float64)
NUMBERS = tuple(name for name in Sample._fields if name not in ("constraint", "phase"))
_ROWS = len(NUMBERS) + 3


def series_rows(
    columns: Mapping[str, NDArray[np.float64]], constraints: Sequence[str],
    phase_ids: NDArray[np.float64] | None = None, releases_t_s: Sequence[float] = (),
) -> NDArray[np.float64]:
    """Return the float64[19, n] that the kernel reads, from the columns of one run.

    Args:
        columns: `t_s`, `limit_bytes`, `headroom_bytes`, `used_bytes` and whatever else of a sample's numbers is
            known, each float64[n] with NaN where unknown; a column that is absent is unknown throughout.
        constraints: the binding constraint's name at each sample.
        phase_ids: float64[n], NaN where unknown.
        releases_t_s: when releases were asked for and when they were over, rising; a sample sees those before it.
    """
    n = len(columns["t_s"])
    rows = np.full((_ROWS, n), np.nan)
    for at, name in enumerate(NUMBERS):
        if name in columns:
            rows[at] = columns[name]
        elif name == "late_s":
            rows[at] = 0.0
    if phase_ids is not None:
        rows[len(NUMBERS)] = phase_ids
    limits = rows[NUMBERS.index("limit_bytes")]
    is_change = np.array([a != b for a, b in pairwise(constraints)], dtype=bool) | (limits[1:] != limits[:-1])
    rows[len(NUMBERS) + 1] = np.concatenate([[1.0], 1.0 + np.cumsum(is_change)])[:n]
    if releases_t_s:
        known = np.concatenate([[np.nan], np.asarray(releases_t_s, dtype=np.float64)])
        rows[len(NUMBERS) + 2] = known[np.searchsorted(known[1:], rows[0], side="left")]
    return rows


def kept(
    scores: NDArray[np.float64], t_s: NDArray[np.float64], headroom_ratios: NDArray[np.float64], floor: float = -np.inf,
) -> NDArray[np.float64]:
    """Return the score that stands at each reading: `decide.levels.kept_level`, for scores that are levels.

    For others it is that of a device with a level for each score: what a higher threshold keeps stands for a lower one.

    Args:
        scores: float64[n], greater meaning nearer to a kill; no NaN. Levels are scores, too.
        t_s: float64[n], rising.
        headroom_ratios: float64[n], headroom / limit.
        floor: scores up to this one are never kept; 0 for levels.
    """
    out = scores.copy()
    if len(scores) < 2:
        return out
    sure = np.minimum(scores, np.concatenate([[-np.inf], scores[:-1]]))
    begins = np.flatnonzero(sure > floor)
    values, times, ratios = sure.tolist(), t_s.tolist(), headroom_ratios.tolist()
    standing: list[tuple[float, float, float]] = []     # (score, until when, up to which headroom), highest first
    at = int(begins[0]) if len(begins) else len(values)
    while at < len(values):
        value, now_s, ratio = values[at], times[at], ratios[at]
        standing = [one for one in standing if one[0] > value and now_s < one[1] and ratio <= one[2]]
        if value > floor:
            standing.append((value, now_s + KEPT_S, ratio + BACK_RATIO))
        if standing:
            out[at] = max(out[at], standing[0][0])
            at += 1
        else:
            next_one = int(begins.searchsorted(at))
            at = int(begins[next_one]) if next_one < len(begins) else len(values)
    return out


def release_times_s(begun_s: Sequence[float], durations_s: Sequence[float]) -> list[float]:
    """Return when releases were asked for and, where that is known, over: what the window of the guard was told."""
    over_s = [begin_s + duration_s for begin_s, duration_s in zip(begun_s, durations_s, strict=True)]
    return sorted([*begun_s, *(moment for moment in over_s if moment == moment)])


def features_of_run(rows: NDArray[np.float64], profile: Profile) -> NDArray[np.float32]:
    """Return float32[n, F]: the features at every sample; NaN rows where the window refused the sample."""
    out = np.empty((rows.shape[1], features.COUNT), dtype=np.float32)
    if not HAS_KERNEL:
        return _by_reference(rows, profile, None, out)
    native.series(np.ascontiguousarray(rows).data, features.statics(profile), out.data)
    return out


def forecasts_of_run(rows: NDArray[np.float64], profile: Profile, forest: Forest | Net) -> NDArray[np.float64]:
    """Return float64[n, 5]: p60…p300 at every sample; NaN rows where the model abstains."""
    if isinstance(forest, Net):
        return _by_net(rows, profile, forest)
    out = np.empty((rows.shape[1], len(HORIZONS_S)), dtype=np.float64)
    if not HAS_KERNEL or forest.compiled is None:
        return _by_reference(rows, profile, forest, out)
    native.series(np.ascontiguousarray(rows).data, features.statics(profile), out.data, forest.compiled)
    return out


def _by_net(rows: NDArray[np.float64], profile: Profile, net: Net) -> NDArray[np.float64]:
    """Do what net_scorer does where the helper answers within a tick: each forecast is of the sample before."""
    out = forecasts_of_run(rows, profile, net.gate)
    asked = np.flatnonzero(~np.isnan(out[:, 0]))
    classes = net.classes(features_of_run(rows, profile)[asked])
    newest: tuple[float, ...] | None = None
    of_sample = 0
    for at, said in zip(asked.tolist(), classes.tolist(), strict=True):
        out[at] = np.nan if newest is None or at - of_sample > STALE_TICKS else newest
        if said[0] == said[0]:
            newest, of_sample = cumulated(said, net.calibration), at
    return out


def _by_reference(
    rows: NDArray[np.float64], profile: Profile, forest: Forest | None, out: NDArray[Real],
) -> NDArray[Real]:
    from oomguard.ring import reference_push

    window, facts = Window.in_memory(), features.statics(profile)
    for at, column in enumerate(rows.T.tolist()):
        numbers, (phase_id, segment, released_t_s) = column[:len(NUMBERS)], column[len(NUMBERS):]
        window.released(released_t_s)
        sample = Sample(**dict(zip(NUMBERS, numbers, strict=True)), constraint="")
        if not reference_push(window.buffer, sample, int(segment), phase_id):
            out[at] = np.nan
        elif forest is None:
            out[at] = features.reference_of(window.buffer, facts)
        else:
            forecast = forest.reference_score(window.buffer, facts)
            out[at] = np.nan if forecast is None else forecast
    return out
