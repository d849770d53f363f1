"""Which bound is nearest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oomguard.sense.constraints import UNKNOWN, Constraint, binding, profile_constraint


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False)))
def test_the_least_known_headroom_binds(headrooms: list[float]) -> None:
    """NaN never binds, and the least of the others always does."""
    found = binding([Constraint(str(n), 1.0, 0.0, headroom) for n, headroom in enumerate(headrooms)])
    known = [headroom for headroom in headrooms if headroom == headroom]
    assert found.headroom_bytes == min(known) if known else found is UNKNOWN


def test_a_tie_goes_to_the_first() -> None:
    """Two equally near bounds do not flip from tick to tick."""
    assert binding([Constraint("a", 1, 0, 1), Constraint("b", 1, 0, 1)]).name == "a"


def test_an_apps_footprint_counts_where_it_lies() -> None:
    """What is swapped out is the app's still."""
    assert profile_constraint(100, 60, 30)[:4] == ("profile", 100, 90, 10)
