"""What lies on the disk is garbage: never believed, said, kept for who wants to look, and guarding goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from faulted import guard_of_us, recording_of, runs_of
from guarded import Guard

Start = Callable[..., Guard]


@pytest.mark.parametrize("harm", ["torn", "flipped", "garbage", "empty", "a folder"])
def test_a_journal_that_was_harmed_is_gone_on_with(start: Start, folder: Path, harm: str) -> None:
    """The next guard records beside it; what is whole of the old segment can still be read, the rest is counted."""
    first = guard_of_us(start)
    before = first.samples(20)
    assert first.stop() == 0
    (segment,) = (folder / "state" / "journal").glob("*.journal")
    data = bytearray(segment.read_bytes())
    chance = random.Random(1)
    if harm == "torn":
        segment.write_bytes(data[:-37])
    elif harm == "flipped":
        data[len(data) // 2] ^= 0x40
        segment.write_bytes(data)
    elif harm == "garbage":
        segment.write_bytes(chance.randbytes(len(data)))
    elif harm == "empty":
        segment.write_bytes(b"")
    else:
        segment.unlink()
        segment.mkdir()
    second = guard_of_us(start)
    second.samples(before + 10)
    assert second.events("recording-paused") == []
    assert second.stop() == 0
    kept = sum(map(len, runs_of(folder)))
    if harm in ("torn", "flipped"):
        assert kept >= before + 10 - 3
        assert recording_of(folder).losses.lines() != []
    else:
        assert kept >= 10
    assert all(run.column("t_s").tolist() == sorted(run.column("t_s").tolist()) for run in runs_of(folder))


def test_an_unharmed_journal_has_no_losses(start: Start, folder: Path) -> None:
    """The counterpart: two guards after one another are one run, and every sample of it is there."""
    first = guard_of_us(start)
    before = first.samples(10)
    assert first.stop() == 0
    second = guard_of_us(start)
    total = second.samples(before + 10)
    assert second.stop() == 0
    (run,) = runs_of(folder)
    assert len(run) >= total
    assert recording_of(folder).losses.lines() == []
