"""What a release gave, by the samples after it."""

from __future__ import annotations

from oomguard.act.measure import Measurement


def test_the_greatest_rise_counts_although_growth_goes_on() -> None:
    """Headroom falls before and after the release; what it rose by at most is what was freed."""
    measurement = Measurement("machine", 100)
    measurement.see(1, "machine", 90)
    measurement.ended(1.5)
    for t_s, headroom in ((2, 160), (3, 150), (4, 140)):
        assert not measurement.see(t_s, "machine", headroom)
    assert measurement.see(4.5, "machine", 130)
    assert measurement.freed_bytes() == 70


def test_samples_after_the_settling_time_do_not_count() -> None:
    """What rises later is somebody else's."""
    measurement = Measurement("machine", 100)
    measurement.ended(1)
    measurement.see(2, "machine", 110)
    assert measurement.see(9, "machine", 500)
    assert measurement.freed_bytes() == 10


def test_another_constraint_does_not_count() -> None:
    """Headroom of another binding constraint is another quantity: unknown, not freed."""
    measurement = Measurement("machine", 100)
    measurement.ended(1)
    measurement.see(2, "cgroup:/app", 5000)
    assert measurement.freed_bytes() != measurement.freed_bytes()


def test_a_fall_is_nothing_freed() -> None:
    """A release that was outgrown counts as 0 bytes, not as a negative number."""
    measurement = Measurement("machine", 100)
    measurement.ended(1)
    measurement.see(2, "machine", 40)
    assert measurement.freed_bytes() == 0


def test_it_is_not_over_before_the_hook_ended() -> None:
    """A slow hook is measured for as long as it works, and three seconds more."""
    measurement = Measurement("machine", 100)
    assert not measurement.see(50, "machine", 120)
    measurement.ended(51)
    assert not measurement.see(53.9, "machine", 120)
    assert measurement.see(54, "machine", 120)


def test_no_sample_is_unknown() -> None:
    """Without a known headroom nothing is claimed."""
    measurement = Measurement("machine", float("nan"))
    measurement.see(1, "machine", 120)
    assert measurement.freed_bytes() != measurement.freed_bytes()


def test_a_slow_hook_is_no_liar() -> None:
    """The target takes 300 while its hook works for twenty seconds; the 200 it then gives are seen as 200."""
    measurement = Measurement("machine", 500)
    for t_s, headroom in ((5, 400), (10, 300), (20, 200)):
        measurement.see(t_s, "machine", headroom)
    measurement.ended(20)
    measurement.see(21, "machine", 400)
    assert measurement.freed_bytes() == 200


def test_what_has_not_come_yet_is_missing() -> None:
    """Of 50 expected: all before a sample has shown anything, and nothing once there was more."""
    measurement = Measurement("machine", 100)
    assert measurement.missing_bytes(50) == 50
    for headroom, missing in ((90, 50), (120, 20), (110, 20), (150, 0)):
        measurement.see(1, "machine", headroom)
        assert measurement.missing_bytes(50) == missing
