"""What became of an arm, put together from three sources."""

import pytest

from demo.stories import MIB, guarded, unguarded
from oomguard.demo.story import Story, is_shown, lead_s


def test_times_count_from_the_apps_own_start() -> None:
    """A level read from the log at 1030 s is at 30 s of an app that started at 1000 s; before its start, at 0."""
    story = Story("guarded", 96 * MIB)
    assert story.t_s(5.0) == 0.0
    figures = {"hits": 0, "misses": 0, "cache_bytes": 0, "leak_bytes": 0, "evictions": 0, "evicted_bytes": 0}
    story.take_report({"event": "start", "t_s": 0.0, "pid": 12, "start_s": 1000.0, **figures})
    story.take_log({"event": "level", "level": 0, "scorer": "plain"}, 1010.0)
    story.take_log({"event": "level", "level": 2, "scorer": "forest"}, 1030.0)
    assert (story.pid, story.level) == (12, 2)
    first = story.first_alarm
    assert first is not None
    assert (first.t_s, first.level, first.scorer) == (30.0, 2, "forest")


def test_only_what_was_freed_counts_as_an_eviction() -> None:
    """An app that was told but had nothing to give made no eviction."""
    story = Story("guarded", 96 * MIB)
    figures = {"hits": 3, "misses": 1, "cache_bytes": 8, "leak_bytes": 9, "evictions": 1, "evicted_bytes": 7}
    story.take_report({"event": "evicted", "t_s": 31.0, "freed_bytes": 7, **figures})
    story.take_report({"event": "evicted", "t_s": 33.0, "freed_bytes": 0, **figures})
    assert story.evictions == [(31.0, 7)]
    assert (story.evicted_bytes, story.cache_hit_ratio) == (7, 0.75)


def test_an_arm_that_never_ran_has_figures_all_the_same() -> None:
    """Nothing divides by what is not there."""
    story = Story("guarded", 96 * MIB)
    assert (story.cache_hit_ratio, story.peak_used_ratio, story.used_bytes, story.level) == (0.0, 0.0, 0.0, 0)


def test_the_lead_is_from_the_first_word_to_the_others_death() -> None:
    """55 s until the kill, the first alarm at 30 s: a lead of 25 s."""
    assert lead_s(unguarded(), guarded()) == 25.0


def test_without_a_kill_or_an_alarm_there_is_no_lead() -> None:
    """Nothing is compared with what did not happen."""
    lives, silent = unguarded(), guarded()
    lives.ended = "exit"
    silent.levels = []
    assert lead_s(lives, guarded()) is None
    assert lead_s(unguarded(), silent) is None


@pytest.mark.parametrize(("first", "second", "expected"), [
    ("oom", "exit", True), ("exit", "exit", False), ("oom", "oom", False), ("oom", "stopped", False),
    ("crash", "exit", False)])
def test_it_is_shown_when_one_was_killed_and_the_other_lived(first: str, second: str, expected: bool) -> None:
    """Anything else than a kill and a survival is a demo that failed."""
    one, other = unguarded(), guarded()
    one.ended, other.ended = first, second
    assert is_shown(one, other) is expected
