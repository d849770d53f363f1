"""The demo app's sizes: the leak alone fits, the leak and the cache together do not."""

import pytest

from oomguard.demo.shape import LIMIT_BYTES, PLANNED_S, SMALLEST_LIMIT_BYTES, Shape
from oomguard.errors import UsageError


@pytest.mark.parametrize("limit_bytes", [SMALLEST_LIMIT_BYTES, LIMIT_BYTES, 1 << 30])
def test_the_leak_alone_stays_under_the_limit(limit_bytes: int) -> None:
    """A guarded app can live: interpreter, leak and smallest cache are under 85 % of the limit at the end."""
    shape = Shape.of(limit_bytes, PLANNED_S)
    assert 0 < shape.leak_bytes + shape.smallest_cache_bytes + (9 << 20) < 0.85 * limit_bytes


@pytest.mark.parametrize("limit_bytes", [SMALLEST_LIMIT_BYTES, LIMIT_BYTES, 1 << 30])
def test_the_whole_catalogue_and_the_leak_are_over_it(limit_bytes: int) -> None:
    """An app that nobody tells must die: what can be cached is several times the limit."""
    shape = Shape.of(limit_bytes, PLANNED_S)
    assert shape.images * shape.image_bytes > 3 * limit_bytes
    assert shape.image_bytes % 4096 == 0


@pytest.mark.parametrize(("limit_bytes", "planned_s", "said"), [
    (SMALLEST_LIMIT_BYTES - 1, PLANNED_S, "too small to show anything: 32.0 MiB at least"),
    (LIMIT_BYTES, 14.9, "14.9 s is too short to show anything: 15 s at least"),
    (LIMIT_BYTES, float("nan"), "too short")])
def test_what_would_show_nothing_is_refused(limit_bytes: int, planned_s: float, said: str) -> None:
    """Too small a limit or too short a time is refused at once, with what is allowed."""
    with pytest.raises(UsageError, match=said):
        Shape.of(limit_bytes, planned_s)
