"""How much is needed, of whom it is asked, and whether it is still needed: pure functions (DESIGN 4.7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from oomguard.act.hooks import Hook
from oomguard.decide.plan import Release
from oomguard.typed import NamedTuple

CRITICAL_RATIO = 0.9        # used/limit where kills concentrate, until a threshold was learned
RISE_QUANTILE = 0.8
HELPED_RATIO = 0.1          # a release that gave less of what was asked did not help
GAP_RATIO = 1.5             # pairs of samples further apart than so many horizons span a standby: not used

Moment = tuple[float, float]    # t_s, bytes


class LastRelease(NamedTuple):
    """What the target's last release came to, so that the next one knows whether to escalate."""

    hook: str
    helped: bool


def latency_s(hook: Hook) -> float:
    """Return how long a hook takes: as measured, else its deadline; one that is called in the loop never blocks."""
    unknown_s = 0.0 if hook.executor == "inline" else hook.deadline_s
    return hook.latency_s if hook.latency_s == hook.latency_s else unknown_s


def horizon_s(hook: Hook, cooldown_s: float) -> float:
    """Return for how long what is asked for now has to last: until a next release has given.

    That begins when the rule may act again and this one is over, whichever is later, and takes as long again.
    """
    return latency_s(hook) + max(latency_s(hook), cooldown_s)


def needed_bytes(
    history: Sequence[Moment], headroom_bytes: float, limit_bytes: float, horizon_s: float,
    minimum_bytes: int, critical_ratio: float = CRITICAL_RATIO, released: Iterable[Moment] = (),
) -> int:
    """Return max(minimum, q80 of the rise over the horizon - (headroom - (1 - critical ratio) x limit)).

    Args:
        history: (t_s, headroom_bytes), oldest first, one constraint only; entries with NaN are left out.
        released: (t_s, freed_bytes) of releases in that time: what they gave back is no fall in demand.
    Returns: bytes, 0 where there is room for the rise: what an app gives up in vain it has to fetch again. Otherwise
        minimum ≤ needed ≤ max(minimum, limit); the minimum where headroom or limit is unknown.
    """
    spare_bytes = headroom_bytes - (1 - critical_ratio) * limit_bytes
    wanted = rise_bytes(history, horizon_s, released) - spare_bytes
    if not math.isfinite(wanted):
        return max(minimum_bytes, 1)
    if wanted <= 0:
        return 0
    return max(minimum_bytes, math.ceil(min(wanted, limit_bytes)), 1)


def left_to_ask_bytes(needed: int, coming_bytes: float, minimum_bytes: int) -> int:
    """Return what is still to be asked for where others were asked to make room under the same limit.

    Less than the minimum is not worth a hook's trouble: two targets never reckon the same need to the byte.
    """
    left = needed - math.floor(coming_bytes)
    return left if left >= minimum_bytes or left == needed else 0


def rise_bytes(history: Sequence[Moment], horizon_s: float, released: Iterable[Moment] = ()) -> float:
    """Return the q80 of how far headroom fell over the horizon, as seen in the history; at least 0.

    A history shorter than the horizon is extended in a straight line; without two entries the rise is 0.
    """
    known = _without_releases([moment for moment in history if math.isfinite(moment[1])], released)
    if len(known) < 2 or not horizon_s > 0:
        return 0.0
    rises = _rises(known, horizon_s)
    if rises:
        rises.sort()
        return max(rises[math.ceil(RISE_QUANTILE * len(rises)) - 1], 0.0)
    span_s = known[-1][0] - known[0][0]
    if not 0 < span_s < horizon_s:
        return 0.0
    return max((known[0][1] - known[-1][1]) * horizon_s / span_s, 0.0)


def _without_releases(known: list[Moment], released: Iterable[Moment]) -> list[Moment]:
    """Return the headroom as it would have been, had nothing been given back."""
    given = sorted(moment for moment in released if math.isfinite(moment[1]))
    if not given:
        return known
    bare, back, taken = [], 0.0, 0
    for t_s, headroom_bytes in known:
        while taken < len(given) and given[taken][0] <= t_s:
            back += given[taken][1]
            taken += 1
        bare.append((t_s, headroom_bytes - back))
    return bare


def _rises(known: list[Moment], horizon_s: float) -> list[float]:
    rises, later = [], 0
    for now in known:
        while later < len(known) and known[later][0] < now[0] + horizon_s:
            later += 1
        if later == len(known):
            break
        if known[later][0] - now[0] <= GAP_RATIO * horizon_s + 1:   # + 1: cadences
            rises.append(now[1] - known[later][1])
    return rises


def choose(
    hooks: Iterable[Hook], release: Release, needed: int, now_s: float, last: LastRelease | None = None,
) -> list[tuple[Hook, int]]:
    """Return whom to ask for how many bytes, cheapest first; empty when nobody can be asked.

    `all` and `ratio` go to every hook. `needed` and `bytes` go to the cheapest, and on to the next one only
    for what the measured yields leave over; a hook that was never measured ends the list, since what it gives
    has to be seen first. When the last release did not help, the list begins with the next costlier hook, and
    again with the cheapest after the costliest.
    Args: needed: bytes, 0 for nothing. last: None once the target has been quiet again.
    """
    ready = sorted((hook for hook in hooks if not hook.is_on_hold(now_s)), key=lambda hook: hook.cost_now)
    if release.kind in ("all", "ratio"):
        share = 1.0 if release.kind == "all" else release.amount
        return [(hook, _share_bytes(hook, share, needed)) for hook in ready]
    wanted = math.ceil(release.amount) if release.kind == "bytes" else needed
    return _spread(_escalated(ready, last), wanted)


def _share_bytes(hook: Hook, share_ratio: float, needed: int) -> int:
    holds = hook.holds_bytes()
    return max(1, math.ceil(share_ratio * holds) if math.isfinite(holds) else max(needed, hook.minimum_bytes))


def _escalated(ready: list[Hook], last: LastRelease | None) -> list[Hook]:
    if last is None or last.helped:
        return ready
    names = [hook.name for hook in ready]
    if last.hook not in names:
        return ready
    return ready[names.index(last.hook) + 1:] or ready


def _spread(order: list[Hook], wanted: int) -> list[tuple[Hook, int]]:
    asked: list[tuple[Hook, int]] = []
    left = float(wanted)
    for hook in order:
        if left <= 0:
            break
        if hook.evictable_bytes == 0:       # it says itself that it is empty
            continue
        bytes_ = max(math.ceil(left), hook.minimum_bytes, 1)
        asked.append((hook, bytes_))
        if not hook.is_measured:
            break
        left -= hook.expected_bytes(bytes_)
    return asked


def helped(asked_bytes: float, freed_bytes: float, is_ok: bool) -> bool:
    """Return whether a release helped, by what was measured. What failed or was not measured did not."""
    return is_ok and freed_bytes > 0 and freed_bytes >= HELPED_RATIO * asked_bytes


def spared_bytes(history: Sequence[Moment], asked_t_s: float, released: Iterable[Moment] = ()) -> float:
    """Return how much less headroom fell since a release was asked for than it did in as long before (q80); at least 0.

    A JVM or an allocator keeps what is freed inside it: no headroom comes back, but growth stops until that is used up.

    Args:
        history: (t_s, headroom_bytes), oldest first, up to now.
        asked_t_s: when the release was asked for.
        released: (t_s, freed_bytes) of releases before it: what they gave back is no fall in demand.
    """
    before = [moment for moment in history if moment[0] <= asked_t_s]
    if not before:
        return 0.0
    (then_t_s, then_bytes), (t_s, headroom_bytes) = before[-1], history[-1]
    spared = rise_bytes(before, t_s - then_t_s, released) - (then_bytes - headroom_bytes)
    return max(spared, 0.0) if math.isfinite(spared) else 0.0


def look_again(headroom_before_bytes: float, headroom_now_bytes: float, requested_bytes: float) -> bool:
    """Return True when the release is still wanted, False when the memory came back by itself meanwhile.

    An unknown headroom (NaN) gives True: a release in vain is cheaper than a kill.
    """
    return not headroom_now_bytes - headroom_before_bytes >= requested_bytes
