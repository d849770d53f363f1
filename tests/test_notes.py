"""What is said about a target, and what is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from oomguard.decide.decide import Decision
from oomguard.forecast import Forecast
from oomguard.guard import Reading
from oomguard.notes import BLIND_AFTER, COUNT_EVERY_S, Notes, figures, scorer_of
from oomguard.record.silence import Silence
from windows import plain_sample

CALM = Forecast(0.0, 0.0, 0.1, 0.1, 0.2)


class Listener:
    """Takes in what is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, event: str, severity: str = "info", /, **fields: Any) -> None:
        """Take one event in."""
        self.told.append((event, severity, fields))

    @property
    def names(self) -> list[str]:
        """The events so far."""
        return [event for event, _severity, _fields in self.told]


def guard(kills: int = 0, abstains: str = "no model") -> Any:
    """Return what notes ask of a guard."""
    return SimpleNamespace(sensor=SimpleNamespace(kills=lambda: kills, end_fd=-1), window=None, recorder=Silence(),
                           scorer=SimpleNamespace(abstains_because=lambda window: abstains))


def reading(t_s: float = 1.0, level: int = 0, forecast: Forecast | None = None, **changes: Any) -> Reading:
    """Return a reading."""
    return Reading(plain_sample(t_s, 50e6)._replace(**changes), forecast, level)


def test_quiet_ticks_are_silent() -> None:
    """Nothing changes, nothing is said; not even at the first tick."""
    listener = Listener()
    notes = Notes(listener, 0)
    for t_s in range(100):
        notes.read(reading(float(t_s)), guard())
    assert listener.told == []


def test_a_change_of_level_is_told_once() -> None:
    """Up and down, each with what it was; a level that stays is not repeated."""
    listener = Listener()
    notes = Notes(listener, 0)
    for t_s, level in enumerate([0, 2, 2, 5, 5, 0, 0]):
        notes.read(reading(float(t_s), level), guard())
    assert [(fields["was"], fields["level"]) for _event, _severity, fields in listener.told] == [(0, 2), (2, 5), (5, 0)]
    assert {severity for _event, severity, _fields in listener.told} == {"notice"}


def test_another_binding_constraint_is_told() -> None:
    """With the names of both, the new limit and headroom; the first one is no change."""
    listener = Listener()
    notes = Notes(listener, 0)
    notes.read(reading(1.0, constraint="cgroup:/a"), guard())
    assert listener.told == []
    notes.read(reading(2.0, constraint="machine", limit_bytes=9e9), guard())
    event, _severity, fields = listener.told[0]
    assert (event, fields["was"], fields["constraint"], fields["limit_bytes"]) == (
        "constraint", "cgroup:/a", "machine", 9e9)


def test_kills_are_told_as_they_are_counted() -> None:
    """Those before us are not ours to tell; each increase is told with its size."""
    listener = Listener()
    notes = Notes(listener, 3)
    notes.read(reading(1.0), guard(kills=3))
    assert listener.told == []
    notes.read(reading(1.0 + COUNT_EVERY_S), guard(kills=5))
    assert [(event, severity, fields["kills"]) for event, severity, fields in listener.told] == [("kill", "error", 2)]
    notes.read(reading(1.0 + 2 * COUNT_EVERY_S), guard(kills=5))
    assert listener.names == ["kill"]


def test_kills_are_counted_at_once_where_one_is_likely() -> None:
    """At a level above 0, at the tick after it, and when headroom comes back at once; else every 5 s."""
    def counted(*readings: Reading) -> list[float]:
        """Return at which of the readings the kernel was asked."""
        asked, notes = [], Notes(Listener(), 0)
        for each in readings:
            fake = guard()
            fake.sensor.kills = lambda t_s=each.sample.t_s: asked.append(t_s) or 0
            notes.read(each, fake)
        return asked

    quiet = [reading(float(t_s)) for t_s in range(12)]
    assert counted(*quiet) == [0, 5, 10]
    assert counted(*quiet[:2], reading(2.0, 1), reading(3.0, 1), *quiet[4:7]) == [0, 2, 3, 4]
    limit_bytes, headroom_bytes = quiet[0].sample.limit_bytes, quiet[0].sample.headroom_bytes
    for rise_ratio, asked in ((0.01, [0]), (0.02, [0, 3]), (-0.5, [0])):
        risen = reading(3.0, headroom_bytes=headroom_bytes + rise_ratio * limit_bytes)
        assert counted(*quiet[:3], risen) == asked


def test_a_process_that_tells_its_end_is_not_asked_for_kills() -> None:
    """It was read in this very tick, so it lives; without such a descriptor it is asked."""
    for end_fd, kills in ((7, 0), (-1, 1)):
        notes, fake = Notes(Listener(), 0), guard(kills=1)
        fake.sensor.end_fd = end_fd
        notes.read(reading(1.0), fake)
        assert notes.kills == kills


def test_a_count_that_cannot_be_known_is_no_kill() -> None:
    """-1 stands for unknown: becoming known is no increase."""
    listener = Listener()
    notes = Notes(listener, -1)
    notes.read(reading(1.0), guard(kills=4))
    assert listener.told == []
    assert notes.kills == 4


def test_abstention_is_told_when_it_begins() -> None:
    """With its reason, once; a forecast ends it; that there is no model is said at the start and not here."""
    listener = Listener()
    notes = Notes(listener, 0)
    notes.read(reading(1.0), guard(abstains="the window is 4 s long"))
    notes.read(reading(2.0), guard(abstains="the window is 5 s long"))
    assert [(event, fields["because"]) for event, _severity, fields in listener.told] == [
        ("abstains", "the window is 4 s long")]
    notes.read(reading(3.0, forecast=CALM), guard())
    notes.read(reading(4.0), guard(abstains="outside"))
    assert listener.names == ["abstains", "abstains"]


def test_blindness_is_told_after_some_readings_and_ends() -> None:
    """One failed reading is nothing; five in a row are an error, told once; the next good one ends it."""
    listener = Listener()
    notes = Notes(listener, 0)
    for _ in range(BLIND_AFTER - 1):
        notes.blind("memory.stat: Permission denied")
    assert listener.told == [] and not notes.is_blind
    for _ in range(10):
        notes.blind("memory.stat: Permission denied")
    assert listener.names == ["blind"] and notes.is_blind
    assert listener.told[0][2]["because"] == "memory.stat: Permission denied"
    notes.read(reading(9.0), guard())
    assert listener.names == ["blind", "sees-again"] and not notes.is_blind


def test_failed_readings_must_be_in_a_row() -> None:
    """A good one in between starts the count anew."""
    listener = Listener()
    notes = Notes(listener, 0)
    for turn in range(5 * BLIND_AFTER):
        if turn % BLIND_AFTER == 0:
            notes.read(reading(float(turn)), guard())
        else:
            notes.blind("torn")
    assert listener.told == []


def test_a_decision_is_one_line_with_its_figures() -> None:
    """Rule, reason, level, constraint, and the forecast where there is one."""
    listener = Listener()
    told = reading(7.25, 3, Forecast(0.1, 0.2, 0.6, 0.7, 0.8), constraint="cgroup:/app")
    Notes(listener, 0).decided(Decision("trim", 0, (), "level 3 >= 2"), told)
    (event, severity, fields), = listener.told
    assert (event, severity, fields["rule"], fields["because"]) == ("decision", "notice", "trim", "level 3 >= 2")
    assert fields["scorer"] == "forest" and fields["p180"] == 0.6 and 120 < fields["time_to_limit_s"] < 180


def test_without_a_forecast_the_figures_name_the_plain_levels() -> None:
    """Probabilities are absent and `scorer` reads plain."""
    fields = figures(reading(1.0, 2))
    assert fields["scorer"] == "plain" and "p60" not in fields and "time_to_limit_s" not in fields
    assert scorer_of(None) == "plain"
    assert scorer_of(reading(1.0, forecast=CALM)) == "forest"
