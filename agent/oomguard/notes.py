"""What is worth saying about a target: changes, decisions, kills; silence on quiet ticks. And its status."""

from __future__ import annotations

from collections.abc import Callable

from oomguard.forecast import time_to_limit_s
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.decide.decide import Decision
    from oomguard.guard import Reading, TargetGuard

COUNT_EVERY_S = 5.0         # kills are counted on quiet ticks
RISE_RATIO = 1 / 64         # of the limit: headroom that came back between two ticks, as by a kill
KILLS_NOTED_MOST = 64       # of one tick, one by one in the recording
BLIND_AFTER = 5             # readings in a row that cannot be used before the guard says that it is blind

Tell = Callable[..., None]  # (event, severity, **fields)


class Notes:
    """Compares each reading with the one before, and tells what changed."""

    __slots__ = ("_before", "_blind_ticks", "_counted_s", "_scorer", "_tell", "kills")

    def __init__(self, tell: Tell, kills: int, scorer: str = "forest") -> None:
        """Say what is known at the start.

        Args:
            kills: the kernel's kills in the target before we came; -1 where it cannot be known.
            scorer: who speaks where there is a forecast.
        """
        self._tell, self.kills, self._scorer = tell, kills, scorer
        self._before: Reading | None = None
        self._blind_ticks, self._counted_s = 0, float("-inf")

    def read(self, reading: Reading, guard: TargetGuard) -> None:
        """Take in a tick's reading."""
        before, self._before = self._before, reading
        if self.is_blind:
            self._tell("sees-again", "notice", ticks=self._blind_ticks)
        self._blind_ticks = 0
        level_before = 0 if before is None else before.level
        if before is not None and before.sample.constraint != reading.sample.constraint:
            self._tell("constraint", was=before.sample.constraint, constraint=reading.sample.constraint,
                       limit_bytes=reading.sample.limit_bytes, headroom_bytes=reading.sample.headroom_bytes)
        if reading.level != level_before:
            self._tell("level", "notice", was=level_before, **self._figures(reading))
        if reading.forecast is None and (before is None or before.forecast is not None):
            self._note_abstention(guard.scorer.abstains_because(guard.window))
        if guard.sensor.end_fd < 0 and self._may_have_killed(reading, before):
            self._count_kills(reading, guard)

    def _may_have_killed(self, reading: Reading, before: Reading | None) -> bool:
        """Return whether to count kills at this tick: at once where one is likely, else every 5 s.

        A count costs 2 to 9 us, up to half of a tick. A process that was read in this very tick lives, and its end
        comes by its descriptor: it is not asked at all.
        """
        sample = reading.sample
        if reading.level == 0 and before is not None and sample.t_s - self._counted_s < COUNT_EVERY_S:
            rise_bytes = sample.headroom_bytes - before.sample.headroom_bytes
            return before.level > 0 or rise_bytes > sample.limit_bytes * RISE_RATIO
        return True

    def _count_kills(self, reading: Reading, guard: TargetGuard) -> None:
        kills = guard.sensor.kills()
        self._counted_s = reading.sample.t_s
        if kills > self.kills >= 0:
            for _ in range(min(kills - self.kills, KILLS_NOTED_MOST)):
                guard.recorder.kill(reading.sample.t_s)
            self._tell("kill", "error", killer="kernel", kills=kills - self.kills, **self._figures(reading))
        self.kills = kills

    def decided(self, decision: Decision, reading: Reading) -> None:
        """Tell a decision: the one line that says which rule fired, why, and on what figures."""
        self._tell("decision", "notice", rule=decision.rule, because=decision.because, **self._figures(reading))

    def blind(self, because: str) -> None:
        """Take in a reading that failed or cannot be used; after some in a row, say so."""
        self._blind_ticks += 1
        if self._blind_ticks == BLIND_AFTER:
            self._tell("blind", "error", readings=BLIND_AFTER, because=because)

    @property
    def is_blind(self) -> bool:
        """Whether the target has not been seen for some ticks: level and figures are old."""
        return self._blind_ticks >= BLIND_AFTER

    def _figures(self, reading: Reading) -> dict[str, object]:
        return figures(reading, self._scorer)

    def _note_abstention(self, why: str) -> None:
        if why != "no model":               # that is said once, at the start
            self._tell("abstains", because=why, scorer="plain")


def scorer_of(reading: Reading | None, scorer: str = "forest") -> str:
    """Return who spoke: `forest` or `onnx`, as `scorer` says, or `plain` where no model did."""
    return "plain" if reading is None or reading.forecast is None else scorer


def figures(reading: Reading, scorer: str = "forest") -> dict[str, object]:
    """Return the fields that every line about a target's state carries."""
    sample, forecast, level = reading
    fields: dict[str, object] = {
        "t_s": round(sample.t_s, 3), "level": level, "scorer": scorer_of(reading, scorer),
        "constraint": sample.constraint, "limit_bytes": sample.limit_bytes, "used_bytes": sample.used_bytes,
        "headroom_bytes": sample.headroom_bytes}
    if forecast is not None:
        fields["time_to_limit_s"] = time_to_limit_s(forecast)
        fields.update((name, round(p, 4)) for name, p in forecast._asdict().items())
    return fields


def _abstains_because(guard: TargetGuard) -> str | None:
    """Return why the model is silent now: the reason changes without a line in the log."""
    if guard.reading is None or guard.reading.forecast is not None:
        return None
    return guard.scorer.abstains_because(guard.window) or None


def status(guard: TargetGuard) -> dict[str, object]:
    """Return what `oomguard status` shows of a target."""
    reading, releases = guard.reading, guard.releases
    shown: dict[str, object] = {
        "name": guard.name, "level": 0, "limit_bytes": None, "used_bytes": None, "headroom_bytes": None,
        "constraint": None, "probabilities": None, "time_to_limit_s": None,
        "scorer": scorer_of(reading, guard.scorer.name), "abstains_because": _abstains_because(guard),
        "kills": guard.notes.kills,
        "is_blind": guard.notes.is_blind, "samples": guard.window.samples_total, "releases": releases.count,
        "freed_bytes": releases.bytes_total, "last_freed_bytes": releases.last_freed_bytes,
        "hooks": [{"name": hook.name, "cost": hook.cost_now, "yield_bytes": hook.yield_bytes, "calls": hook.calls,
                   "failures": hook.failures, "on_hold_until_s": hook.on_hold_until_s} for hook in releases.hooks]}
    if reading is not None:
        sample, forecast, level = reading
        shown |= {"level": level, "limit_bytes": sample.limit_bytes, "used_bytes": sample.used_bytes,
                  "headroom_bytes": sample.headroom_bytes, "constraint": sample.constraint, "t_s": sample.t_s}
        if forecast is not None:
            shown |= {"probabilities": forecast._asdict(), "time_to_limit_s": time_to_limit_s(forecast)}
    return shown
