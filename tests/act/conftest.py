"""What the tests of act share: a runner that is always closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from runner_bench import Bench

from oomguard.act.runner import Runner


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A runner with its loop."""
    made = Bench(Runner())
    yield made
    made.runner.close()


@pytest.fixture
def dry_bench() -> Iterator[Bench]:
    """A runner whose last step is left out."""
    made = Bench(Runner(dry_run=True))
    yield made
    made.runner.close()
